"""NeuronProbes on states in a GPU's memory, compared with ranks and products in CuPy.

CuPy ranks each column by sorting (without averaging ties, which would cost more) and multiplies by the labels: only
areas under the curve and class means, for `COLUMNS` columns, scaled to H.
"""

import device_states
import numpy as np
import pytest
import torch

from gatescope.engine.neurons import NeuronProbes

N, H, K = 1_000_000, 1536, 32
COLUMNS = 48
pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def problem():
    X = device_states.states(N, H, torch.float16)
    return X, device_states.labels(X, K)


def fit_ours(X, Y):
    return NeuronProbes().fit(X, Y)


def rank_and_multiply(cupy, X, Y):
    positive = Y.astype(np.float64)
    n = positive.sum(axis=0)
    ranks = cupy.stack([cupy.argsort(cupy.argsort(column)) + 1.0 for column in X.T])
    auroc = (ranks @ positive - n * (n + 1) / 2) / (n * (len(Y) - n))
    sums = X.T.astype(np.float64) @ positive
    means = sums / n - (X.sum(axis=0, dtype=np.float64)[:, None] - sums) / (len(Y) - n)
    cupy.cuda.Device().synchronize()
    return auroc.get().T, means.get().T


@pytest.mark.parametrize("impl", ["gatescope", "cupy"])
def test_units(benchmark, problem, impl):
    X, Y = problem
    benchmark.group = f"single units on {torch.cuda.get_device_name()}, N={N}, H={H}, K={K}"
    facts = {"impl": impl, "N": N, "H": H, "K": K, "dtype": "float16"}
    if impl == "gatescope":
        units = benchmark.pedantic(fit_ours, (X, Y), rounds=3, warmup_rounds=1)
        assert set(units.status_.flat) <= {"converged", "constant_feature"}
        copied = device_states.bandwidth()
        # X is read twice.
        read = 2 * X.numel() * X.element_size() / benchmark.stats.stats.median
        facts |= {"bandwidth_share": round(read / copied, 3), "copy_bytes_per_s": round(copied)}
        facts["pairs_per_second"] = round(H * K / benchmark.stats.stats.median)
    else:
        cupy = pytest.importorskip("cupy")
        part, labels = cupy.from_dlpack(X[:, :: H // COLUMNS].contiguous()), cupy.from_dlpack(Y)
        rank_and_multiply(cupy, part, labels)
        auroc, means = benchmark.pedantic(rank_and_multiply, (cupy, part, labels), rounds=3)
        ours = fit_ours(part, labels)
        # Equal values are ranked in any order here.
        np.testing.assert_allclose(ours.auroc_, auroc, atol=5e-3)
        np.testing.assert_allclose(ours.mean_difference_, means, atol=1e-9)
        facts |= {"scaled": f"from {COLUMNS} of {H} columns"}
        facts["scaled_s"] = round(benchmark.stats.stats.median * H / COLUMNS, 3)
    benchmark.extra_info.update(facts)
    print(facts)
