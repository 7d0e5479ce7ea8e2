"""A movie that changes while a run reads it fails as input, and never becomes a mix of two movies."""

import os
import re
import shutil
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import zarr
from support.ledgers import recorded
from support.movies import as_czi, as_nd2, config, differences, products

import pyama_dask
from pyama_dask.errors import CancelledError, OutputError, SourceError
from pyama_dask.files import atomic
from pyama_dask.readers import State, content, shared, take_snapshot
from pyama_dask.readers.registry import find_places
from pyama_dask.readers.shared import FileSnapshot
from pyama_dask.runs import driver
from pyama_dask.runs.status import LEDGER, read_status
from pyama_dask.runs.verify import verify_output
from pyama_dask.steps import copy_frames
from pyama_dask.steps.copy_frames import Copy
from pyama_dask.store.ledger import Ledger


@pytest.fixture(scope="module")
def data():
    """(FOV, frame, channel, H, W) of noise: in these tests pixels are only copied."""
    return np.random.default_rng(3).integers(0, 4000, (2, 6, 2, 64, 64)).astype(np.uint16)


@pytest.fixture(params=[as_czi, as_nd2], ids=["czi", "nd2"])
def movie(request, tmp_path, data):
    """A movie, and beside it another one of the same size that was written later."""
    suffix = "czi" if request.param is as_czi else "nd2"
    path = request.param(tmp_path / f"movie.{suffix}", data)
    request.param(other(path), data[:, ::-1])
    earlier = path.stat().st_mtime_ns - 10**10
    os.utime(path, ns=(earlier, earlier))
    return path


def other(path):
    return path.with_name(f"other{path.suffix}")


def copied(movie, output, **changes):
    document = config(movie, output, {"params.copy_only": True, "storage.block_frames": 2, "cluster.retries": 1})
    return pyama_dask.run(document, **changes)


# ---------------------------------------------------------------------------------------------- ways to change


def replaced(path):
    other(path).replace(path)


def overwritten(path):
    with path.open("r+b") as file:
        file.write(other(path).read_bytes())


