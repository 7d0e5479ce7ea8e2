"""Records of a FOV know its names and files by the lines of the ledger, in whatever order one asks for them."""

import pytest

from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Receipt

CLAIMED = {"fov_000/images.zarr", "fov_000/images.zarr/pc_ch_0"}
KEY, LAST = "ingest-fov000-b000", "gather-fov001"
SHARD, TABLE, OF_WELL = "fov_000/images.zarr/pc_ch_0/0/c.0.0.0", "fov_001/traces.csv", "wells/A1.csv"


def receipt(key, files):
    return Receipt(key, dict.fromkeys(files, "d1"), {step: {path: (1, 2)} for step, path in files.items()}, 0, 0, 0, 0)


@pytest.fixture(params=["while it is written", "opened again"])
def ledger(request, tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        held = [ledger.of_fov(fov) for fov in (0, 1)]
        ledger.claim([*CLAIMED, "fov_001/images.zarr", "wells"])
        ledger.record(receipt(KEY, {"copy": SHARD}), receipt(LAST, {"extract": TABLE, "more.spots": OF_WELL}))
        ledger.void({KEY: ["copy"]})
        ledger.writes({"fov_001/images.zarr/zarr.json": (3, 4)})
        assert len(held) == 2
        yield ledger if request.param == "while it is written" else Ledger(path)


def test_names_are_those_of_claims_files_and_documents_also_of_steps_that_are_void(ledger):
    assert ledger.claimed("fov_000") == CLAIMED | {"fov_000/images.zarr/pc_ch_0/0"}
    assert ledger.claimed("fov_001") == {"fov_001/images.zarr", TABLE}
    assert ledger.claimed("wells") == {"wells", OF_WELL}


def test_claims_are_the_names_for_which_no_receipt_is_read(ledger):
    assert ledger.claims(0) == CLAIMED
    assert ledger.claims(1) == {"fov_001/images.zarr"}
    assert ledger.claims(2) == set()


def test_steps_are_all_that_receipts_name(ledger):
    assert ledger.steps == {"copy", "extract", "more.spots"}
