"""Ranks from histograms of codes, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from gatescope.engine import launch_cuda
from gatescope.engine.ranks import ascending_codes, code_values
from gatescope.engine.ranks_cuda import count_codes, look_up_codes, look_up_ranks, sorted_ranks, transposed_codes


def all_codes(dtype):
    """Every finite number of a 16-bit type, some of them many times, as codes [2, N] and values."""
    codes = np.arange(2**16, dtype=np.uint16)
    values = torch.from_numpy(codes.view(np.int16)).view(dtype).to(torch.float64).numpy()
    codes = codes[np.isfinite(values)]
    generator = np.random.default_rng(0)
    # Runs of equal neighbours, as in saturated units.
    codes = np.concatenate([generator.permutation(codes), np.repeat(codes[generator.integers(0, len(codes), 50)], 37)])
    codes = np.stack([codes, generator.permutation(codes)])
    return codes, torch.from_numpy(codes.view(np.int16)).view(dtype).to(torch.float64).numpy()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_ranks_of_every_16_bit_number_are_exact(device, dtype, weighted):
    codes, values = all_codes(dtype)
    weight = np.random.default_rng(1).integers(1, 4, codes.shape[1]).astype(np.float64) if weighted else None
    mass = count_codes(device.xp, device(codes), device(weight))
    assert (mass.sum(axis=1).get() == (codes.shape[1] if weight is None else weight.sum())).all()
    table = code_values(np.dtype(np.float16) if dtype == torch.float16 else dtype)[ascending_codes()]
    finite = np.isfinite(table)
    assert (np.diff(table[finite]) >= 0).all()
    ranks = mass.cumsum(axis=1) - 0.5 * mass
    bins = device(np.tile(np.arange(2**16, dtype=np.uint16), (2, 1)))
    values_of = device(np.tile(np.where(finite, table, 0.0), (2, 1)))
    row_ranks, row_bins, row_values = look_up_codes(device.xp, device(codes), ranks, bins, values_of)
    np.testing.assert_array_equal(row_values.get(), values)
    np.testing.assert_array_equal(look_up_ranks(device.xp, device(codes), ranks).get(), row_ranks.get())
    np.testing.assert_array_equal(table[row_bins.get()], values)
    for unit in range(2):
        np.testing.assert_array_equal(row_ranks[unit].get(), exact_ranks(values[unit], weight))


@pytest.mark.parametrize("shared_bytes", [0, 99 * 2**10, 227 * 2**10])
@pytest.mark.parametrize("n_multiprocessors", [1, 100])
def test_codes_are_counted_in_any_parts_by_any_number_of_blocks(device, monkeypatch, shared_bytes, n_multiprocessors):
    monkeypatch.setattr(launch_cuda, "limits", lambda xp: (n_multiprocessors, shared_bytes))
    codes = np.random.default_rng(3).integers(0, 2**16, (2, 30_001)).astype(np.uint16)
    # Zero has two codes; the second unit is saturated and has one.
    codes[0, ::3], codes[0, 1::5], codes[1] = 2**15, 0, 0x3C00
    mass = count_codes(device.xp, device(codes), None).get()
    codes[codes == 2**15] = 0
    for unit in range(2):
        np.testing.assert_array_equal(mass[unit], np.bincount(codes[unit], minlength=2**16)[ascending_codes()])


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (130, 65), (500, 20), (5, 200)])
def test_codes_are_transposed(device, monkeypatch, shape):
    # With two blocks only, some blocks go on to further rows.
    monkeypatch.setattr(launch_cuda, "MOST_BLOCKS", 2)
    codes = np.random.default_rng(4).integers(0, 2**16, shape).astype(np.uint16)
    columns = transposed_codes(device.xp, device(codes))
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(columns.get(), codes.T)


def exact_ranks(values, weight):
    """SciPy counts from 1, we put half of a value's own weight below it; weights are whole numbers."""
    if weight is None:
        return rankdata(values) - 0.5
    ascending = np.sort(np.repeat(values, weight.astype(int)))
    return (np.searchsorted(ascending, values) + np.searchsorted(ascending, values, side="right")) / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("weighted", [False, True])
def test_ranks_by_sorting_are_exact(device, dtype, weighted):
    generator = np.random.default_rng(2)
    values = (generator.normal(size=500) * 20).astype(np.int16).astype(dtype)
    weight = generator.integers(1, 4, 500).astype(np.float64) if weighted else None
    ranks = sorted_ranks(device.xp, device(values), device(weight))
    np.testing.assert_array_equal(ranks.get(), exact_ranks(values, weight))
