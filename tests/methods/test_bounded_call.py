"""Calls on trial: what users are told of slow ones, and of those that crash."""

import logging
import signal
import subprocess
import sys
import time

from pyama_dask.methods import bounded_call
from pyama_dask.methods.bounded_call import Allowance


def test_slow_calls_are_reported_once_while_they_run(monkeypatch, caplog):
    monkeypatch.setattr(bounded_call, "SLOW", 0.05)
    allowance = Allowance(5.05, "pipelines.p.f: f.py:f")
    with caplog.at_level(logging.WARNING):
        assert allowance.call(lambda: 7) == 7
        assert not caplog.messages
        for _ in range(2):
            allowance.call(lambda: time.sleep(0.2))
    (message,) = caplog.messages
    assert message.startswith("pipelines.p.f: f.py:f is tried on synthetic data; if it does not end in ")
    assert message.split()[-5] in ("4", "5")


CRASH = """
import ctypes
from pyama_dask.methods.bounded_call import Allowance

def crashes():
    ctypes.string_at(0)

Allowance(5, "f").call(crashes)
"""


def test_a_crash_names_the_line_that_led_to_it():
    ended = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode < 0
    assert "Segmentation fault" in ended.stderr
    assert "line 6 in crashes" in ended.stderr


KILLED = """
import os, signal
from pyama_dask.methods.last_words import named_if_killed

with named_if_killed("pipelines.p.calm: f.py:calm"):
    pass
with named_if_killed("pipelines.p.f: f.py:f"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_function_that_kills_the_program_is_named():
    script = [sys.executable, "-c", KILLED]
    ended = subprocess.run(script, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stderr.startswith("pyama-dask: pipelines.p.f: f.py:f was being tried on synthetic data when the ")
    assert ended.stderr.count("\n") == 1
