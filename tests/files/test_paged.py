"""Files past the page cache: the same bytes with and without it, and on file systems that refuse it at any moment."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest

from pyama_dask.files import paged
from pyama_dask.files.checksums import checksum
from pyama_dask.files.paged import BUFFER, PAGE, AppendedFile, PagedFile, direct_works, file_system

DIRECT = pytest.mark.parametrize("direct", [False, True])
LENGTHS = [0, 1, PAGE, PAGE + 1, BUFFER - 1, BUFFER, BUFFER + PAGE, 2 * BUFFER + 7]


def noise(length):
    return np.random.default_rng(length).bytes(length)


def written(path, content, *, direct, piece=300_001):
    file = AppendedFile(path, direct=direct)
    for start in range(0, len(content), piece):
        file.append(content[start : start + piece])
    return file.finish()


def read(path, *, direct):
    file = PagedFile(path, direct=direct)
    try:
        return bytes(file.read(0, file.size)), file.checksum()
    finally:
        file.close()


def refusing(monkeypatch, name, error, *, after=0):
    """Have a call of the system fail for descriptors that are open for direct transfers."""
    call, calls = getattr(os, name), []

    def refuse(file, *given):
        import fcntl

        is_direct = given[0] & os.O_DIRECT if name == "open" else fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT
        calls.append(name)
        if is_direct and len(calls) > after:
            if name == "open":  # Linux has made the file by then
                os.close(call(file, given[0] & ~os.O_DIRECT, *given[1:]))
            raise OSError(error, os.strerror(error))
        return call(file, *given)

    monkeypatch.setattr(paged.os, name, refuse)


class TestBytes:
    @DIRECT
    @pytest.mark.parametrize("length", LENGTHS)
    def test_what_is_written_is_read_with_its_checksum(self, tmp_path, length, direct):
        path, content = tmp_path / "a", noise(length)
        recorded = written(path, content, direct=direct)
        assert path.read_bytes() == content
        assert [*tmp_path.iterdir()] == [path]
        assert recorded == checksum(path)
        assert read(path, direct=direct) == (content, recorded)

    @DIRECT
    def test_pieces_that_were_announced_or_not_are_right(self, tmp_path, direct):
        path, content = tmp_path / "a", noise(5 * PAGE + 100)
        written(path, content, direct=direct)
        file = PagedFile(path, direct=direct)
        asked = [(10, 500), (510, 5000), (4096, 1), (0, 20), (len(content) - 30, 30), (5000, 9000)]
        for k, (at, length) in enumerate(asked):
            then = asked[k + 1] if k + 1 < len(asked) and k % 2 else (77, 99)
            assert file.read(at, length, then=then) == content[at : at + length]
        assert file.checksum() == checksum(path)
        with pytest.raises(EOFError, match="it ends after"):
            file.read(len(content) - 3, 4)
        file.close()

    @DIRECT
    def test_a_file_that_is_given_up_leaves_what_was_there(self, tmp_path, direct):
        path = tmp_path / "a"
        path.write_text("old")
        file = AppendedFile(path, direct=direct)
        file.append(noise(2 * BUFFER))
        file.drop()
        assert path.read_text() == "old"
        assert [*tmp_path.iterdir()] == [path]

    @DIRECT
    def test_a_file_that_cannot_get_its_place_is_removed(self, tmp_path, direct):
        (tmp_path / "a" / "b").mkdir(parents=True)
        file = AppendedFile(tmp_path / "a", direct=direct)
        file.append(noise(10))
        with pytest.raises(OSError, match="directory"):
            file.finish()
        file.drop()
        assert [*tmp_path.iterdir()] == [tmp_path / "a"]

    def test_what_is_no_file_is_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in ("pipe", ".", "gone"):
            with pytest.raises(OSError, match=r"directory|Is a pipe"):
                PagedFile(tmp_path / name, direct=False)

    def test_forked_processes_write_with_threads_of_their_own(self, tmp_path):
        content = noise(3 * BUFFER)
        written(tmp_path / "a", content, direct=True)
        if not (child := os.fork()):
            written(tmp_path / "b", content, direct=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (tmp_path / "b").read_bytes() == content


class TestRefusals:
    @pytest.mark.parametrize(("name", "after"), [("open", 0), ("pwrite", 0), ("pwrite", 1), ("preadv", 0)])
    def test_a_file_system_without_direct_transfer_gets_and_gives_the_same_bytes(
        self, tmp_path, monkeypatch, name, after
    ):
        content = noise(3 * BUFFER + 5)
        refusing(monkeypatch, name, errno.EINVAL, after=after)
        recorded = written(tmp_path / "a", content, direct=True)
        assert read(tmp_path / "a", direct=True) == (content, recorded)
        assert recorded == checksum(tmp_path / "a")

    @DIRECT
    @pytest.mark.parametrize("full", [0, 1, 3])
    def test_a_full_disk_is_an_error_and_leaves_nothing(self, tmp_path, monkeypatch, direct, full):
        write, calls = os.pwrite, []

        def fills(file, view, at):
            calls.append(at)
            if len(calls) > full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, view, at)

        monkeypatch.setattr(paged.os, "pwrite", fills)
        file = AppendedFile(tmp_path / "a", direct=direct)

        def write_all():
            for _ in range(4):
                file.append(noise(BUFFER))
            file.finish()

        with pytest.raises(OSError, match="No space left"):
            write_all()
        file.drop()
        assert not [*tmp_path.iterdir()]

    @DIRECT
    def test_after_a_write_that_failed_it_takes_no_more_and_is_never_complete(self, tmp_path, monkeypatch, direct):
        write, calls = os.pwrite, []

        def fails_once(file, view, at):
            calls.append(at)
            if len(calls) == 1:
                raise OSError(errno.EIO, "Input/output error")
            return write(file, view, at)

        monkeypatch.setattr(paged.os, "pwrite", fails_once)
        file = AppendedFile(tmp_path / "a", direct=direct)
        file.append(noise(BUFFER))
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                file.append(noise(BUFFER))
        with pytest.raises(OSError, match="Input/output error"):
            file.finish()
        file.drop()
        assert (calls, [*tmp_path.iterdir()]) == ([0], [])

    def test_a_write_that_is_cut_short_in_a_page_is_completed(self, tmp_path, monkeypatch):
        write, content = os.pwrite, noise(BUFFER + 3)
        monkeypatch.setattr(
            paged.os, "pwrite", lambda file, view, at: write(file, view[:3000] if at == 0 else view, at)
        )
        recorded = written(tmp_path / "a", content, direct=False)
        assert read(tmp_path / "a", direct=False) == (content, recorded)


class TestTrial:
    def test_it_is_tried_and_leaves_nothing(self, tmp_path):
        assert isinstance(direct_works(tmp_path, anywhere=True), bool)
        assert not [*tmp_path.iterdir()]

    @pytest.mark.parametrize(("kind", "anywhere", "tried"), [("ext4", False, 1), ("nfs4", False, 0), ("nfs4", True, 1)])
    def test_network_disks_only_if_asked(self, tmp_path, monkeypatch, kind, anywhere, tried):
        partitions = [
            SimpleNamespace(mountpoint="/", fstype="tmpfs"),
            SimpleNamespace(mountpoint=str(tmp_path), fstype=kind),
        ]
        monkeypatch.setattr(paged.psutil, "disk_partitions", lambda **_: partitions)
        opened, calls = os.open, []
        monkeypatch.setattr(paged.os, "open", lambda *given: (calls.append(given), opened(*given))[1])
        (tmp_path / "out").mkdir()
        assert file_system(tmp_path / "out") == kind
        direct_works(tmp_path / "out", anywhere=anywhere)
        assert len(calls) == tried

    @pytest.mark.parametrize("name", ["open", "pwrite", "preadv"])
    def test_a_refusal_is_no_error(self, tmp_path, monkeypatch, name):
        refusing(monkeypatch, name, errno.EINVAL)
        assert direct_works(tmp_path, anywhere=True) is False
        assert not [*tmp_path.iterdir()]


def test_without_memory_for_its_buffer_no_file_is_left(tmp_path, monkeypatch):
    def full(size):
        raise MemoryError(size)

    monkeypatch.setattr(paged, "_take", full)
    with pytest.raises(MemoryError):
        AppendedFile(tmp_path / "file", direct=False)
    assert not list(tmp_path.iterdir())


def test_memory_that_waits_for_files_has_a_bound_in_bytes(monkeypatch):
    monkeypatch.setattr(paged, "_spare", [])
    for buffer in [paged._take(3 * paged.SPARE // 8) for _ in range(5)]:
        paged._give_back(buffer)
    assert sum(map(len, paged._spare)) == 3 * paged.SPARE // 8 * 2
    paged._give_back(paged._take(2 * paged.SPARE))  # more than all others together
    assert paged._spare == []
