"""A run of an output that is complete reads the records of each FOV a few times only, however many FOVs there are."""

from collections import Counter
from functools import partialmethod

import pytest
from support.movies import config

import pyama_dask
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import FovRecords
from pyama_dask.workflow.task import parse_key

PASSES = 4
"""To find what is left, to look at documents, to report, and for the page."""


@pytest.fixture
def read_again(monkeypatch):
    """How often each receipt is read from the ledger for the records of its FOV, of which those of one are held."""
    counts, take = Counter(), FovRecords.take

    def counted(self, fov, entry, record=None):
        if record is None and "done" in entry and parse_key(entry["done"]["key"]).fov == fov:
            counts[entry["done"]["key"]] += 1
        take(self, fov, entry, record)

    monkeypatch.setattr(FovRecords, "take", counted)
    monkeypatch.setattr(Ledger, "__init__", partialmethod(Ledger.__init__, recent=1))
    return counts


@pytest.mark.usefixtures("with_pages")
def test_records_are_read_once_by_each_part_of_a_run(small_czi, copied, read_again):
    report = pyama_dask.run(config(small_czi, copied))
    assert (report.tasks, report.exit_status) == (0, 0)
    assert report.page
    assert {parse_key(key).fov for key in read_again} == {0, 1}
    assert len(read_again) == Ledger(copied / ".pyama_dask/ledger.jsonl").receipts
    assert max(read_again.values()) <= PASSES, read_again
