"""Subprocesses of tests: every wait has a limit, and nothing that a test starts outlives it."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import psutil


def worker_processes():
    """Processes of all workers that were started by this process and are alive."""
    me, found = psutil.Process(), set()
    for child in me.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if child.ppid() != me.pid and "multiprocessing.forkserver" in " ".join(child.cmdline()):
                found.add(child)
    return found


def use_default_signals():
    """Give SIGINT and SIGHUP their default effect on subprocesses.

    Whoever starts the tests may ignore them: ``nohup`` does, and a shell script that uses ``&``. Subprocesses inherit
    that, but not handlers. The handler of SIGHUP does nothing, so that ``nohup`` still protects the tests themselves.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def wait_until(true, seconds=30.0):
    """Wait until a condition holds; fail after some seconds."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.01)


@contextmanager
def started(*command, **options):
    """Start a program in a session of its own, and kill what is left of the session at the end.

    Parameters
    ----------
    *command
        Program and arguments.
    **options
        Of `subprocess.Popen`.

    Yields
    ------
    program : subprocess.Popen
        Its streams are text.
    """
    program = subprocess.Popen([str(word) for word in command], text=True, start_new_session=True, **options)
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(program.pid, signal.SIGKILL)
        for stream in filter(None, (program.stdin, program.stdout, program.stderr)):
            with suppress(BrokenPipeError):
                stream.close()
        program.wait(10)


def end_of(process, seconds=30.0):
    """Exit status of a `multiprocessing.Process` that ends by itself; None if it had to be killed after some seconds.

    A fork of a process with threads may deadlock.
    """
    process.join(seconds)
    ended = process.exitcode
    process.kill()
    process.join()
    return ended


def exit_status(child, seconds=30.0):
    """Exit status of a forked child process, which is killed after some seconds.

    Parameters
    ----------
    child : int
        Number of the process.
    seconds : float
        Time limit: a fork of a process with threads may deadlock.

    Returns
    -------
    int
        As of `subprocess.Popen.returncode`.
    """
    until = time.monotonic() + seconds
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(found[1])
