"""The ledger keeps what was recorded, whatever happened to the process that wrote it."""

import errno
import json
import os

import google_crc32c
import pytest
from support.ledgers import costs_of, recorded

from pyama_dask.errors import DiskError, OutputError
from pyama_dask.store.ledger import VERSION, Ledger
from pyama_dask.store.records import Cost
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.task import Receipt, Task, task_key

KEY = "ingest-fov000-b000"


def receipt(key=KEY, digests=None, **more):
    values = {"files": {}, "seconds": 0.1, "bytes_read": 1, "bytes_written": 2, "peak_memory": 3}
    return Receipt(key=key, digests=digests or {"copy": "c1", "segment": "s1"}, **(values | more))


def sealed(entry):
    content = json.dumps(entry, separators=(",", ":"))[:-1]
    return f'{content},"crc":"{google_crc32c.value(content.encode()):08x}"}}\n'.encode()


def plain(entry):
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def task(block, digests, kind="ingest"):
    return Task(kind, 0, (10, 10), 0, 4, block, digests)


FAILED = task(0, {"copy": "c1", "segment": "s1"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".pyama_dask" / "ledger.jsonl"


def state(ledger):
    of_tasks = [recorded(ledger, what) for what in ("done", "files", "notes", "warnings")]
    return *of_tasks, ledger.failed, ledger.attempts


class TestRecording:
    def test_a_recorded_step_is_done_with_its_digest_only(self, path):
        with Ledger(path) as ledger:
            assert not ledger.has(KEY, "copy", "c1")
            ledger.record(receipt())
            assert ledger.has(KEY, "copy", "c1")
            assert not ledger.has(KEY, "copy", "c2")
            assert not ledger.has("ingest-fov000-b001", "copy", "c1")

    def test_a_later_receipt_adds_steps_and_replaces_digests(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(digests={"copy": "c1"}))
            ledger.record(receipt(digests={"copy": "c2", "segment": "s1"}))
        assert recorded(Ledger(path)) == {KEY: {"copy": "c2", "segment": "s1"}}

    def test_void_takes_back_the_named_steps_only(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt())
            ledger.void({KEY: ["segment", "background"]})
            assert ledger.has(KEY, "copy", "c1")
            assert not ledger.has(KEY, "segment", "s1")

    def test_processors_are_those_of_the_latest_receipts(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(processors={"segment": "x86_64 avx2"}))
            assert ledger.task(KEY).processors == Ledger(path).task(KEY).processors == {"segment": "x86_64 avx2"}
            ledger.record(receipt(digests={"track": "t1"}))
            assert ledger.task(KEY).processors == {"segment": "x86_64 avx2"}
            ledger.record(receipt(digests={"segment": "s2"}))  # by a method that does not depend on it
            assert ledger.task(KEY).processors == {}
            ledger.record(receipt(processors={"segment": "arm64 neon"}))
            ledger.void({KEY: ["segment"]})
        assert Ledger(path).task(KEY).processors == {}

    def test_void_of_nothing_writes_nothing(self, path):
        with Ledger(path) as ledger:
            before = path.read_bytes()
            ledger.void({KEY: ["copy"]})
        assert path.read_bytes() == before

    def test_outdated_is_what_a_fov_has_recorded_with_other_settings(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(digests={"copy": "c1", "segment": "s1"}))
            ledger.record(receipt("link-fov000", {"track": "t1"}))
            ledger.record(receipt("ingest-fov000-b001", {"copy": "c1"}))
            tasks = [task(0, {"copy": "c1", "segment": "s2"}), task(None, {"track": "t1"}, "link")]
            outdated = ledger.outdated(0, tasks)
            assert outdated == {KEY: {"segment"}, "ingest-fov000-b001": {"copy"}}  # block 1 is not the plan's any more
            ledger.void(outdated)
            assert recorded(ledger) == {KEY: {"copy": "c1"}, "link-fov000": {"track": "t1"}, "ingest-fov000-b001": {}}
        assert recorded(Ledger(path)) == recorded(ledger)

    @pytest.mark.parametrize(("fov", "other"), [(0, 1), (1, 0), (1, 10), (100, 1000), (100, 1009), (1000, 100)])
    def test_outdated_is_of_one_fov_only(self, path, fov, other):
        with Ledger(path) as ledger:
            ledger.record(receipt(task_key("ingest", other, 0)))
            ledger.record(receipt(task_key("link", other, None), {"track": "t1"}))
            assert ledger.outdated(fov, []) == {}
            assert len(ledger.outdated(other, [])) == 2

    def test_failures_are_counted_until_the_task_is_done(self, path):
        with Ledger(path) as ledger:
            ledger.fail(FAILED, Failure("storage", "no disk"))
            ledger.fail(FAILED, Failure("algorithm", "no light"))
            assert (ledger.failed, ledger.attempts) == ({KEY: Failure("algorithm", "no light")}, {KEY: 2})
            ledger.record(receipt(digests={"copy": "c1"}))
            assert ledger.failed.keys() == {KEY}  # what failed is not done yet
            ledger.record(receipt())
            assert (ledger.failed, ledger.attempts) == ({}, {})

    def test_reopened_it_says_the_same(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(warnings=(("copy", "dim"),), notes={"copy": {"cells": 3}}))
            ledger.record(receipt("link-fov000", {"track": "t1"}))
            ledger.void({"link-fov000": ["track"]})
            ledger.fail(task(0, {"track": "t1"}, "finish"), Failure("memory", "reason: ö"))
            ledger.belongs_to("after", "before")
        again = Ledger(path)
        assert state(again) == state(ledger)
        assert recorded(again, "warnings") == {KEY: {"copy": ["dim"], "segment": []}, "link-fov000": {}}
        assert recorded(again, "notes")[KEY] == {"copy": {"cells": 3}}
        assert again.movie == {"identity": "after", "first": "before"}

    def test_costs_tell_when_and_where_a_task_ran_if_its_receipt_does(self, path):
        old = {name: of for name, of in vars(receipt()).items() if name not in ("begun", "worker")}
        path.parent.mkdir()
        path.write_bytes(sealed({"ledger": VERSION}) + sealed({"done": old}))
        with Ledger(path) as ledger:
            ledger.record(receipt(begun=1796083200.25, worker="node07/4711", spent={"copy": 0.5}))
        before, after = costs_of(Ledger(path))
        assert before == Cost(KEY, 0.1, 3, {}, begun=0.0, worker="")
        assert after == Cost(KEY, 0.1, 3, {"copy": 0.5}, begun=1796083200.25, worker="node07/4711")

    def test_files_are_those_of_the_recorded_steps(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(files={"copy": {"a": (1, 2)}, "segment": {"b": (3, 4)}}))
            ledger.record(receipt(digests={"segment": "s2"}, files={"segment": {"c": (5, 6)}}))
            assert recorded(ledger, "files") == {KEY: {"copy": {"a": (1, 2)}, "segment": {"c": (5, 6)}}}
            ledger.void({KEY: ["copy"]})
        assert recorded(Ledger(path), "files") == {KEY: {"segment": {"c": (5, 6)}}}

    def test_the_movie_is_recorded_once(self, path):
        with Ledger(path) as ledger:
            ledger.belongs_to("m", "m")
            before = path.read_bytes()
            ledger.belongs_to("m", "m")
        assert path.read_bytes() == before

    def test_nothing_is_appended_when_the_output_is_another_runs(self, path):
        def lost():
            raise OutputError("taken over")

        with Ledger(path) as ledger:
            ledger.record(receipt())
        before = path.read_bytes()
        with Ledger(path, lost) as ledger, pytest.raises(OutputError, match="taken over"):
            ledger.record(receipt("link-fov000", {"track": "t1"}))
        assert path.read_bytes() == before

    def test_every_entry_is_on_disk_when_the_call_returns(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt())
            assert Ledger(path).has(KEY, "copy", "c1")

    def test_receipts_given_together_reach_the_disk_together(self, path, monkeypatch):
        flushed = []
        with Ledger(path) as ledger:
            before = path.read_bytes()
            monkeypatch.setattr(os, "fsync", flushed.append)
            ledger.record()
            assert path.read_bytes() == before
            ledger.record(*(receipt(f"ingest-fov000-b{k:03d}") for k in range(3)))
        assert len(flushed) == 1
        assert sorted(recorded(Ledger(path))) == [f"ingest-fov000-b{k:03d}" for k in range(3)]

    def test_a_reader_takes_in_what_is_appended_and_only_whole_lines(self, path):
        reader = Ledger(path)
        assert reader.read_on() == 0
        with Ledger(path) as ledger:
            ledger.record(receipt())
            assert reader.read_on() == 2
            assert recorded(reader) == recorded(ledger)
            os.write(ledger._file._descriptor, b'{"done":{')
            assert reader.read_on() == 0
            assert not reader.is_shorter()
        os.truncate(path, path.stat().st_size - 20)
        assert reader.is_shorter()
        assert reader.damaged == []

    def test_damaged_lines_keep_their_numbers_when_read_later(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt())
        reader = Ledger(path)
        with path.open("ab") as file:
            file.write(b"none\n")
        assert (reader.read_on(), reader.damaged) == (1, [3])

    def test_opening_to_read_makes_no_file(self, path):
        assert recorded(Ledger(path)) == {}
        assert not path.exists()

    def test_begins_with_its_version(self, path):
        with Ledger(path):
            pass
        with Ledger(path):
            pass
        assert path.read_bytes() == sealed({"ledger": VERSION})


class TestDamage:
    @pytest.mark.parametrize("lost", [1, 5, 40])
    def test_a_torn_last_line_never_counted(self, path, lost):
        with Ledger(path) as ledger:
            ledger.record(receipt())
            ledger.record(receipt("link-fov000", {"track": "t1"}))
        path.write_bytes(path.read_bytes()[:-lost])
        assert recorded(Ledger(path)) == {KEY: {"copy": "c1", "segment": "s1"}}

    def test_after_a_torn_line_the_next_entry_stands_on_its_own(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt())
        with path.open("ab") as file:
            file.write(b'{"done":{"key":"link-f')
        with Ledger(path) as ledger:
            ledger.record(receipt("link-fov000", {"track": "t1"}))
        assert recorded(Ledger(path)) == {KEY: {"copy": "c1", "segment": "s1"}, "link-fov000": {"track": "t1"}}
        assert all(json.loads(line) for line in path.read_bytes().splitlines())

    def test_torn_at_its_first_line_it_begins_anew(self, path):
        path.parent.mkdir()
        path.write_bytes(b'{"led')
        with Ledger(path) as ledger:
            ledger.record(receipt())
        assert Ledger(path).has(KEY, "copy", "c1")

    GARBAGE = (
        b"no json", b"42", b"[]", b'"done"', b'{"done": {}}', b'{"void": "a"}', b"\xff\xfe\x00", b"", b"[" * 100_000,
        b'{"ledger": "one"}', b'{"failed": "x"}', b'{"movie": {}}', b'{"done": {"key": "x", "digests": {"copy": "c"}}}',
        json.dumps({"done": vars(receipt(files={"copy": {"../../etc/passwd": (1, 2)}}))}).encode(),
        json.dumps({"done": vars(receipt(files={"copy": {"/etc/passwd": (1, 2)}}))}).encode(),
    )  # fmt: skip

    @pytest.mark.parametrize("line", GARBAGE)
    def test_a_line_that_is_none_of_a_ledger_is_told_by_number_and_takes_nothing_along(self, path, line):
        path.parent.mkdir()
        path.write_bytes(plain({"ledger": 1}) + plain({"done": vars(receipt())}))
        before = state(Ledger(path))
        with path.open("ab") as file:
            file.write(line + b"\n")
        ledger = Ledger(path)
        assert ledger.damaged == [3]
        assert state(ledger) == before

    def test_any_flipped_bit_is_noticed(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt(files={"copy": {"a": (11, 22)}}))
            ledger.writes({"processing_config.yaml": (3, 4)})
            ledger.void({KEY: ["segment"]})
            ledger.fail(FAILED, Failure("storage", "no disk"))
        content = path.read_bytes()
        for place in range(len(content) - 1):  # without the last newline the last line never counted
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert Ledger(path).damaged, (place, bytes(flipped[place - 20 : place + 20]))

    def test_lines_of_version_1_are_read_and_sealed_when_the_ledger_is_repaired(self, path):
        path.parent.mkdir()
        path.write_bytes(plain({"ledger": 1}) + plain({"done": vars(receipt())}))
        with Ledger(path) as ledger:
            assert recorded(ledger) == {KEY: {"copy": "c1", "segment": "s1"}}
            ledger.void({KEY: ["segment"]})
            before = state(Ledger(path))
            ledger.remove_damaged_lines()
        assert state(Ledger(path)) == before
        assert path.read_bytes().count(b',"crc":"') == len(path.read_bytes().splitlines())

    def test_a_line_without_a_seal_among_sealed_ones_is_damaged(self, path):
        with Ledger(path) as ledger:
            ledger.record(receipt())
        with path.open("ab") as file:
            file.write(plain({"void": {KEY: ["copy"]}}))
        assert Ledger(path).damaged == [3]

    def test_numbers_that_no_file_can_have_are_damage(self, path):
        for number in ("1e999", "-1e999", "NaN"):
            path.parent.mkdir(exist_ok=True)
            line = plain({"done": vars(receipt(files={"copy": {"a": (1, 2)}}))})
            path.write_bytes(plain({"ledger": 1}) + line.replace(b"[1,2]", f"[{number},2]".encode()))
            assert Ledger(path).damaged == [2]

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_mended_the_good_lines_are_kept_and_the_damaged_file_is_put_aside(self, path, number):
        with Ledger(path) as ledger:
            ledger.record(receipt())
            ledger.record(receipt("link-fov000", {"track": "t1"}))
        lines = path.read_bytes().splitlines()
        lines[number] = lines[number][:-3] + b"..."
        path.write_bytes(b"\n".join(lines) + b"\n")
        with Ledger(path) as ledger:
            assert ledger.damaged == [number + 1]
            ledger.record(receipt("ingest-fov000-b001"))
            damaged = path.read_bytes()
            assert Ledger(path).damaged == [number + 1]  # until the files were looked at, whoever asks
            ledger.remove_damaged_lines()
            ledger.record(receipt("ingest-fov000-b002"))
        again = Ledger(path)
        assert again.damaged == []
        lost = [None, KEY, "link-fov000"][number]
        assert recorded(again).keys() == {KEY, "link-fov000", "ingest-fov000-b001", "ingest-fov000-b002"} - {lost}
        (aside,) = path.parent.glob("*.damaged")
        assert aside.read_bytes() == damaged

    def test_a_newer_version_is_refused(self, path):
        path.parent.mkdir()
        path.write_bytes(sealed({"ledger": VERSION + 1}))
        with pytest.raises(OutputError, match=r"ledger\.jsonl: .*newer version"):
            Ledger(path)


class TestDocuments:
    def test_the_latest_and_the_one_before_are_accepted(self, path):
        with Ledger(path) as ledger:
            for size in (1, 2, 2, 3):
                ledger.writes({"a": (size, 0), "b": (7, 7)})
            lines = path.read_bytes().count(b"documents")
            ledger.writes({"a": (3, 0)})
            assert path.read_bytes().count(b"documents") == lines == 3  # nothing is recorded twice
        assert dict(Ledger(path).documents()) == dict(ledger.documents()) == {"a": ((3, 0), (2, 0)), "b": ((7, 7),)}

    def test_a_removed_document_is_forgotten(self, path):
        with Ledger(path) as ledger:
            ledger.writes({"a": (1, 1), "b": (2, 2)})
            ledger.writes({"a": None, "c": None})
        assert dict(Ledger(path).documents()) == {"b": ((2, 2),)}


def test_authors_are_the_steps_that_wrote_a_file(path):
    with Ledger(path) as ledger:
        ledger.record(receipt(files={"copy": {"a": (1, 2), "b": (1, 2)}, "segment": {"c": (3, 4)}}))
        ledger.record(receipt("link-fov000", {"track": "t1"}, files={"track": {"d": (5, 6)}}))
        assert ledger.authors({"b", "c", "x"}) == {KEY: {"copy", "segment"}}
        assert ledger.authors({"x"}) == {}


def test_a_full_disk_leaves_whole_lines_only(path, monkeypatch):
    with Ledger(path) as ledger:
        ledger.record(receipt())
        before = path.read_bytes()
        write = os.write
        taken = iter([7])

        def part(file, line):  # a part fits, then nothing more
            if (room := next(taken, None)) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, line[:room])

        monkeypatch.setattr(os, "write", part)
        with pytest.raises(DiskError, match="No space left"):
            ledger.record(receipt("ingest-fov000-b001"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert not ledger.has("ingest-fov000-b001", "copy", "c1")
        ledger.record(receipt("ingest-fov000-b002"))
    assert set(recorded(Ledger(path))) == {KEY, "ingest-fov000-b002"}


@pytest.mark.parametrize("changed", [b"\x01", b"{", b"7"], ids=repr)
def test_a_line_that_is_damaged_while_the_ledger_is_open_is_an_error_that_says_so(path, changed):
    with Ledger(path, recent=1) as ledger:
        ledger.record(receipt(), receipt("ingest-fov001-b000"), receipt("ingest-fov002-b000"))
        ledger.of_fov(2)
        content = path.read_bytes()
        at = content.index(b"fov001") - 20
        path.write_bytes(content[:at] + changed + content[at + 1 :])
        assert ledger.task("ingest-fov000-b000").done
        with pytest.raises(OutputError, match=r"was damaged or replaced while it was in use\. Fix: try again; a run"):
            ledger.of_fov(1)
        assert [cost.key[:13] for cost in ledger.costs()] == ["ingest-fov000", "ingest-fov002"]
    assert Ledger(path).damaged == [3]
