"""The ledger's word is checked: what is missing, cut off or altered is found, and made anew by the next run."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.ledgers import recorded
from support.movies import as_czi, config, differences, file_bytes, products, times_of_change

import pyama_dask
from pyama_dask.errors import OutputError
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.verify import verify_output
from pyama_dask.store.ledger import Ledger

RAW = "fov_001/images.zarr/pc_ch_0/0/c.1.0.0"
FILES = [
    RAW,
    ".pyama_dask/fov_000/levels_copy_b000.npz",
    ".pyama_dask/fov_000/levels_background_ch_1_b001.npz",
    "fov_000/images.zarr/fl_background_ch_1/tiles/c.0.0.0",
    "fov_000/images.zarr/seg_tracked_ch_0/0/c.2.0.0",
    "fov_001/images.zarr/fl_ch_1/1/c.0.0.0",
    "fov_000/movie_fov_000_traces.csv",
    ".pyama_dask/fov_000/tracks.npz",
]


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def again(movie, output):
    report = pyama_dask.run(config(movie, output))
    assert report.exit_status == 0
    return report


def test_a_good_output_has_no_faults_and_is_left_alone(copied):
    before = times_of_change(copied)
    for deep in (False, True):
        found = verify_output(copied, deep=deep)
        assert (found.faults, found.unreadable_lines, found.deep) == ((), 0, deep)
        ledger = Ledger(copied / LEDGER)
        written = sum(len(of) for steps in recorded(ledger, "files").values() for of in steps.values())
        assert found.files == written + len(list(ledger.documents()))
    assert times_of_change(copied) == before


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_or_gone_is_found_and_made_anew(small_czi, finished, copied, name):
    ledger = (copied / LEDGER).read_bytes()
    harms = [cut, Path.unlink]
    for harm in harms if FILES.index(name) % 2 else harms[::-1]:  # each is found; the last one is mended
        (copied / LEDGER).write_bytes(ledger)
        shutil.copy2(finished / name, copied / name)
        harm(copied / name)
        assert [fault.path for fault in verify_output(copied).faults] == [name]
        assert verify_output(copied).faults == ()  # it counts as not done any more
    assert 0 < again(small_czi, copied).tasks < 16
    assert differences(products(copied), products(finished)) == []
    assert verify_output(copied, deep=True).faults == ()


def test_what_was_made_from_a_cut_file_does_not_count_after_a_run_of_one_step(small_czi, finished, copied):
    cut(copied / RAW)
    report = pyama_dask.run(config(small_czi, copied), steps=["copy"])
    assert [fov.status for fov in report.fovs] == ["done", "partial"]
    done = recorded(Ledger(copied / LEDGER))
    assert done["ingest-fov001-b001"].keys() == {"copy"}
    assert not any(step in done["gather-fov001"] for step in ("crop", "extract"))
    again(small_czi, copied)
    assert differences(products(copied), products(finished)) == []


def test_an_error_of_the_file_system_is_one_message(small_czi, copied):
    document = copied / "fov_000/images.zarr/pc_ch_0/0/zarr.json"
    document.unlink()
    document.mkdir()
    with pytest.raises(OutputError, match=r"zarr.json\S*: Is a directory. Fix: check its permissions"):
        pyama_dask.run(config(small_czi, copied))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_altered_is_found_by_reading_it(small_czi, finished, copied, name):
    alter(copied / name)
    assert verify_output(copied).faults == ()
    (fault,) = verify_output(copied, deep=True).faults
    assert (fault.path, "checksum" in fault.what) == (name, True)
    again(small_czi, copied)
    assert file_bytes(copied) == file_bytes(finished)


@pytest.mark.parametrize("harm", [alter, lambda path: path.unlink()], ids=["altered", "gone"])
def test_a_cell_that_is_not_as_it_was_is_found(small_czi, finished, copied, harm):
    chunk = next(copied.glob("fov_000/cells.zarr/pc_ch_0/*/0/c.0.0.0"))
    harm(chunk)
    (fault,) = verify_output(copied, deep=True).faults
    assert fault.path == "fov_000/cells.zarr"
    again(small_czi, copied)
    assert file_bytes(copied) == file_bytes(finished)


@pytest.mark.parametrize("content", [None, b"{}", b"\x00\xff"])
def test_documents_that_are_damaged_are_written_anew_and_no_pixel_is_lost(small_czi, finished, copied, content):
    store = "fov_000/images.zarr"
    names = {f"{store}/{of}zarr.json" for of in ("pc_ch_0/0/", "seg_tracked_ch_0/0/", "fl_background_ch_1/", "")}
    for name in names:
        (copied / name).unlink() if content is None else (copied / name).write_bytes(content)
    faults = verify_output(copied).faults
    assert sorted((fault.path, fault.step) for fault in faults) == [(name, None) for name in sorted(names)]
    report = again(small_czi, copied)
    assert report.tasks == 0
    (said,) = report.warnings
    assert any(f"{copied / name}, and 3 more: was damaged or missing" in said for name in names)
    assert file_bytes(copied) == file_bytes(finished)
    assert verify_output(copied).faults == ()


def test_with_a_damaged_document_and_work_left_no_pixel_is_lost(small_czi, finished, copied):
    (copied / "fov_000/images.zarr/pc_ch_0/0/zarr.json").write_bytes(b"?")
    (copied / RAW.replace("fov_001", "fov_000")).unlink()
    report = again(small_czi, copied)
    assert report.tasks == 1
    assert any("pc_ch_0/0/zarr.json" in warning for warning in report.warnings)
    assert file_bytes(copied) == file_bytes(finished)


def test_the_config_and_the_plan_are_verified_and_restored_with_a_warning(small_czi, copied):
    names = ["processing_config.yaml", ".pyama_dask/plan.json"]
    for name in names:
        alter(copied / name)
    assert sorted(fault.path for fault in verify_output(copied).faults) == sorted(names)
    (said,) = again(small_czi, copied).warnings
    assert any(f"{name}, and 1 more" in said for name in names)
    assert again(small_czi, copied).warnings == ()
    assert verify_output(copied, deep=True).faults == ()


READ_AGAIN = [
    "fov_000/images.zarr/pc_ch_0/0/c.1.0.0",
    "fov_000/images.zarr/fl_ch_1/0/c.1.0.0",
    "fov_000/images.zarr/seg_labeled_ch_0/0/c.1.0.0",
    "fov_000/images.zarr/fl_background_ch_1/tiles/c.1.0.0",
    ".pyama_dask/fov_000/objects_b001.npz",
    ".pyama_dask/fov_000/levels_copy_b001.npz",
    ".pyama_dask/fov_000/levels_background_ch_1_b001.npz",
]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory, small_czi):
    """An output with the results of `ingest` only; to be read only."""
    output = tmp_path_factory.mktemp("ingested") / "results"
    pyama_dask.run(config(small_czi, output), steps=["copy", "segment", "background"])
    return output


class TestDamagedInput:
    """A file that is altered after it was written, and before what is left of the run reads it."""

    @pytest.fixture
    def killed(self, tmp_path, ingested):
        """An output whose run has ended after `ingest`."""
        return shutil.copytree(ingested, tmp_path / "results")

    @pytest.mark.parametrize("name", READ_AGAIN)
    def test_the_next_run_regenerates_it_and_what_was_made_from_it(self, small_czi, finished, killed, name):
        alter(killed / name)
        report = again(small_czi, killed)
        assert [name in warning for warning in report.warnings] == [True]
        assert file_bytes(killed) == file_bytes(finished)
        assert verify_output(killed, deep=True).faults == ()

    @pytest.mark.parametrize("name", ["tracks.npz", "cells.npz", "windows.npz"])
    def test_so_does_a_run_that_is_killed_after_linking(self, small_czi, finished, copied, name):
        with Ledger(copied / LEDGER) as ledger:
            keys = [key for key in ledger.keys_of(0) if key.startswith(("finish", "gather"))]
            ledger.void({key: [*recorded(ledger)[key]] for key in keys})
        alter(copied / ".pyama_dask/fov_000" / name)
        report = again(small_czi, copied)
        assert [name in warning for warning in report.warnings] == [True]
        assert file_bytes(copied) == file_bytes(finished)

    @pytest.mark.parametrize(
        "pattern", ["rows_b001.npz", "crops_pc_ch_0_b001.npy", "../../fov_001/images.zarr/zarr.json"]
    )
    def test_a_file_that_is_damaged_during_the_run_is_regenerated_in_it(self, small_czi, finished, tmp_path, pattern):
        output, damaged = tmp_path / "results", []

        def damage(event):
            file = output / ".pyama_dask" / "fov_001" / pattern
            if event["step"] == "track" and event["fov"] == 1 and event["frame"] == event["total"] and not damaged:
                damaged.append(file)
                alter(file)

        report = pyama_dask.run(config(small_czi, output), progress=damage)
        assert report.exit_status == 0
        assert len(damaged) == 1
        assert any(damaged[0].name in warning for warning in report.warnings)
        assert file_bytes(output) == file_bytes(finished)

    def test_a_damaged_file_of_a_step_that_is_not_chosen_fails_the_fov(self, small_czi, killed):
        alter(killed / "fov_000/images.zarr/seg_labeled_ch_0/0/c.1.0.0")
        report = pyama_dask.run(config(small_czi, killed), steps=["track", "extract"])
        (failed,) = report.failed
        assert failed.fov == 0
        assert failed.cause == "storage"
        assert "seg_labeled_ch_0/0/c.1.0.0 is damaged" in failed.reason
        assert "add it to --steps" in failed.reason

    def test_verification_takes_back_what_was_made_from_it(self, small_czi, finished, copied):
        alter(copied / "fov_000/images.zarr/pc_ch_0/0/c.1.0.0")
        assert len(verify_output(copied, deep=True).faults) == 1
        report = again(small_czi, copied)
        assert report.tasks == 6  # block 1, link, all of finish, gather; neither blocks 0 and 2 nor FOV 1
        assert file_bytes(copied) == file_bytes(finished)


class TestDamagedLedger:
    @pytest.fixture
    def damaged(self, copied):
        """An output with a line in its ledger that cannot be read, and a file that is not as recorded since."""
        path = copied / LEDGER
        lines = path.read_bytes().splitlines()
        number = next(k for k, line in enumerate(lines) if line.startswith(b'{"done":{"key":"ingest'))
        lines[number] = b"\x00" * len(lines[number])
        path.write_bytes(b"\n".join(lines) + b"\n")
        alter(copied / RAW)
        return copied

    def test_a_run_compares_all_files_and_says_so(self, small_czi, finished, damaged):
        report = again(small_czi, damaged)
        (said,) = [warning for warning in report.warnings if "ledger.jsonl" in warning]
        assert re.search(r"1 of its lines could not be read, the first is line \d+\.", said)
        assert "1 differ and are regenerated" in said
        assert differences(products(damaged), products(finished)) == []
        assert list((damaged / ".pyama_dask").glob("*.damaged"))
        assert again(small_czi, damaged).tasks == 0

    def test_verify_says_so(self, damaged):
        found = verify_output(damaged)
        assert found.deep
        assert found.unreadable_lines == 1
        assert [fault.path for fault in found.faults] == [RAW]

    @pytest.mark.parametrize("kept", [0, 1, 4])
    def test_a_ledger_that_lost_its_lines_is_not_taken_for_a_good_one(self, small_czi, copied, kept):
        path = copied / LEDGER
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:kept]))
        before = file_bytes(copied, set())
        found = verify_output(copied, deep=True)
        assert not found.is_good
        assert "fov_001/images.zarr" in found.unrecorded
        with pytest.raises(OutputError, match="lost"):
            pyama_dask.run(config(small_czi, copied))
        left_alone = {name: content for name, content in before.items() if not name.startswith(".pyama_dask/l")}
        assert left_alone.items() <= file_bytes(copied, set()).items()

    def test_a_claim_that_is_damaged_is_known_from_the_documents(self, small_czi, finished, copied):
        path = copied / LEDGER
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if b'"fov001-' not in line and b"-fov001" not in line]
        (claim,) = (k for k, line in enumerate(kept) if line.startswith(b'{"claim":["fov_001'))
        kept[claim] = kept[claim].replace(b"c", b"b", 1)
        path.write_bytes(b"".join(kept))
        shutil.rmtree(copied / "fov_001/cells.zarr")
        next((copied / "fov_001").glob("*.csv")).unlink()
        again(small_czi, copied)
        assert file_bytes(copied) == file_bytes(finished)

    def test_status_can_be_asked(self, damaged):
        assert pyama_dask.open_output(damaged)
        from pyama_dask.runs.status import read_status

        found = read_status(damaged)
        assert {fov["status"] for fov in found["fovs"]} == {"done", "partial"}
        assert any("1 lines of" in warning for warning in found["warnings"])

    def test_killed_while_files_are_compared_the_next_run_does_it(self, small_czi, finished, damaged, monkeypatch):
        def killed(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("pyama_dask.runs.verify.find_faults", killed)
        with pytest.raises(KeyboardInterrupt):
            again(small_czi, damaged)
        monkeypatch.undo()
        assert any("could not be read" in warning for warning in again(small_czi, damaged).warnings)
        assert differences(products(damaged), products(finished)) == []

    def test_without_the_line_of_the_movie_another_one_is_refused_still(self, damaged, small_pixels, tmp_path):
        path = damaged / LEDGER
        path.write_bytes(path.read_bytes().replace(b'{"movie"', b'{"m\xffvie"'))
        other = as_czi(tmp_path / "other.czi", small_pixels[:, ::-1])
        before = file_bytes(damaged)
        with pytest.raises(OutputError, match="results of another movie"):
            pyama_dask.run(config(other, damaged))
        assert file_bytes(damaged) == before


def test_records_that_can_be_made_again_are(small_czi, finished, copied):
    for name in ("plan.json", "report.json", "log.txt"):
        (copied / ".pyama_dask" / name).write_bytes(b"\x00 damaged")
    assert again(small_czi, copied).tasks == 0
    assert file_bytes(copied) == file_bytes(finished)
    assert json.loads((copied / ".pyama_dask" / "plan.json").read_text())["fovs"]
    assert json.loads((copied / ".pyama_dask" / "report.json").read_text())["fovs"]


def test_a_config_of_the_output_that_is_damaged_is_written_anew(small_czi, finished, copied):
    (copied / "processing_config.yaml").write_bytes(b"params: [")
    again(small_czi, copied)
    assert differences(products(copied), products(finished)) == []


def test_a_damaged_plan_is_said(copied):
    (copied / ".pyama_dask/plan.json").write_text(json.dumps({"fovs": []}))
    from pyama_dask.runs.status import read_status

    with pytest.raises(OutputError, match=r"plan\.json: is damaged\. Fix: run again, which writes it again"):
        read_status(copied)


def test_a_plan_that_reads_well_but_is_not_as_recorded_is_refused_and_not_carried_on(small_czi, copied):
    from pyama_dask.report import write_report_page
    from pyama_dask.runs.live import LiveRun
    from pyama_dask.runs.status import read_status

    path = copied / ".pyama_dask/plan.json"
    whole = json.loads(path.read_text())
    damaged = json.loads(path.read_text())
    damaged["fovs"][1]["kinds"]["gather"]["steps"]["extract"][0] = "torn"
    path.write_text(json.dumps(damaged))
    for reader in (read_status, write_report_page, LiveRun):
        with pytest.raises(OutputError, match=r"plan\.json: is damaged"):
            reader(copied)
    report = pyama_dask.run(config(small_czi, copied, {"params.fovs": "0"}))
    assert any("plan.json" in warning for warning in report.warnings)
    assert json.loads(path.read_text())["fovs"] == whole["fovs"][:1]


def test_a_file_is_no_output(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    from pyama_dask.runs.status import read_status

    with pytest.raises(OutputError, match=r"run\.yaml: holds no run of pyama_dask .*Fix: give the 'output' directory"):
        read_status(tmp_path / "run.yaml")


class TestCommand:
    def test_says_what_is_right_and_what_is_not(self, call, copied):
        status, said, _ = call("verify", copied, "--deep")
        assert status == 0
        assert "checked: all checksums as recorded" in said
        cut(copied / RAW)
        status, said, _ = call("verify", copied)
        assert status == 3
        assert f"  {RAW}: has " in said
        assert "The next run regenerates them" in said

    def test_refuses_what_is_no_output(self, call, tmp_path):
        status, _, error = call("verify", tmp_path)
        assert status == 2
        assert "holds no run" in error
        assert list(tmp_path.iterdir()) == []


class TestForce:
    def test_a_step_is_done_anew_with_what_is_made_from_it(self, small_czi, finished, copied):
        before = times_of_change(copied)
        report = pyama_dask.run(config(small_czi, copied), force=["track"])
        assert report.tasks == 2 * (1 + 3 + 1)
        changed = {name for name, time in times_of_change(copied).items() if time != before.get(name)}
        assert not any("/pc_ch_0/0/" in name or "seg_labeled_ch_0/0/" in name or "tiles" in name for name in changed)
        assert any("seg_tracked" in name for name in changed)
        assert any(name.endswith(".csv") for name in changed)
        assert file_bytes(copied) == file_bytes(finished)

    def test_crops_alone(self, small_czi, finished, copied):
        shutil.rmtree(copied / "fov_000/cells.zarr")
        (copied / "fov_000/cells.zarr").mkdir()  # which a run does not see, as it looks at no single cell
        assert again(small_czi, copied).tasks == 0
        pyama_dask.run(config(small_czi, copied), force=["crop"])
        assert file_bytes(copied) == file_bytes(finished)

    def test_a_step_alone_leaves_nothing_that_was_made_from_it_recorded(self, small_czi, finished, copied):
        pyama_dask.run(config(small_czi, copied), steps=["segment"], force=["segment"])
        assert again(small_czi, copied).tasks == 2 * (3 + 1 + 3 + 1)  # all but copying
        assert file_bytes(copied) == file_bytes(finished)

    def test_an_unknown_step_is_refused(self, small_czi, copied):
        with pytest.raises(pyama_dask.errors.PlanError, match="'paint' is not one of this run's"):
            pyama_dask.run(config(small_czi, copied), force=["paint"])
