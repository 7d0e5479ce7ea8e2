"""Tasks that are wanted only while their run holds the lock and is not cancelled."""

from dataclasses import replace

import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import CancelledError
from pyama_dask.steps import run_task
from pyama_dask.store.cancel import check_wanted, stop_tasks
from pyama_dask.store.lock import locked


def test_tasks_of_a_run_without_a_name_are_always_wanted(job):
    check_wanted(replace(job, run=""))


def test_tasks_are_wanted_while_their_run_holds_the_lock(tmp_path, path, job):
    with pytest.raises(CancelledError, match="is over"):
        check_wanted(job)
    with locked(tmp_path, "mine"):
        check_wanted(job)
        with pytest.raises(CancelledError, match="another run has started"):
            check_wanted(replace(job, run="earlier"))
        path.write_text("")
        with pytest.raises(CancelledError, match="another run is starting"):
            check_wanted(job)


def test_tasks_of_one_run_are_not_stopped_by_another(tmp_path, job):
    with locked(tmp_path, "mine"):
        stop_tasks(tmp_path, "earlier")
        check_wanted(job)
        stop_tasks(tmp_path, "mine")
        with pytest.raises(CancelledError, match="was cancelled"):
            check_wanted(job)
    stop_tasks(tmp_path, "mine")


def test_a_task_that_is_not_wanted_does_not_begin(tmp_path, job):
    with pytest.raises(CancelledError):
        run_task(plan_of(movie()).tasks[0], job)
    assert list(tmp_path.iterdir()) == []
