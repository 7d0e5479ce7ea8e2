"""What a scheduler of our own keeps of the tasks of a run."""

import logging

import pytest
from distributed.scheduler import DEFAULT_EXTENSIONS

from pyama_dask.config.cluster import Cluster
from pyama_dask.launch import local_cluster

LOCAL = Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")


def test_the_name_of_dask_that_is_replaced_exists():
    assert "spans" in DEFAULT_EXTENSIONS


@pytest.mark.parametrize("with_spans", [True, False], ids=["as it is", "a version without spans"])
def test_nothing_of_a_submission_stays_in_the_spans_of_the_scheduler(monkeypatch, with_spans):
    if not with_spans:
        monkeypatch.delitem(DEFAULT_EXTENSIONS, "spans")
    with local_cluster(LOCAL) as client:
        assert client.gather(client.map(abs, [-1, -2, -3])) == [1, 2, 3]
        assert not client.cluster.scheduler.extensions["spans"]
        assert not hasattr(client.cluster.scheduler.extensions["spans"], "spans")


def test_connections_that_end_late_are_not_told_of():
    """Dask tells of them at the level INFO, with a traceback, when the cluster does not silence it any more."""
    with local_cluster(LOCAL):
        pass
    assert not logging.getLogger("distributed.batched").isEnabledFor(logging.INFO)
