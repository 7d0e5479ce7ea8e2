"""What a message says of a disk that is full."""

import errno
import os
import shutil
from types import SimpleNamespace

import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import DiskError
from pyama_dask.runs.disk_space import with_amounts
from pyama_dask.store.ledger import Ledger

FULL, READ_ONLY = os.strerror(errno.ENOSPC), os.strerror(errno.EROFS)
INODES = ", but no further file (its inodes are used up)"
FREED = ". If that is enough for the crops, too, its inodes or a quota were used up: see 'df -i'"


@pytest.mark.parametrize(
    ("reason", "free", "inodes", "said"),
    [(FULL, 2**10, 9, ""), (FULL, 2**40, 0, INODES), (FULL, 2**40, 9, FREED), (READ_ONLY, 2**40, 9, "")],
)
def test_what_is_used_up(tmp_path, monkeypatch, reason, free, inodes, said):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=2**41, free=free))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_favail=inodes, f_files=100))
    plan = plan_of(movie(), output=str(tmp_path / "out"))
    told = str(with_amounts(DiskError(f"out: {reason}"), plan, Ledger(tmp_path / "ledger.jsonl")))
    assert told.startswith(f"out: {reason}; about ")
    assert told.endswith(f" are free{said}")
