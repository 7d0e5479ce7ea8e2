"""Files are on the disk before they take their place: a name that is there after a power cut has its content."""

import os
from pathlib import Path

import numpy as np
import pytest

from pyama_dask import files
from pyama_dask.cells import CellsWriter

OPEN_FILES = Path("/proc/self/fd")


def name_of(descriptor):
    """Path of an open file."""
    return str((OPEN_FILES / str(descriptor)).readlink())


@pytest.fixture
def events(monkeypatch):
    """What is flushed, with whether the final name is there by then."""
    found, sync = [], os.fsync

    def fsync(descriptor):
        found.append(name_of(descriptor))
        sync(descriptor)

    if not OPEN_FILES.exists():
        pytest.skip("this system does not tell the names of open files")
    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_file_is_flushed_with_its_content_before_it_takes_its_place(tmp_path, events, monkeypatch):
    path, seen = tmp_path / "table", []
    path.write_bytes(b"old")
    flush = files.flush
    monkeypatch.setattr(files, "flush", lambda file: (seen.append((file.read_bytes(), path.read_bytes())), flush(file)))
    files.write_bytes(path, b"new")
    assert seen == [(b"new", b"old")]
    assert [name.endswith(files.PARTIAL) for name in events] == [True]
    assert path.read_bytes() == b"new"


def test_what_cannot_be_flushed_does_not_take_the_place(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("disk is gone")

    path = tmp_path / "table"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is gone"):
        files.write_bytes(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("table", b"old")]


@pytest.mark.parametrize("one_call", [True, False])
def test_a_store_of_cells_is_flushed_before_it_takes_its_place(tmp_path, events, monkeypatch, one_call):
    path, flushed = tmp_path / "cells.zarr", []
    if one_call:
        monkeypatch.setattr(files, "_SYNCFS", lambda opened: flushed.append(name_of(opened)))
    else:
        monkeypatch.setattr(files, "_SYNCFS", None)
    with CellsWriter(path) as writer:
        writer.metadata(np.zeros(0), np.zeros((0, 3, 4)), np.zeros((0, 3), bool), {})
        building = next(tmp_path.iterdir())
    assert path.is_dir()
    if one_call:
        assert flushed == [str(building)]
    else:
        inside = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
        assert sorted(events) == sorted(f"{building}/{name}" for name in inside)


def test_a_file_system_that_cannot_be_flushed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SYNCFS", lambda _: -1)
    with pytest.raises(OSError, match=r".*") as raised:
        files.flush_below(tmp_path)
    assert raised.value.filename == str(tmp_path)


@pytest.mark.skipif(files._SYNCFS is None, reason="this system cannot flush a file system in one call")
def test_the_systems_own_call_works(tmp_path):
    files.flush_below(tmp_path)


def test_a_folder_takes_the_place_of_another_when_it_is_whole(tmp_path):
    place = tmp_path / "x"
    for name in ("old", "new"):
        with files.replacing_folder(place) as folder:
            (folder / name).touch()
            assert not (place / name).exists()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["x", "x/new"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    place, rename = tmp_path / "x", Path.rename
    place.mkdir()
    (place / "old").touch()

    def refusing(path, target):
        if (path / "new").exists():
            raise OSError(5, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(OSError, match="no"), files.replacing_folder(place) as folder:
        (folder / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["x", "x/old"]
