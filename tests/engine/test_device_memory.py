"""CuPy uses torch's memory and torch's stream; states are copied to a GPU in pieces."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from gatescope.engine import device_memory
from gatescope.engine.arrays import as_rows
from gatescope.engine.device_memory import copied_to_gpu, torch_memory
from gatescope.engine.row_blocks import RowBlocks


@pytest.mark.cuda
def test_memory_comes_from_torch_and_outlives_the_context():
    cupy = pytest.importorskip("cupy")
    array = cupy.zeros(1)
    torch.cuda.synchronize()
    before, own = torch.cuda.memory_allocated(), cupy.get_default_memory_pool().used_bytes()
    with torch_memory(array):
        kept = cupy.arange(2**20, dtype=np.float64)
        assert torch.cuda.memory_allocated() >= before + kept.nbytes
        assert cupy.get_default_memory_pool().used_bytes() == own
    assert float(kept.sum()) == 2**20 * (2**20 - 1) / 2
    del kept
    assert torch.cuda.memory_allocated() == before


@pytest.mark.cuda
def test_an_array_in_a_reference_cycle_is_freed_after_the_context():
    cupy = pytest.importorskip("cupy")
    array = cupy.zeros(1)
    gc.collect()
    before = torch.cuda.memory_allocated()
    with torch_memory(array):
        # The memory object of a view may be younger than the array it is a view of.
        cycles = [[part(cupy.zeros(2**20))] for part in (lambda whole: whole, lambda whole: whole[1:], cupy.transpose)]
    for cycle in cycles:
        cycle.append(cycle)
    del cycle, cycles
    gc.collect()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.cuda
def test_work_is_on_torchs_stream():
    cupy = pytest.importorskip("cupy")
    with torch.cuda.stream(torch.cuda.Stream()), torch_memory(cupy.zeros(1)):
        assert cupy.cuda.get_current_stream().ptr == torch.cuda.current_stream().cuda_stream


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_is_not_copied(dtype):
    X = torch.randn(64, 8, device="cuda").to(dtype)
    rows = as_rows(X)
    pointer = rows.data_ptr() if isinstance(rows, torch.Tensor) else rows.data.ptr
    assert pointer == X.data_ptr()
    with RowBlocks(rows, np.float64) as blocks:
        (total,) = blocks.totals(lambda block, start, stop: (block.sum(axis=0),))
    np.testing.assert_allclose(total.get(), X.double().sum(dim=0).cpu().numpy(), rtol=1e-12)


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_all_rows_are_copied_to_the_gpu_in_pieces(monkeypatch, place, dtype):
    """On a CPU the copy is made where torch can: what counts is that every piece gets to its place."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device, **more: empty(*shape, device=place, **more))
    monkeypatch.setattr(device_memory, "PIECE_BYTES", 7 * 5 * np.dtype(dtype).itemsize)
    X = np.random.default_rng(0).normal(size=(100, 5)).astype(dtype)
    copy = copied_to_gpu(X)
    assert copy.device.type == place
    np.testing.assert_array_equal(copy.cpu().numpy(), X)
    assert copied_to_gpu(X[:0]).shape == (0, 5)
