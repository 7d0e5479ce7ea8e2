"""``pyama-dask top``: once, as JSON, and on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from support.live_outputs import NOW, MadeRun
from support.processes import wait_until

from pyama_dask.store.lock_file import lock_path


@pytest.fixture
def made(tmp_path):
    """A run that this process holds the lock of."""
    made = MadeRun(tmp_path / "out")
    made.done(*made.tasks(0), begun=time.time() - 50)
    made.lock(now=time.time())
    made.record(started=time.time() - 60)
    return made


def test_it_prints_the_state_once_without_a_terminal(made, call):
    status, said, error = call("top", made.output)
    assert (status, error) == (0, "")
    assert "8 of 24 tasks, 33 %" in said
    assert "FOVs: 1 done, 2 to do" in said
    assert "\x1b" not in said
    assert call("top", made.output, "--once")[1].splitlines()[3:12] == said.splitlines()[3:12]


def test_json_has_every_part_of_the_state(made, call):
    status, said, _ = call("top", made.output, "--once", "--json")
    document = json.loads(said)
    assert status == 0
    assert (document["version"], document["state"], document["tasks_done"]) == (1, "running", 8)
    assert document["fovs"][0] == {"fov": 0, "name": "Pos0", "state": "done", "tasks": 8, "tasks_done": 8}
    assert document["fov_counts"] == {"done": 1, "to do": 2}


def test_a_folder_without_a_run_is_one_message(tmp_path, call):
    status, said, error = call("top", tmp_path)
    assert (status, said) == (2, "")
    assert error.startswith(f"pyama-dask: {tmp_path}: holds no run of pyama_dask")
    assert error.count("\n") == 1


class Terminal:
    """The program on a terminal of 80 columns."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "pyama_dask", *map(str, arguments)]
        env = os.environ | {"COLUMNS": "80", "LINES": "30", "TERM": "xterm-256color"}
        self.program = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.bytes = b""

    def read(self):
        with suppress(OSError):  # nothing new, or the program is over
            while new := os.read(self.master, 65536):
                self.bytes += new
        return self.shown

    @property
    def shown(self):
        return self.bytes.decode(errors="ignore")

    def end(self):
        status = self.program.wait(30)
        self.read()
        os.close(self.master)
        return status


def test_on_a_terminal_it_follows_the_run_to_its_end(made):
    terminal = Terminal("top", made.output, "--every", 0.2)
    wait_until(lambda: "8 of 24 tasks" in terminal.read())
    made.done(*made.tasks(1))
    wait_until(lambda: "16 of 24 tasks" in terminal.read())
    lock_path(made.output).unlink()
    wait_until(lambda: "no run is active" in terminal.read())
    assert terminal.end() == 0
    assert terminal.shown.rindex("\x1b[?1049l") < terminal.shown.rindex("no run is active")  # on the screen as before


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(made):
    terminal = Terminal("top", made.output)
    wait_until(lambda: "8 of 24 tasks" in terminal.read())
    terminal.program.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")
    assert "8 of 24 tasks" in terminal.shown[terminal.shown.rindex("\x1b[?1049l") :]


def test_of_several_movies_in_a_folder(call, tmp_path):
    for name in ("night1", "night2"):
        made = MadeRun(tmp_path / name, fovs=2)
        made.done(*made.tasks(0), begun=NOW - 400)
    made.done(*made.tasks(1), begun=NOW - 300)
    other = MadeRun(tmp_path / "night3", fovs=1)
    other.failed(other.tasks(0)[0], "it is dark")
    status, said, _ = call("top", tmp_path)
    lines = said.splitlines()
    assert (status, [line.split()[0] for line in lines[:3]]) == (0, ["night1", "night2", "night3"])
    assert re.search(r" 50 %  .*; FOVs: 1 done, 1 to do$", lines[0])
    assert re.search(r" 100 %  .*; FOVs: 2 done$", lines[1])
    assert lines[3] == "night3: FOV 0: it is dark"
    found = json.loads(call("top", tmp_path, "--json")[1])
    assert [document["fov_counts"] for document in found][:2] == [{"done": 1, "to do": 1}, {"done": 2}]
