"""What is not ours stays: no command touches the files of a user beside and inside an output and its exports."""

import os
import shutil
import signal
from multiprocessing import get_context

import pytest
from support.movies import as_czi, config, file_bytes, listing, write_config
from support.processes import end_of

import pyama_dask
from pyama_dask.errors import OutputError
from pyama_dask.files.manifest import MANIFEST
from pyama_dask.runs import driver
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger

LIKE_OURS = (
    "x.partial", "notes.0123456789.partial", "notes_traces.csv", "mine_fov_000_traces.csv", "c.mine", "c.0.0.0.mine",
    "c.0.0.0.__lock.mine", "crops_mine.npy", "crops_mine_b000.npy", "zarr.json.mine", ".pyama_dask_files.json.mine",
    "keys-mine/key.txt", "fov_007x/zarr.json", "mine/zarr.json", "mine/0/zarr.json", "mine/0/c.0.0.0",
)  # fmt: skip
"""Paths of a user's files that look as much like ours as they can."""
SAMPLES = {"samples": [{"name": "a", "fovs": "0"}, {"name": "b", "fovs": "1"}]}


@pytest.fixture
def movie(tmp_path, small_pixels):
    return as_czi(tmp_path / "lab" / "movie.czi", small_pixels[:, :6]) if (tmp_path / "lab").mkdir() is None else None


def fill(folder, names=LIKE_OURS):
    """Put files of a user into a folder and all folders in it; gives their contents by path."""
    theirs = {}
    for place in (folder, *sorted(path for path in folder.rglob("*") if path.is_dir())):
        for name in names:
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"mine: {path}")
            theirs[path] = path.read_bytes()
    return theirs


@pytest.mark.slow
def test_no_command_touches_files_of_a_user(movie, tmp_path, call, small_pixels):
    output, samples = tmp_path / "lab", tmp_path / "samples.yaml"
    document = config(movie, output, {"params.fovs": "0-1"})
    run_yaml, samples_yaml = write_config(tmp_path / "run.yaml", document), write_config(samples, SAMPLES)
    theirs = fill(output, [name for name in LIKE_OURS if not name.startswith("fov_000")])

    def does(*arguments, status=0):
        found, out, error = call(*arguments)
        assert found == status, (arguments, out, error)
        assert {path: path.read_bytes() if path.exists() else None for path in theirs} == theirs, arguments
        return out

    does("run", run_yaml, status=2)
    does("run", run_yaml, "--into")
    table = f"{output}/merged/a_intensity_total_ch_1.csv"
    after = [
        ["merge", output, samples_yaml], ["fit", table, "--model", "maturation", "--cluster", "serial"],
        ["plot", f"{output}/merged/a_intensity_total_ch_1_fitted_maturation.csv"], ["inspect-traces", output],
        ["report", output], ["report", output, "--fov", 1],
        *(["export", output, "--to", to, "--samples", samples_yaml] for to in ("parquet", "csv-wide", "geff", "ctc")),
    ]  # fmt: skip
    for arguments in after:
        does(*arguments)
    theirs |= fill(output)
    traces = pyama_dask.open_output(output).traces()
    assert set(traces["fov"]) == {0, 1}
    changes = (
        [], ["--force", "segment"], ["--set", "params.crop_padding=2"], ["--set", "params.frames=0-4"],
        ["--set", "channels.fl=[]"], ["--set", "storage.cells=zip"], ["--set", "storage.display=off"], [],
    )  # fmt: skip
    for change in changes:
        does("run", run_yaml, *change)
    for arguments in (["status", output], ["verify", output], *after):
        does(*arguments)
    does("doctor", run_yaml)
    does("demo", output, status=2)
    does("init", movie, "-o", run_yaml, status=2)
    as_czi(movie, small_pixels[:, :8])
    does("run", run_yaml, "--extend")
    assert pyama_dask.open_output(output)[0].channels == pyama_dask.open_output(output)[1].channels


