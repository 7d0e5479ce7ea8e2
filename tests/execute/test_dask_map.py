"""Map over batches on the workers of a Dask client."""

import itertools
import threading
from types import SimpleNamespace

import pytest
from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError

from pyama_dask.errors import ClusterError
from pyama_dask.execute.batch_map import SerialMap
from pyama_dask.execute.dask_map import LOSSES, DaskMap
from pyama_dask.execute.workers import FETCHING, Workers


def test_two_at_a_time_on_one_scheduler_get_each_their_own(client, cluster):
    with Client(cluster) as other:
        mine, theirs = (DaskMap(Workers(one)).map("say", str.upper, said, threading.Event()) for one, said in (
            (client, "abcdef"), (other, "uvwxyz"),
        ))  # fmt: skip
        found = [next(mine)], [next(theirs)]  # what both have handed out is known to the scheduler
        found[0].extend(mine)
        found[1].extend(theirs)
    assert [dict(of) for of in found] == [dict(enumerate("ABCDEF")), dict(enumerate("UVWXYZ"))]


def test_what_is_lost_when_it_is_done_is_asked_for_again(client, monkeypatch):
    fetch, waited, cancel = Future.result, [], threading.Event()

    def late(future, timeout):
        waited.append(timeout)
        if len(waited) == 3:
            cancel.set()
        if len(waited) < 5:
            raise TimeoutError
        return fetch(future, timeout)

    monkeypatch.setattr(Future, "result", late)
    cancelled = DaskMap(Workers(client)).map("say", str.upper, "a", cancel)
    assert list(cancelled) == []  # although the result was never there
    assert list(DaskMap(Workers(client)).map("say", str.upper, "a", threading.Event())) == [(0, "A")]
    assert waited == [FETCHING] * 5


def test_a_function_that_times_out_has_failed(client):
    with pytest.raises(TimeoutError, match="a link"):
        list(DaskMap(Workers(client)).map("say", timed_out, "a", threading.Event()))


def test_what_is_cancelled_ends_it_with_what_to_do(client, monkeypatch):
    def cancelled(future, timeout):
        raise FutureCancelledError(future.key, "lost", client)

    monkeypatch.setattr(Future, "result", cancelled)
    with pytest.raises(ClusterError, match="say 0: the batch was cancelled, as the Dask scheduler is gone or another"):
        list(DaskMap(Workers(client)).map("say", str.upper, "a", threading.Event()))


def test_nothing_is_handed_out_to_a_scheduler_that_is_gone(cluster):
    client = Client(cluster, set_as_default=False)  # closed once: a second time would leave Dask's settings changed
    going = DaskMap(Workers(client)).map("say", str.upper, "abcdefghi", threading.Event())
    next(going)
    client.close()
    with pytest.raises(ClusterError, match="scheduler is gone"):
        list(going)


def timed_out(item):
    raise TimeoutError("a link")


def test_batches_that_lose_too_many_workers_end_with_the_reason(client, monkeypatch):
    lost = itertools.count(1)

    def killed(future, timeout):
        next(lost)
        raise KilledWorker(future.key, SimpleNamespace(address="tcp://127.0.0.1:1", name=7), 0)

    monkeypatch.setattr(Future, "result", killed)
    with pytest.raises(ClusterError, match=rf"say 0: {LOSSES + 1} workers were lost during this batch .the reason is"):
        list(DaskMap(Workers(client)).map("say", str.upper, "a", threading.Event()))
    assert next(lost) == LOSSES + 2


def test_the_map_in_this_process_stops_when_it_is_cancelled():
    cancel, found = threading.Event(), []
    for number, result in SerialMap().map("say", str.upper, "abc", cancel):
        found.append((number, result))
        if number == 1:
            cancel.set()
    assert found == [(0, "A"), (1, "B")]
