"""Products of a block of states and few columns, two of which each pass of a fit takes: compiled and by libraries."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from gatescope.engine import skinny_product

N, H, BLOCK = 24_576, 512, 2048
PRODUCTS = {
    "gatescope": (skinny_product.states_times, skinny_product.states_with),
    "numpy": (np.matmul, lambda block, columns: block.T @ columns),
    "torch": (
        lambda block, columns: (torch.from_numpy(block) @ torch.from_numpy(columns)).numpy(),
        lambda block, columns: (torch.from_numpy(block).T @ torch.from_numpy(columns)).numpy(),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("W", [8, 32, 128])
@pytest.mark.parametrize("impl", PRODUCTS)
def test_both_products(benchmark, impl, W, dtype):
    """X V and X' R over blocks of rows, as in a pass, on one core."""
    benchmark.group = f"X V and X' R in {dtype}, N={N}, H={H}, W={W}, one core"
    generator = np.random.default_rng(0)
    X, V, R = (generator.standard_normal(shape).astype(dtype) for shape in ((N, H), (H, W), (N, W)))

    def run(times, with_):
        for start in range(0, N, BLOCK):
            block = X[start : start + BLOCK]
            last = times(block, V), with_(block, R[start : start + BLOCK])
        return last

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for ours, theirs in zip(run(*PRODUCTS[impl]), run(*PRODUCTS["numpy"]), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=BLOCK * np.finfo(dtype).eps)
        benchmark.pedantic(run, PRODUCTS[impl], rounds=9, warmup_rounds=2)
    torch.set_num_threads(threads)
    rate = 4 * N * H * W / benchmark.stats.stats.median / 1e9
    benchmark.extra_info.update(impl=impl, N=N, H=H, K=W, dtype=dtype, gigaflops=round(rate, 1))
