"""Standard streams that take no more end no run."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.movies import config, write_config
from support.processes import started

from pyama_dask.files.streams import unfailing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_what_a_stream_does_not_take_is_lost(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", pipe)
        monkeypatch.setattr(sys, "stderr", full)
        for _ in range(3):
            with unfailing():
                for stream in (sys.stdout, sys.stderr):
                    print("more than is held back " * 1000, file=stream)
                    print("a line", file=stream, flush=True)
                    print("held back to the end", file=stream)
            assert (sys.stdout, sys.stderr) == (pipe, full)


def test_a_method_that_closes_a_stream_harms_nobody(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with unfailing():
        sys.stdout.close()
        print("still here")
    assert stream.getvalue() == "still here\n"
    with unfailing():
        stream.close()  # behind it
        print("nowhere")
        sys.stdout.flush()
    assert sys.stdout is stream


def test_blocks_that_overlap_leave_the_streams_as_they_were():
    before = sys.stdout, sys.stderr
    first, second = unfailing(), unfailing()
    for block in (first, second):
        block.__enter__()
    for block in (first, second):  # as those of two threads of a worker
        assert sys.stdout is not before[0]
        block.__exit__(None, None, None)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("command", ["plugins", "--help", "--version", "inspect MOVIE"])
def test_a_full_disk_behind_the_output_is_one_message(small_czi, command):
    words = command.replace("MOVIE", str(small_czi)).split()
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "pyama_dask", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 4
    assert ended.stderr == "pyama-dask: standard output: cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "streams"),
    [("serial", "0<&- 1>&- 2>&-"), ("serial", ">/dev/full 2>/dev/full"), ("local", "2>&1 | head -c 1")],
)
def test_a_run_ends_as_it_would_whatever_becomes_of_its_output(small_czi, tmp_path, kind, streams):
    noisy = tmp_path / "noisy.py"
    noisy.write_text("def same(frame):\n    print('x' * 9000)\n    return frame\n")
    changes = {"params": {"preprocess": [f"{noisy}:same"]}, "cluster": {"kind": kind, "workers": 1}}
    run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out", changes))
    command = f"{sys.executable} -m pyama_dask run {run_yaml} --frames 0-2 --fovs 0 {streams}; exit ${{PIPESTATUS[0]}}"
    with started("bash", "-c", command) as shell:
        assert shell.wait(60) == 0
    lines = (tmp_path / "out" / ".pyama_dask" / "ledger.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
