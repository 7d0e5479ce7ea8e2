"""Strikes a process of a run at a chosen moment; Python imports it at the start of every process that finds it.

``CHAOS_AT=moment:number:action:token`` names the moment (see `MOMENTS`), at which of its occurrences in all processes
together, what is done then (see `ACTIONS`), and a file that counts the occurrences; when the blow falls, the file
``token.struck`` is made. Without the variable nothing happens. Most moments are seen by the names of the files that are
written (audit events and `os.write`), as those are what the package promises, and not how it is written.
"""
# It is imported by every process before all else, and leaves out what would change its start, such as pathlib.
# ruff: noqa: PTH115

import ctypes
import errno
import importlib.abc
import importlib.util
import os
import re
import signal
import sys
from functools import wraps

RENAMED = {
    "config": r"/processing_config\.yaml$",
    "plan": r"/plan\.json$",
    "create": r"/fov_\d+/(?!cells)\w+\.zarr/\w+/\w+/zarr\.json$",
    "table": r"/\w+_b\d+\.npz$",
    "cells": r"/cells\.zarr(\.zip)?$",
    "traces": r"_traces\.csv$",
    "own table": r"/fov_\d+/\w+_fov_\d+_(spots_\w+|shifts|\w+_drift)\.csv$",
    "well table": r"/wells/\w+\.csv$",
    "report": r"/report\.json$",
}
"""About to be put in its place: the whole file or store lies beside it."""
REMOVED = {"parts": r"/crops_\w+\.npy$", "discard": r"/c\.\d+\.0\.0$"}
"""About to be removed."""
OPENED = {"lock": r"/\.pyama_dask/lock$"}
"""About to be made."""
WRITTEN = {
    "ledger": "half of a line of the ledger is on disk",
    "record": "a receipt is about to be written to the ledger",
    "recorded": "a receipt has been written to the ledger, and is not flushed",
    "void": "steps have been taken back in the ledger, and their files are there",
    "cancel": "the run was interrupted, and gives up its lock",
}
CALLED = {
    "shard": ("pyama_dask.files.paged", "AppendedFile.append"),
    "torn": ("pyama_dask.files.paged", "AppendedFile.finish"),
    "crop": ("pyama_dask.store.crops", "CellsWriter.crop"),
}
"""In the middle of a shard's write, with half a shard in its place, and between two cells of a store."""
MOMENTS = {*RENAMED, *REMOVED, *OPENED, *WRITTEN, *CALLED}

os_write = os.write


# ------------------------------------------------------------------------------------------------ actions


def fill() -> None:
    """Take all the space that is left where the output is."""
    file = os.open(f"{os.environ['CHAOS_MOUNT']}/filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (2**20, 2**12, 1):
        try:
            while True:
                os_write(file, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    os.close(file)


def lock_up() -> None:
    """Let nothing more be written where the output is, but to files that are open: a bind mount on top of it."""
    mount, where = ctypes.CDLL(None, use_errno=True).mount, os.environ["CHAOS_MOUNT"].encode()
    bind, remount, read_only = 4096, 32, 1
    for flags in (bind, bind | remount | read_only):
        if mount(where, where, None, flags, None):
            raise OSError(ctypes.get_errno(), "cannot be mounted")


ACTIONS = {
    "self": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "group": lambda: os.killpg(0, signal.SIGKILL),
    "fill": fill,
    "readonly": lock_up,
}


class Blow:
    """What falls once, at the chosen occurrence of the moment."""

    def __init__(self, moment: str, number: str, action: str, token: str) -> None:
        self.moment, self.number, self.token = moment, int(number), token
        self.action = ACTIONS[action]

    def due(self) -> bool:
        """Count an occurrence, and say whether it is the chosen one."""
        counted = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os_write(counted, b".")
            return os.lseek(counted, 0, os.SEEK_CUR) == self.number  # where this byte went, whoever else appends
        finally:
            os.close(counted)

    def fall(self) -> None:
        """Strike."""
        os.close(os.open(f"{self.token}.struck", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        self.action()


# ------------------------------------------------------------------------------------------------ moments


def watch_files(blow: Blow, event: str, pattern: str) -> None:
    """Strike when a file of a name is about to be renamed to, removed or opened."""
    place = {"os.rename": 1, "open": 0, "os.remove": 0}[event]

    def hook(happens: str, given: tuple) -> None:
        if happens != event or not isinstance(given[place], str | bytes | os.PathLike):
            return  # another event, or a file that is open already
        if re.search(pattern, os.fsdecode(given[place])) and blow.due():
            blow.fall()

    sys.addaudithook(hook)


def watch_ledger(blow: Blow) -> None:
    """Strike when a line is written to the ledger."""
    kind = b'{"void"' if blow.moment == "void" else b'{"done"'

    def write(file: int, content: bytes) -> int:
        if bytes(content[:7]) != kind or not os.readlink(f"/proc/self/fd/{file}").endswith("/ledger.jsonl"):
            return os_write(file, content)
        due = blow.due()
        if due and blow.moment == "ledger":
            written = os_write(file, content[: len(content) // 2])
            blow.fall()
            return written
        if due and blow.moment == "record":
            blow.fall()
            due = False
        written = os_write(file, content)
        if due and blow.moment == "cancel":
            os.kill(os.getpid(), signal.SIGINT)
            blow.number = 1
            blow.token += ".unlock"
            watch_files(blow, "os.remove", r"/lock$")
        elif due:
            blow.fall()
        return written

    os.write = write


def during_shard(blow: Blow, append):
    """Strike while a shard is written, when its temporary file has content."""

    @wraps(append)
    def wrapper(file, content):
        append(file, content)
        if file.size and blow.due():
            blow.fall()

    return wrapper


def after_half_a_shard(blow: Blow, finish):
    """Strike with half a shard in its place, as a file system may leave it that has lost its power."""

    @wraps(finish)
    def wrapper(file):
        recorded = finish(file)
        if blow.due():
            os.truncate(file.path, recorded[0] // 2)
            blow.fall()
        return recorded

    return wrapper


def between_cells(blow: Blow, crop):
    """Strike before a cell is written."""

    @wraps(crop)
    def wrapper(*given):
        if blow.due():
            blow.fall()
        return crop(*given)

    return wrapper


WRAPPERS = {"shard": during_shard, "torn": after_half_a_shard, "crop": between_cells}


class AfterImport(importlib.abc.MetaPathFinder):
    """Wraps one function of a module as soon as the module has been imported."""

    def __init__(self, blow: Blow) -> None:
        self.blow = blow
        self.module, self.name = CALLED[blow.moment]

    def find_spec(self, fullname, path, target=None):
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            *parents, name = self.name.split(".")
            owner = getattr(module, parents[0]) if parents else module
            setattr(owner, name, WRAPPERS[self.blow.moment](self.blow, getattr(owner, name)))

        spec.loader.exec_module = exec_module
        return spec


def arm(blow: Blow) -> None:
    """Wait for the moment."""
    for event, names in (("os.rename", RENAMED), ("os.remove", REMOVED), ("open", OPENED)):
        if blow.moment in names:
            watch_files(blow, event, names[blow.moment])
    if blow.moment in WRITTEN:
        watch_ledger(blow)
    if blow.moment in CALLED:
        sys.meta_path.insert(0, AfterImport(blow))


if "CHAOS_AT" in os.environ:
    arm(Blow(*os.environ["CHAOS_AT"].split(":", 3)))
