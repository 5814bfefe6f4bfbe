"""How the kernels that count in shared memory are launched."""

from __future__ import annotations

import pytest

from gatescope.engine.launch_cuda import COUNTING_THREADS, layout, shared_size

KILOBYTE = 2**10


@pytest.mark.parametrize(("shared_bytes", "n_parts"), [(227, 1), (163, 1), (99, 2), (64, 4), (48, 4), (0, 4)])
def test_counters_are_split_until_they_fit(shared_bytes, n_parts):
    assert layout(2**15, 10**6, 32, 132, shared_bytes * KILOBYTE)[0] == n_parts
    assert shared_size(2**15 // n_parts) <= max(shared_bytes, 48) * KILOBYTE
    assert layout(2**16, 10**6, 32, 132, shared_bytes * KILOBYTE)[0] == 2 * n_parts


def test_blocks_fill_the_gpu_and_have_rows_for_each_thread():
    for n_histograms in (1, 5, 32, 128):
        n_parts, n_blocks = layout(2**16, 10**6, n_histograms, 132, 227 * KILOBYTE)
        assert 132 <= n_blocks * n_histograms * n_parts <= 2 * 132
    assert layout(2**15, 10**6, 1000, 132, 227 * KILOBYTE) == (1, 1)
    assert layout(2**15, 5, 1, 132, 227 * KILOBYTE) == (1, 1)
    assert layout(2**15, 2 * COUNTING_THREADS + 1, 1, 132, 227 * KILOBYTE) == (1, 3)


def test_no_block_counts_more_rows_than_a_counter_holds():
    _, n_blocks = layout(2**15, 2**33, 1000, 132, 227 * KILOBYTE)
    assert 2**33 / n_blocks < 2**32
