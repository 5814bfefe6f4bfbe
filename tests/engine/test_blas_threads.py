"""Threads of the BLAS libraries during passes over rows, and after them."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gatescope.engine.blas_threads import _blas_libraries, _set_threads, on_all_cores, thread_count
from gatescope.engine.row_blocks import RowBlocks


@pytest.fixture(autouse=True)
def two_threads():
    """The BLAS libraries have two threads, even where the environment gives each test process one."""
    shared, own = _blas_libraries()
    libraries = [*shared, *own]
    before = [library.num_threads for library in libraries]
    _set_threads(libraries, [2] * len(libraries))
    if thread_count() < 2:
        pytest.skip("one core")
    yield
    _set_threads(libraries, before)


def test_overlapping_fits_restore_the_thread_count():
    """The limit holds for the whole process: the first fit lowers it, and whichever ends last restores it."""
    before, inside, first_left = thread_count(), threading.Event(), threading.Event()
    X, counts = np.zeros((4, 2)), []

    def second():
        with RowBlocks(X, np.float64) as rows:
            counts.append(rows.n_threads)
            inside.set()
            first_left.wait(60)
            counts.append(thread_count())

    with RowBlocks(X, np.float64) as rows:
        counts.append(rows.n_threads)
        # Inside the first fit, BLAS has one thread.
        assert thread_count() == 1
        other = threading.Thread(target=second)
        other.start()
        inside.wait(60)
    first_left.set()
    other.join()
    assert counts == [before, before, 1] and thread_count() == before


def test_fits_work_while_another_thread_limits_the_libraries():
    seen = []

    def fit():
        with RowBlocks(np.zeros((4, 2)), np.float64):
            seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=fit)
        other.start()
        other.join()
        assert set(seen) == {1} and thread_count() == 2


def test_a_finished_thread_lets_others_limit_the_libraries():
    """A thread that is done fitting but still runs, as in a server's pool, must not keep the limit to itself."""
    fitted, limited = threading.Event(), threading.Event()

    def fit():
        with RowBlocks(np.zeros((4, 2)), np.float64):
            pass
        fitted.set()
        limited.wait(60)

    other = threading.Thread(target=fit)
    other.start()
    fitted.wait(60)
    with threadpool_limits(1, user_api="blas"):
        counted = thread_count()
    limited.set()
    other.join()
    assert counted == 1 and thread_count() > 1


def test_work_on_all_cores_has_single_threaded_blas_and_keeps_its_order():
    together, before = threading.Barrier(2, timeout=60), thread_count()

    def work(number):
        # Two items are worked on at a time.
        together.wait()
        return number, thread_count()

    assert on_all_cores(work, range(4)) == [(number, 1) for number in range(4)]
    assert thread_count() == before
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda number: 1 / number, [1, 0])
    assert thread_count() == before
