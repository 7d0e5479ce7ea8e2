import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError

import pytest

from pyama_dask.files.threads import Threads

LATE = """
import threading
from pyama_dask.files.threads import Threads

used = Threads(1, "used")
used.submit(int).result()

def late():
    threading.main_thread().join()
    with Threads(2, "new") as new:
        print([*used.map(abs, [-1, 2]), *new.map(abs, [-3, 4])])

threading.Thread(target=late).start()
"""
"""A program in which a thread has work for others after the main thread has ended."""


def test_results_come_in_order_from_no_more_threads_than_said():
    both, names = threading.Barrier(2), set()

    def work(k):
        names.add(threading.current_thread().name)
        if k < 2:
            both.wait(30)
        return k * k

    with Threads(2, "some") as threads:
        assert list(threads.map(work, range(20))) == [k * k for k in range(20)]
    assert names == {"some_0", "some_1"}
    assert not [thread for thread in threading.enumerate() if thread.name in names]


def test_one_thread_is_enough_for_one_after_the_other():
    with Threads(8, "some") as threads:
        for _ in range(20):
            threads.submit(int).result()
            while not threads._idle._value:
                pass
        assert len(threads._threads) == 1


def test_an_error_is_that_of_the_result_and_holds_nothing_longer():
    class Large:
        pass

    def fail(_large):
        raise ValueError("no")

    large = Large()
    gone = weakref.ref(large)
    with Threads(1, "some") as threads:
        future = threads.submit(fail, large)
        with pytest.raises(ValueError, match="no"):
            future.result()
        assert threads.submit(abs, -1).result() == 1
        del large, future
        assert gone() is None


def test_work_that_has_not_begun_can_be_cancelled():
    begun, go_on = threading.Event(), threading.Event()

    def first():
        begun.set()
        return go_on.wait(30)

    threads = Threads(1, "some")
    done, left = threads.submit(first), threads.submit(int)
    assert begun.wait(30)
    threads.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    threads.shutdown()
    assert done.result()
    with pytest.raises(CancelledError):
        left.result()
    with pytest.raises(RuntimeError, match="some take no more work"):
        threads.submit(int)


def test_they_work_after_the_main_thread_has_ended():
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("[1, 2, 3, 4]\n", "")
