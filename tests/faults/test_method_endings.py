"""Methods that end in odd ways: each is one message with method, FOV and frame."""

import os
import signal
import threading

import pytest
from support.movies import config

import pyama_dask
from pyama_dask.errors import AlgorithmError
from pyama_dask.methods import current_call
from pyama_dask.methods.call import Chosen, threads_watched
from pyama_dask.methods.current_call import open_note, take_note

IN_THREAD = "t = threading.Thread(target=lambda: {}); t.start(); t.join(); return frame"
ENDINGS = {
    "raise SystemExit(3)": "SystemExit: 3",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise ValueError('x' * 5_000_000)": r"ValueError: x+\.\.\. \(5000000 characters\)",
    "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})": "Odd: its message fails: ZeroDivisionError",
    IN_THREAD.format("1 / 0"): "ZeroDivisionError: division by zero",
    IN_THREAD.format("sys.exit(2)"): "SystemExit: 2",
    "threading.Thread(target=lambda: time.sleep(0)).start(); yield 1 / 0": "ZeroDivisionError",
}
CODE = "import sys, threading, time\n\ndef f(frame):\n    {}\n"


@pytest.fixture
def ctrl_c_raises_nothing(monkeypatch):
    """As in a run of the program, where it cancels the run."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)


@pytest.mark.parametrize("body", ENDINGS)
def test_a_method_is_named_in_one_message(body, tmp_path, ctrl_c_raises_nothing, capsys):
    (tmp_path / "plug.py").write_text(CODE.format(body))
    method, hook = Chosen("segmenter", f"{tmp_path}/plug.py:f"), threading.excepthook
    said = rf"^FOV 0, frame 3: the segmenter '.*plug.py:f' \(.*, line 3\) failed: {ENDINGS[body]}"
    with pytest.raises(AlgorithmError, match=said) as error:
        method.array("FOV 0, frame 3", 1)
    assert len(str(error.value)) < 2000
    assert threading.excepthook is hook
    assert capsys.readouterr() == ("", "")


def test_a_run_goes_on_with_its_other_fovs(tmp_path, small_czi, small_pixels, ctrl_c_raises_nothing):
    poison = int(small_pixels[0, 5, 0].sum())
    body = f"if int(frame.sum()) == {poison}: raise SystemExit('x' * 5_000_000)\n    return (frame > 1000).astype(int)"
    (tmp_path / "plug.py").write_text(CODE.format(body))
    method = {"params.segmentation_method": f"{tmp_path}/plug.py:f", "params.segmentation_params": {}}
    report = pyama_dask.run(config(small_czi, tmp_path / "out", method))
    assert report.exit_status == 3
    assert "FOV 0, frame 5: the segmenter" in report.fovs[0].reason
    assert [fov.status for fov in report.fovs] == ["failed", "done"]
    assert len(report.fovs[0].reason) < 2000
    assert (tmp_path / "out" / ".pyama_dask" / "ledger.jsonl").stat().st_size < 100_000


def test_a_note_is_there_while_a_method_is_at_work(monkeypatch, tmp_path):
    monkeypatch.setattr(current_call.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(current_call, "_file", -1)
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv(current_call.FOLDER, str(tmp_path / "notes"))
    open_note("tcp://here:1")
    try:
        with current_call.at_work("FOV 0, frame 3"):
            (note,) = (tmp_path / "notes").iterdir()
            assert note.read_text() == "\nFOV 0, frame 3"
            assert oct(note.stat().st_mode & 0o777) == "0o600"
        assert note.read_text() == "\n"
        with (
            current_call.at_task("ingest-fov000"), current_call.at_work("FOV 0, frame 4"),
            current_call.at_task("ingest-fov001"), current_call.at_work("FOV 1, frame 2"),  # two tasks of a worker
        ):  # fmt: skip
            assert note.read_text() == "ingest-fov000 ingest-fov001\nFOV 0, frame 4; or FOV 1, frame 2"
        with current_call.at_task("link-fov000"), current_call.at_work("x" * 5000):
            assert take_note("tcp://here:1", str(tmp_path / "notes")) == (
                ("link-fov000",),
                "x" * (current_call.LONGEST - len("link-fov000\n")),
            )
        assert take_note("tcp://here:1", str(tmp_path / "notes")) == ((), "")
    finally:
        os.close(current_call._file)


def test_methods_of_two_tasks_at_once_are_watched_and_the_hook_comes_back(capsys):
    hook = threading.excepthook
    first, second = threads_watched(), threads_watched()
    first.__enter__()
    second.__enter__()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    for watch in (first, second):  # ends in the order in which they began, as those of two threads may
        with pytest.raises(ZeroDivisionError):
            watch.__exit__(None, None, None)
    assert threading.excepthook is hook
    assert capsys.readouterr().err == ""