def test_a_folder_with_other_files_is_refused_with_their_names(small_czi, tmp_path):
    output = tmp_path / "results"
    (output / ".pyama_dask").mkdir(parents=True)
    (output / ".pyama_dask" / "lock").write_text("{}")  # of a run that was killed before its first record
    os.utime(output / ".pyama_dask" / "lock", (0, 0))
    (output / "thesis.tex").write_text("mine")
    before = file_bytes(output, set())
    with pytest.raises(OutputError, match=r"holds other files: thesis\.tex\. Fix: choose .* with --into"):
        pyama_dask.run(config(small_czi, output))
    (output / "fov_000").mkdir()
    with pytest.raises(OutputError, match="holds results that are not recorded"):
        pyama_dask.run(config(small_czi, output), into=True)
    (output / "fov_000").rmdir()
    assert file_bytes(output, set()) == before
    (output / "thesis.tex").unlink()
    assert pyama_dask.run(config(small_czi, output, {"params.fovs": "0"})).exit_status == 0
    (output / "fov_001" / "images.zarr" / "pc_ch_0").mkdir(parents=True)
    said = r"fov_001/images\.zarr.*: was not written by a run, or .* lost the line.* Fix: move it"
    with pytest.raises(OutputError, match=said):
        pyama_dask.run(config(small_czi, output))


def killed_when_prepared(document):
    """Run, and die when the first FOV is prepared."""

    def die_prepared(todo, *_, prepare, **__):
        prepare(todo.fovs[0])
        os.kill(os.getpid(), signal.SIGKILL)

    driver.execute = die_prepared
    pyama_dask.run(document)


def test_what_a_killed_run_has_begun_is_ours(small_czi, tmp_path):
    output = tmp_path / "results"
    process = get_context("spawn").Process(target=killed_when_prepared, args=(config(small_czi, output),))
    process.start()
    assert end_of(process, 60) == -signal.SIGKILL
    assert (output / "fov_000" / "images.zarr" / "fl_ch_1").is_dir()
    assert "fov_000/movie_fov_000_traces.csv" in Ledger(output / LEDGER).claimed("fov_000")
    assert pyama_dask.run(config(small_czi, output, {"channels.fl": []})).exit_status == 0
    assert not (output / "fov_000" / "images.zarr" / "fl_ch_1").exists()


def test_what_a_killed_run_was_writing_goes_with_an_array_that_is_no_longer_wanted(small_czi, copied):
    level = copied / "fov_000/images.zarr/seg_tracked_ch_0/1"
    (level / "zarr.json.0123456789ab.partial").touch()
    pyama_dask.run(config(small_czi, copied, {"storage.display": "off", "params.crop_padding": 1}))
    assert not level.exists()


def test_an_output_of_before_names_were_claimed_goes_on(small_czi, copied):
    ledger = copied / LEDGER
    ledger.write_bytes(
        b"".join(line for line in ledger.read_bytes().splitlines(True) if not line.startswith(b'{"claim"'))
    )
    shutil.rmtree(copied / "fov_001" / "cells.zarr")
    report = pyama_dask.run(config(small_czi, copied, {"params.crop_padding": 1}))
    assert report.exit_status == 0
    assert "fov_000/cells.zarr" in Ledger(ledger).claimed("fov_000")


def test_long_names_of_movies(small_czi, tmp_path):
    movie = tmp_path / ("é" * 125 + ".czi")
    movie.symlink_to(small_czi)
    output = tmp_path / "results"
    assert pyama_dask.run(config(movie, output, {"params.fovs": "0"})).exit_status == 0
    (traces,) = (output / "fov_000").glob("*_fov_000_traces.csv")
    assert len(os.fsencode(traces.name)) <= 255 - 21
    assert len(pyama_dask.open_output(output).traces()) > 0
    deep = tmp_path.joinpath(*["x" * 200] * 20)
    with pytest.raises(OutputError, match="choose a folder with a shorter path"):
        pyama_dask.run(config(small_czi, deep))
    assert not (tmp_path / ("x" * 200)).exists()
    assert MANIFEST not in listing(output)
