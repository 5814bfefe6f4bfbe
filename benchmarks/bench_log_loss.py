"""The log-loss and its slope, which each pass of a fit computes for every block: compiled, compared with torch's."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from gatescope.engine.log_loss import log_loss

N, W = 2048, 30


def with_torch(logits, signed):
    z, s = torch.from_numpy(logits), torch.from_numpy(signed)
    wrong = torch.sign(s).mul_(z).neg_()
    loss = torch.nn.functional.softplus(wrong, 1.0, 37.0).mul_(s.abs())
    return loss.numpy(), wrong.sigmoid_().neg_().mul_(s).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("impl", ["gatescope", "torch"])
def test_log_loss(benchmark, impl, dtype):
    benchmark.group = f"log-loss and slope in {dtype}, N={N}, W={W}, one core"
    generator = np.random.default_rng(0)
    logits, signed = generator.normal(0, 3, (2, N, W)).astype(dtype)
    with threadpool_limits(1):
        for ours, theirs in zip(log_loss(logits, signed), with_torch(logits, signed), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
        call = log_loss if impl == "gatescope" else with_torch
        benchmark.pedantic(call, (logits, signed), rounds=30, iterations=20, warmup_rounds=2)
    nanoseconds = round(benchmark.stats.stats.median / logits.size * 1e9, 2)
    benchmark.extra_info.update(impl=impl, N=N, K=W, dtype=dtype, nanoseconds_per_value=nanoseconds)