def cut_off(path):
    os.truncate(path, path.stat().st_size // 2)


def deleted(path):
    path.unlink()


def replaced_and_put_back(path):
    aside = path.with_name("aside")
    path.rename(aside)
    shutil.copyfile(other(path), path)
    aside.replace(path)


def touched(path):
    os.utime(path)


def grown_over(path):
    overwritten(path)
    grown(path)


def one_byte(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\x55")


def grown(path):
    with path.open("ab") as file:
        file.write(bytes(5000))


def repointed(link):
    link.unlink()
    link.symlink_to(other(link.with_name(f"movie{link.suffix}")))


class Moments:
    """Changes a movie when the run reaches a frame: before it is read, or after the last one."""

    def __init__(self, monkeypatch, path):
        self.path, self.patch, self.read = path, monkeypatch, 0

    def at(self, frame, change):
        read_planes = copy_frames.read_planes

        def reading(*arguments):
            if self.read == frame:
                change(self.path)
            self.read += 1
            return read_planes(*arguments)

        self.patch.setattr(copy_frames, "read_planes", reading)

    def at_end(self, change):
        execute = driver.execute

        def executing(*arguments, **options):
            ended = execute(*arguments, **options)
            change(self.path)
            return ended

        self.patch.setattr(driver, "execute", executing)


@pytest.fixture
def moments(monkeypatch, movie):
    return Moments(monkeypatch, movie)


CASES = {
    "during a task": [replaced, overwritten, cut_off, deleted, replaced_and_put_back, touched, one_byte, grown_over],
    "between tasks": [replaced, overwritten, replaced_and_put_back, repointed],
    "after the last task": [replaced, overwritten, deleted, replaced_and_put_back],
}


@pytest.mark.parametrize(("when", "change"), [(when, change) for when, ways in CASES.items() for change in ways])
def test_a_movie_that_changes_fails_as_input_and_is_never_mixed(tmp_path, data, movie, moments, when, change):
    output, ended = tmp_path / "out", when == "after the last task"
    if change is repointed:
        moments.path = movie = movie.with_name(f"link{movie.suffix}")
        movie.symlink_to(f"movie{movie.suffix}")
    if ended:
        moments.at_end(change)
    else:
        moments.at({"during a task": 3, "between tasks": 4}[when], change)
    report = copied(movie, output)
    assert report.exit_status == 3
    assert {fov.cause for fov in report.failed} == {"input"}
    for fov in report.failed:
        assert re.search(rf"{movie.name}: .*(changed|damaged|cut off|cannot be read)", fov.reason)
    assert {fov.fov for fov in report.failed} == {0, 1}
    assert {fov["status"] for fov in read_status(output)["fovs"]} == {"failed"}
    assert recorded_frames(output) == recorded_frames(output, data)


def recorded_frames(output, data=None):
    """Phase-contrast frames of all blocks that are recorded as copied; of the movie, if that is given."""
    found = {}
    for key in (key for key, read in recorded(Ledger(output / LEDGER), "frames_read").items() if read):
        fov, block = int(key[10:13]), int(key[-3:])
        source = zarr.open(output / f"fov_{fov:03d}/images.zarr/pc_ch_0/0")[:] if data is None else data[fov, :, 0]
        found[key] = source[2 * block : 2 * block + 2].tobytes()
    return found


@pytest.mark.parametrize("when", ["before a task", "during a task", "between tasks", "after the last task"])
def test_a_movie_that_only_grew_is_valid_and_the_report_says_so(tmp_path, data, movie, moments, when):
    if when == "before a task":
        prepare = driver.prepare  # no reader is open yet
        moments.patch.setattr(driver, "prepare", lambda *of: grown(movie) or prepare(*of))
    elif when == "after the last task":
        moments.at_end(grown)
    else:
        moments.at({"during a task": 3, "between tasks": 4}[when], grown)
    report = copied(movie, tmp_path / "out")
    assert report.exit_status == 0
    (said,) = [warning for warning in report.warnings if "grew from" in warning]
    assert "The frames that were read are valid" in said
    assert len(recorded_frames(tmp_path / "out")) == 6
    assert recorded_frames(tmp_path / "out") == recorded_frames(tmp_path / "out", data)


def test_a_changed_movie_is_right_again_when_it_is_put_back(tmp_path, data, movie, moments):
    output, kept = tmp_path / "out", shutil.copy2(movie, tmp_path / "kept")
    moments.at_end(overwritten)
    assert copied(movie, output).exit_status == 3
    moments.patch.undo()
    with pytest.raises(OutputError, match="results of another movie"):
        copied(movie, output)
    shutil.copy2(kept, movie)
    report = copied(movie, output)
    assert (report.exit_status, report.tasks) == (0, 0)
    assert {fov["status"] for fov in read_status(output)["fovs"]} == {"done"}


def test_a_movie_that_changes_while_a_run_is_planned_is_refused(tmp_path, movie, monkeypatch):
    read_metadata = shared.read_metadata

    def read(path):
        metadata = read_metadata(path)
        replaced(path)
        return metadata

    monkeypatch.setattr(shared, "read_metadata", read)
    with pytest.raises(SourceError, match=r"changed while it was read: it was replaced by another file\. Fix: "):
        copied(movie, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------- identity


class TestIdentity:
    def test_a_moved_or_copied_movie_is_the_same(self, movie):
        first = take_snapshot(movie)
        copy = shutil.copyfile(movie, movie.with_name("copy" + movie.suffix))
        assert take_snapshot(copy).identity == first.identity
        moved = copy.rename(movie.with_name("moved" + movie.suffix))
        assert take_snapshot(moved).identity == first.identity

    def test_every_frame_has_a_sample_in_large_files(self, movie, monkeypatch):
        monkeypatch.setattr(content, "BUDGET", 2**16)
        first = take_snapshot(movie)
        with movie.open("rb") as file:
            frame = find_places(movie)(file).smallest_frame
        raw = movie.read_bytes()
        for start in range(0, len(raw) - frame, frame // 2):  # a hole as long as a frame
            if any(raw[start : start + frame]):
                movie.write_bytes(raw[:start] + bytes(frame) + raw[start + frame :])
                with suppress(SourceError):  # the tables may be in the hole
                    assert take_snapshot(movie).identity != first.identity
        movie.write_bytes(raw)
        assert take_snapshot(movie).identity == first.identity

    @pytest.mark.parametrize(
        ("size", "frame"), [(5 * 10**11, 10**6), (5 * 10**11, 3 * 10**8), (10**8, 5000), (10**8, 1)]
    )
    def test_samples_are_few_enough_for_any_size(self, size, frame):
        cell = content.cell_of(size, frame)
        samples = [sample for batch in content._batches(size, cell) for sample in batch]
        assert len(samples) <= 40_000
        assert sum(sample.size for sample in samples) <= 2**27
        assert all(k * cell <= s.offset and s.offset + s.size <= (k + 1) * cell for k, s in enumerate(samples))
        if size / frame <= 20_000:
            assert cell <= frame / 2 + 1

    def test_an_output_of_an_older_version_is_resumed(self, tmp_path, movie, monkeypatch):
        output, older = tmp_path / "out", atomic.identity(movie)
        with monkeypatch.context() as patch:
            patch.setattr(FileSnapshot, "identity", property(lambda self: atomic.identity(self.path)))
            copied(movie, output)
        assert Ledger(output / LEDGER).movie == {"identity": older, "first": older}
        assert copied(movie, output).tasks == 0
        assert Ledger(output / LEDGER).movie == {"identity": take_snapshot(movie).identity, "first": older}
        assert copied(movie, output).tasks == 0
        replaced(movie)
        with pytest.raises(OutputError, match="results of another movie"):
            copied(movie, output)


def test_hosts_may_see_times_with_other_digits_and_files_with_other_numbers():
    state = State(size=10, written=1_700_000_000_123_456_789, device=1, inode=2, changed=3)
    elsewhere = replace(state, device=5, inode=6, changed=7)
    for coarser in (state.written, 1_700_000_000_123_456_700, 1_700_000_000_000_000_000):
        assert state.difference_anywhere(replace(elsewhere, written=coarser)) == ""
    assert state.difference_anywhere(replace(elsewhere, written=state.written + 1)) == "it was written to"
    assert state.difference_anywhere(replace(elsewhere, written=1_700_000_001_000_000_000)) == "it was written to"
    assert state.difference_anywhere(replace(elsewhere, size=11)) == "it had 10 bytes and has 11"
    assert state.difference_anywhere(replace(state, changed=4)).startswith("it was renamed")
    assert state.difference(elsewhere) == "it was replaced by another file"


# ---------------------------------------------------------------------------------------------- reading again


class TestReadingAgain:
    def test_frames_are_as_they_were_read(self, tmp_path, movie, call):
        copied(movie, tmp_path / "out")
        status, said, _ = call("verify", tmp_path / "out", "--source")
        assert (status, f"{movie}: 12 frames unchanged since the run" in said) == (0, True)
        moved = movie.rename(movie.with_name("moved" + movie.suffix))
        status, _, said = call("verify", tmp_path / "out", "--source")
        assert (status, "no such file" in said, "--movie" in said) == (2, True, True)
        assert call("verify", tmp_path / "out", "--movie", moved)[0] == 0

    def test_frames_that_differ_are_named_and_read_again(self, tmp_path, data, movie, call):
        """A copy with a hole that the identity does not see, and dates restored by hand."""
        output, before = tmp_path / "out", movie.stat()
        data_of_other = data.copy()
        data_of_other[1, 3, 1, 7, 7] += 1
        write = as_czi if movie.suffix == ".czi" else as_nd2
        right = movie.read_bytes()
        write(movie, data_of_other)
        copied(movie, output)
        movie.write_bytes(right)
        os.utime(movie, ns=(before.st_atime_ns, before.st_mtime_ns))
        status, said, _ = call("verify", output, "--source")
        assert status == 3
        assert "1 frame changed since the run:\n  FOV 1, frame 3: has other pixels than were read" in said
        assert verify_output(output).is_good

    def test_the_next_run_reads_them_again(self, tmp_path, movie, monkeypatch):
        output = tmp_path / "out"
        with monkeypatch.context() as patch:
            read_planes = copy_frames.read_planes

            def read_wrongly(reader, fov, frame, *more):
                planes = read_planes(reader, fov, frame, *more)
                for plane in planes:
                    plane[...] ^= (fov, frame) == (1, 3)
                return planes

            patch.setattr(copy_frames, "read_planes", read_wrongly)
            copied(movie, output)
        (fault,) = verify_output(output, source=True).movie.faults
        assert (fault.fov, fault.frame, fault.key) == (1, 3, "ingest-fov001-b001")
        assert copied(movie, output).exit_status == 0
        copied(movie, tmp_path / "reference")
        assert differences(products(output), products(tmp_path / "reference")) == []
        assert verify_output(output, source=True).is_good

    def test_another_movie_or_one_that_cannot_be_read_takes_back_nothing(self, tmp_path, data, movie, monkeypatch):
        output, other = tmp_path / "out", tmp_path / f"other{movie.suffix}"
        copied(movie, output)
        (as_czi if movie.suffix == ".czi" else as_nd2)(other, data + 1)
        before = recorded(Ledger(output / LEDGER))
        found = verify_output(output, source=True, movie=other)
        assert (len(found.movie.faults), found.movie.is_recorded) == (12, False)

        def unreadable(*_):
            raise SourceError("the disk does not answer")

        monkeypatch.setattr("pyama_dask.runs.source_check.read_chosen", unreadable)
        found = verify_output(output, source=True)
        assert (len(found.movie.faults), found.movie.is_recorded, found.is_good) == (12, True, False)
        assert recorded(Ledger(output / LEDGER)) == before

    def test_outputs_of_older_versions_have_no_digests(self, tmp_path, movie, call, monkeypatch):
        monkeypatch.setattr(Copy, "frame", without_digest(Copy.frame))
        copied(movie, tmp_path / "out")
        status, said, _ = call("verify", tmp_path / "out", "--source")
        assert status == 3
        assert "12 frames cannot be compared: an older version recorded no digests" in said
        assert "--force copy" in said

    def test_it_can_be_cancelled(self, tmp_path, movie):
        copied(movie, tmp_path / "out")
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(CancelledError):
            verify_output(tmp_path / "out", source=True, cancel=cancel)


def without_digest(frame):
    def reading(part, k):
        frame(part, k)
        part._context.frames_read.clear()

    return reading


def test_a_pipe_in_place_of_a_movie_is_refused_before_it_is_waited_for(tmp_path):
    pipe = tmp_path / "movie.nd2"
    os.mkfifo(pipe)
    with pytest.raises(SourceError, match="pipe"):
        State.of(pipe)
    with pytest.raises(SourceError, match="pipe or a device"):
        pyama_dask.run(config(pipe, tmp_path / "out"))
