"""Threads of the BLAS libraries while fits pass over rows, and after them."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gatescope.engine.blas_threads import thread_count
from gatescope.engine.row_blocks import RowBlocks


def test_fits_that_overlap_leave_the_threads_as_they_were():
    """The limit of the BLAS libraries is the process's: the first lowers it and the last, whichever, restores it."""
    if thread_count() < 2:
        pytest.skip("one core")
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
        # Within it, what begins another has one core.
        assert thread_count() == 1
        other = threading.Thread(target=second)
        other.start()
        inside.wait(60)
    first_left.set()
    other.join()
    assert counts == [before, before, 1] and thread_count() == before


def test_another_thread_that_limits_the_libraries_is_no_hindrance():
    if thread_count() < 2:
        pytest.skip("one core")
    seen = []

    def fit():
        with RowBlocks(np.zeros((4, 2)), np.float64):
            seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=fit)
        other.start()
        other.join()
        assert set(seen) == {1} and thread_count() == 2
