"""Files are on the disk before they take their place: a name that is there after a power cut has its content."""

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from support.movies import config, differences, products

import pyama_dask
from pyama_dask.errors import AlgorithmError, OutputError, StoreError
from pyama_dask.files import atomic
from pyama_dask.store.crops import CellsWriter

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
    flush = atomic.flush
    monkeypatch.setattr(
        atomic, "flush", lambda file: (seen.append((file.read_bytes(), path.read_bytes())), flush(file))
    )
    atomic.write_bytes(path, b"new")
    assert seen == [(b"new", b"old")]
    assert [name.endswith(atomic.PARTIAL) for name in events] == [True]
    assert path.read_bytes() == b"new"


def test_what_cannot_be_flushed_does_not_take_the_place(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("disk is gone")

    path = tmp_path / "table"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is gone"):
        atomic.write_bytes(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("table", b"old")]


def test_a_file_gets_a_second_name_again_and_again(tmp_path):
    file, second = tmp_path / "file", tmp_path / "folder" / "second"
    for content in (b"old", b"new"):
        atomic.write_bytes(file, content)
        for _ in range(2):
            assert atomic.give_second_name(file, second)
            assert second.samefile(file)
            assert second.read_bytes() == content
    assert [path.name for path in (*tmp_path.iterdir(), *second.parent.iterdir())].count("second") == 1
    assert len([*second.parent.iterdir()]) == 1


@pytest.mark.parametrize(("error", "is_copied"), [(errno.EPERM, True), (errno.EXDEV, True), (errno.ENOSPC, False)])
def test_a_file_that_gets_no_second_name_is_copied(tmp_path, monkeypatch, error, is_copied):
    def refused(*_):
        raise OSError(error, os.strerror(error))

    file, second = tmp_path / "file", tmp_path / "second"
    file.write_bytes(b"content")
    monkeypatch.setattr(os, "link", refused)
    if is_copied:
        assert not atomic.give_second_name(file, second)
        assert second.read_bytes() == b"content"
    else:
        with pytest.raises(OSError, match="No space"):
            atomic.give_second_name(file, second)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("one_call", [True, False])
def test_a_store_of_cells_is_flushed_before_it_takes_its_place(tmp_path, events, monkeypatch, one_call):
    path, flushed = tmp_path / "cells.zarr", []
    if one_call:
        monkeypatch.setattr(atomic, "_SYNCFS", lambda opened: flushed.append(name_of(opened)))
    else:
        monkeypatch.setattr(atomic, "_SYNCFS", None)
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
    monkeypatch.setattr(atomic, "_SYNCFS", lambda _: -1)
    with pytest.raises(OSError, match=r".*") as raised:
        atomic.flush_below(tmp_path)
    assert raised.value.filename == str(tmp_path)


@pytest.mark.skipif(atomic._SYNCFS is None, reason="this system cannot flush a file system in one call")
def test_the_systems_own_call_works(tmp_path):
    atomic.flush_below(tmp_path)


def test_long_names_are_shortened_while_they_are_written_and_refused_where_nothing_takes_them(tmp_path, monkeypatch):
    longest = "é" * 125 + ".yaml"
    atomic.write_bytes(tmp_path / longest, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [longest]
    short = atomic.shortened("ab" * 90, 100)
    assert (len(short), short[:80], short != atomic.shortened("ab" * 91, 100)) == (100, "ab" * 40, True)
    atomic.check_names(tmp_path / "not" / "there", [longest, f"x/{longest}"])
    for name, said in (
        (longest + "x", "has 256 bytes, but the file system"),
        ("x/" * 2100, "choose a folder with a shorter"),
    ):
        with pytest.raises(OutputError, match=said):
            atomic.check_names(tmp_path, ["ordinary", name])
    with pytest.raises(OutputError, match="use a shorter name"):
        atomic.check_names(tmp_path / ("x" * 300), ["ordinary"])
    monkeypatch.setattr(os, "pathconf", lambda path, name: {"PC_NAME_MAX": 143, "PC_PATH_MAX": 4096}[name])
    with pytest.raises(OutputError, match="takes 143"):  # an encrypted disk
        atomic.check_names(tmp_path, [longest])


def test_a_change_anywhere_in_a_large_table_is_seen(tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes(bytes(8 * 2**20))
    now, older = atomic.content_digest(table), atomic.identity(table)
    assert atomic.has_content(table, now)
    assert atomic.has_content(table, older)
    with table.open("r+b") as file:
        file.seek(100_000)
        file.write(b"1")
    assert not atomic.has_content(table, now)


# ------------------------------------------------------------------------------------ disks that take no more


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "out: cannot be written to any more: No space left on device"),
        (OSError(errno.EFBIG, "large", "/data/out/a"), "out: cannot be written to any more: File too large"),
        (OSError(errno.EDQUOT, "much", "/tmp/cache"), "/tmp/cache: cannot be written to any more: Disk quota exceeded"),
        (caused(StoreError("a: cannot be written"), OSError(errno.EROFS, "")), "out: .*Read-only file system"),
        (caused(ValueError("writing handle"), OSError(errno.ENOSPC, "full")), "out: .*No space left"),
        (caused(AlgorithmError("method"), OSError(errno.ENOSPC, "full", "/var/x")), "/var/x: .*No space left"),
        (OSError(errno.EROFS, "read-only", "c.0.0.0"), "^/data/out: .*Read-only file system"),  # named by `rmtree`
        (FileNotFoundError(errno.ENOENT, "gone"), None),
        (ValueError("28"), None),
    ],
)
def test_a_disk_that_takes_no_more_is_told_from_all_else(error, said):
    found = atomic.disk_error(error, Path("/data/out"))
    if said is None:
        assert found is None
    else:
        with pytest.raises(atomic.DiskError, match=said):
            raise found


@pytest.mark.parametrize("error", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("no answer")])
def test_errors_of_the_network_are_not_taken_for_those_of_a_file(error):
    with pytest.raises(OSError, match=r"refused|no answer") as raised, atomic.writable(Path("/data/out")):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("cells", ["directory", "zip"])
def test_a_limit_on_the_size_of_files_ends_the_run_and_fails_no_fov(small_czi, finished, tmp_path, cells):
    """It stands for a full disk, which needs one that may be filled: shards, parts of crops, and cells reach it."""
    settings = config(small_czi, tmp_path / "out", {"storage": {"cells": cells}})
    largest = max(file.stat().st_size for file in finished.rglob("*") if file.is_file())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for share in (0.05, 0.2, 0.6, 0.95):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), before[1]))
        try:
            report = pyama_dask.run(settings)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "out: cannot be written to any more: File too large" in report.stopped
        assert [fov.status for fov in report.fovs if fov.status == "failed"] == []
        assert report.exit_status == 4
        assert not [*(tmp_path / "out").glob("fov_*/cells*.partial")]
    assert pyama_dask.run(settings).exit_status == 0
    if cells == "directory":
        assert differences(products(tmp_path / "out"), products(finished)) == []
