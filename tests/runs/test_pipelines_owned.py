"""Files of pipelines in an output: whose they are, when they go, and how they are repaired and extended."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import steps
from support.ledgers import recorded
from support.movies import as_czi, as_nd2, config, differences, file_bytes, pixels, products, put_in_wells

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import OutputError
from pyama_dask.runs.calibrate import calibrate
from pyama_dask.runs.output_dir import graph_of_output
from pyama_dask.runs.source_check import check_movie, read_again
from pyama_dask.runs.status import LEDGER, read_status
from pyama_dask.runs.verify import verify_output
from pyama_dask.store.ledger import Ledger

KEPT = {"params.tracking_params": {"min_frames": 2, "border_margin": 0}, "storage.block_frames": 2}
MINE = Path(steps.__file__).read_text()


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=3, frames=4, shape=(90, 110), cells=2)


@pytest.fixture(scope="module")
def plate(tmp_path_factory, data):
    return put_in_wells(as_czi(tmp_path_factory.mktemp("owned") / "plate.czi", data), ["A1", "A1", "A2"])


def pipelines(mine, **mean):
    """A checkpoint with a halo before the seven, and tables of FOVs and wells after them."""
    return [
        {"name": "prepare", "steps": [
            {"do": f"{mine}:mean_of_three", "channels": ["GFP"], "halo": 1, "checkpoint": True, **mean}]},
        {"name": "cells", "input": "prepare", "steps": "seven"},
        {"name": "more", "input": "cells", "steps": [
            {"do": f"{mine}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"},
            {"do": f"{mine}:cells_of_well", "to": "cells"}]},
    ]  # fmt: skip


def document(plate, folder, output="out", **changes):
    mine = folder / "mine.py"
    mine.write_text(MINE)
    return config(plate, folder / output, KEPT | {"pipelines": pipelines(mine)} | changes)


def run(*given, **options):
    return pyama_dask.run(*given, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, plate):
    folder = tmp_path_factory.mktemp("finished")
    of = document(plate, folder)
    assert run(of).exit_status == 0
    return of, folder / "out"


@pytest.mark.parametrize(
    "name", ["fov_000/prepare.zarr", "fov_000/plate_fov_000_more_light.csv", "wells/plate_A1_more_cells.csv"]
)
def test_files_of_a_user_are_never_overwritten(plate, tmp_path, name):
    theirs = tmp_path / "out" / name
    of = document(plate, tmp_path, **{"params.copy_only": False})
    run(of | {"pipelines": []}, steps=["copy"])
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("mine")
    with pytest.raises(OutputError, match="was not written by a run"):
        run(of)
    assert theirs.read_text() == "mine"


def test_a_table_of_a_well_goes_with_what_it_is_made_from(finished, tmp_path):
    of, out = finished
    before = file_bytes(out)
    table = out / "wells/plate_A1_more_cells.csv"
    other = json.loads(json.dumps(of))
    other["pipelines"][2]["steps"][1]["to"] = "counts"
    assert run(other).exit_status == 0
    assert not table.exists()
    assert (out / "wells/plate_A1_more_counts.csv").read_bytes() == before["wells/plate_A1_more_cells.csv"]
    (out / "wells/notes.csv").write_text("mine")
    segmented = other | {"params": other["params"] | {"segmentation_params": {"morph_iterations": 2}}}
    assert run(segmented, steps=["copy", "prepare.mean_of_three", "segment"]).exit_status in (0, 3)
    assert sorted(path.name for path in (out / "wells").iterdir()) == ["notes.csv"]
    assert run(of).exit_status == 0
    (out / "wells/notes.csv").unlink()
    assert file_bytes(out) == before


@pytest.mark.parametrize("what", ["fov_001/prepare.zarr/*/0/c.1.0.0", "fov_001/*_more_light.csv", "wells/*_A1_*.csv"])
def test_a_flipped_byte_is_found_and_mended(finished, what):
    of, out = finished
    before = file_bytes(out)
    (file,) = out.glob(what)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (fault,) = verify_output(out, deep=True).faults
    assert fault.path == file.relative_to(out).as_posix()
    report = run(of)
    assert report.exit_status == 0
    assert file_bytes(out) == before
    assert verify_output(out, deep=True).is_good


def test_readers_of_an_output_need_no_code_of_the_user(finished, tmp_path):
    of, out = finished
    mine = Path(of["pipelines"][0]["steps"][0]["do"].rpartition(":")[0])
    content = mine.read_bytes()
    mine.unlink()
    try:
        assert {fov["status"] for fov in read_status(out)["fovs"]} == {"done"}
        found = verify_output(out, deep=True, source=True)
        assert found.is_good
        assert found.movie.frames == 12
        assert len(pyama_dask.open_output(out).traces())
    finally:
        mine.write_bytes(content)


def looking_beside(given):
    """Pipelines with more steps that look at neighbouring frames: one after copying, and rows of a table."""
    prepare, cells, more = given
    mine = prepare["steps"][0]["do"].rpartition(":")[0]
    mean = {"do": f"{mine}:mean_of_three", "channels": ["GFP"], "halo": 1}
    rows = {"do": f"{mine}:stack_light", "of": ["Phase"], "halo": 1, "to": "stacks"}
    steps = ["copy", mean, "segment", "track", "background", "crop", "extract", "cache"]
    return [prepare, cells | {"steps": steps}, more | {"steps": [*more["steps"], rows]}]


def test_added_frames_redo_what_looks_at_them(tmp_path, data):
    wells = ["A1", "A1", "A2"]
    movie = put_in_wells(as_czi(tmp_path / "plate.czi", data[:, :3]), wells)
    changes = {"storage.block_frames": 1, "pipelines": looking_beside(document(movie, tmp_path)["pipelines"])}
    of = document(movie, tmp_path, **changes)
    assert run(of).exit_status == 0
    lines = len((tmp_path / "out" / LEDGER).read_bytes().splitlines())
    movie.unlink()
    put_in_wells(as_czi(movie, data), wells)
    assert run(of, extend=True).exit_status == 0
    added = [json.loads(line) for line in (tmp_path / "out" / LEDGER).read_bytes().splitlines()[lines:]]
    ingested = {
        line["done"]["key"] for line in added if "done" in line and line["done"]["key"].startswith("ingest-fov000")
    }
    assert ingested == {"ingest-fov000-b001", "ingest-fov000-b002", "ingest-fov000-b003"}
    assert run(document(movie, tmp_path, "fresh", **changes)).exit_status == 0
    assert differences(products(tmp_path / "out"), products(tmp_path / "fresh")) == []


def test_the_movie_is_compared_without_the_seven_and_with_all_planes(tmp_path):
    data = np.random.default_rng(1).integers(90, 140, (1, 4, 2, 3, 24, 32)).astype(np.uint16)
    movie = as_nd2(tmp_path / "planes.nd2", data, z_step_um=1.0)
    own = [{"name": "own", "steps": [{"do": "max_projection", "over": "z"}]}]
    of = config(movie, tmp_path / "out", {"pipelines": own, "params.z": "all", "storage.block_frames": 2})
    assert run(of).exit_status == 0
    found = verify_output(tmp_path / "out", source=True).movie
    assert (found.is_good, found.frames) == (True, 4)
    stored = file_bytes(tmp_path / "out")
    with Ledger(tmp_path / "out" / LEDGER) as ledger:
        (key,) = (key for key, read in recorded(ledger, "frames_read").items() if read and key.endswith("b001"))
        recorded(ledger, "frames_read")[key][0] ^= 1
        assert [fault.frame for fault in check_movie(tmp_path / "out", ledger).faults] == [2]
        read_again(ledger, check_movie(tmp_path / "out", ledger).to_read_again, graph_of_output(tmp_path / "out"))
    assert run(of).tasks == 2
    assert file_bytes(tmp_path / "out") == stored
    other = as_nd2(tmp_path / "other.nd2", np.concatenate([data + np.uint16(1), data], axis=1), z_step_um=1.0)
    other.replace(movie)
    with pytest.raises(OutputError, match="FOV 0, frame 0 has other pixels"):
        run(of, extend=True)


def test_pipelines_without_the_seven_are_calibrated(plate, tmp_path):
    own = [{"name": "own", "steps": [{"do": "gaussian", "channels": ["GFP"]}]}]
    document = config(plate, tmp_path / "out", {"pipelines": own, "storage.block_frames": 2})
    _, measured = calibrate(parse_config(document))
    assert min(measured.seconds.values()) > 0
