"""Looks of a FOV's groups: from what a run has recorded, in outputs of older versions, too."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.movies import config, data_files, times_of_change

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.files.checksums import checksum_of
from pyama_dask.readers import read_metadata
from pyama_dask.runs.looks import looks
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.store import intermediate
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import WORK


def windows(output):
    return intermediate.load(output / WORK / "fov_000" / "windows.npz")


def ome(output, group):
    return json.loads((output / "fov_000/images.zarr" / group / "zarr.json").read_text())["attributes"]["ome"]


def test_images_are_shown_as_their_display_level_is_and_kept_cells_have_colours(finished):
    for group, window in windows(finished).items():
        (channel,) = ome(finished, group)["omero"]["channels"]
        assert [channel["window"]["start"], channel["window"]["end"]] == pytest.approx(window.tolist())
    names = {g: ome(finished, g)["omero"]["channels"][0]["label"] for g in ("pc_ch_0", "fl_ch_1", "fl_background_ch_1")}
    assert names == {"pc_ch_0": "Phase", "fl_ch_1": "GFP", "fl_background_ch_1": "GFP background"}
    fov = pyama_dask.open_output(finished)[0]
    labels = [one["label-value"] for one in ome(finished, "seg_tracked_ch_0")["image-label"]["colors"]]
    assert labels == list(fov.cells)
    largest = int(fov.image("seg_labeled_ch_0").data.max())
    labels = [one["label-value"] for one in ome(finished, "seg_labeled_ch_0")["image-label"]["colors"]]
    assert labels == list(range(1, largest + 1))


@pytest.mark.parametrize("damage", ["missing", "torn", "not numbers", "of one level"])
def test_grey_levels_that_cannot_be_used_are_left_out(small_czi, copied, damage):
    file = copied / WORK / "fov_000" / "windows.npz"
    other = {"not numbers": [np.nan, np.nan], "of one level": [7.0, 7.0]}.get(damage)
    if other is not None:
        intermediate.save(file, pc_ch_0=np.array(other))
    else:
        file.write_bytes(file.read_bytes()[:100]) if damage == "torn" else file.unlink()
    plan, _ = plan_run(parse_config(config(small_czi, copied)))
    assert looks(plan.job, read_metadata(small_czi), Ledger(copied / LEDGER), 0).keys() == {
        "seg_labeled_ch_0",
        "seg_tracked_ch_0",
    }


def test_grey_levels_of_earlier_settings_are_not_taken(small_czi, copied):
    plan, _ = plan_run(parse_config(config(small_czi, copied, {"storage.display": "off"})))
    found = looks(plan.job, read_metadata(small_czi), Ledger(copied / LEDGER), 0)
    assert found.keys() == {"seg_labeled_ch_0", "seg_tracked_ch_0"}
    plan, _ = plan_run(parse_config(config(small_czi, copied, {"params.copy_only": True})))
    found = looks(plan.job, read_metadata(small_czi), Ledger(copied / LEDGER), 0)
    assert not any(name.startswith("seg_") for name in found)


def test_documents_of_an_older_version_are_written_again_and_nothing_else_is(small_czi, finished, copied):
    stores, before = [*copied.glob("fov_*/images.zarr")], {}
    for path in (path for store in stores for path in store.glob("*/zarr.json")):
        document = json.loads(path.read_text())
        del document["consolidated_metadata"], document["attributes"]["ome"]["omero"]
        path.write_text(json.dumps(document, indent=1))
        before[path.relative_to(copied).as_posix()] = checksum_of(path.read_bytes())
    for path in (store.parent / "zarr.json" for store in stores):
        path.unlink()
        before[path.relative_to(copied).as_posix()] = None
    with Ledger(copied / LEDGER) as ledger:
        ledger.writes(before)
    written = {path: times_of_change(path) for store in stores for path in data_files(store)}
    report = pyama_dask.run(config(small_czi, copied))
    assert (report.exit_status, report.tasks, report.warnings) == (0, 0, ())
    assert {path: times_of_change(path) for path in written} == written
    for name in before:
        assert (copied / name).read_bytes() == (finished / name).read_bytes()
    assert all(Path(store, "pc_ch_0", "zarr.json").exists() for store in stores)
