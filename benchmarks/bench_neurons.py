"""NeuronProbes compared with a loop over scikit-learn and with vectorised NumPy, on the states of a real model.

The loop fits `LogisticRegression` to one column and one hypothesis at a time and computes its `roc_auc_score`; it is
timed on `PAIRS` pairs and scaled to H x K. NumPy ranks each column once (SciPy's `rankdata`) and multiplies by the
labels: only areas under the curve and class means, for `COLUMNS` columns, scaled to H.
"""

import warnings

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks import real_states
from gatescope.engine.neurons import NeuronProbes

N, H, K = 100_000, 1536, 32
# Each hypothesis is undefined at places of its own.
MASKED_N, MASKED_H = 20_000, 64
PAIRS, COLUMNS = 60, 48


@pytest.fixture(scope="module")
def problem():
    dump, validation_nats = real_states.open_states()
    X, Y = real_states.states(dump, N, H, np.float16), real_states.labels(dump, N, K)
    return X, Y, validation_nats


def fit_ours(X, Y):
    return NeuronProbes().fit(X, Y)


def fit_pairs(columns, Y, pairs):
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for column, (_, k) in zip(columns, pairs, strict=True):
            model = LogisticRegression().fit(column[:, None], Y[:, k])
            found.append((model.coef_[0, 0], model.intercept_[0], roc_auc_score(Y[:, k], column)))
    return np.array(found)


def objective(column, y, w, b):
    z = w * column + b
    return np.logaddexp(0, np.where(y, -z, z)).sum() + w**2 / 2


def rank_and_multiply(X, Y):
    positive = Y.astype(np.float64)
    n = positive.sum(axis=0)
    ranks = np.stack([rankdata(column) for column in X.T])
    auroc = (ranks @ positive - n * (n + 1) / 2) / (n * (len(Y) - n))
    sums = X.T @ positive.astype(X.dtype)
    return auroc.T, sums / n - (X.sum(axis=0)[:, None] - sums) / (len(Y) - n)


@pytest.mark.benchmark(group=f"single units, N={N}, H={H}, K={K}")
@pytest.mark.parametrize("impl", ["gatescope", "sklearn", "numpy"])
def test_units(benchmark, problem, impl):
    X, Y, validation_nats = problem
    generator = np.random.default_rng(0)
    facts = {"impl": impl, "N": N, "H": H, "K": K, "dtype": "float16", "validation_nats": round(validation_nats, 3)}
    if impl == "gatescope":
        units = benchmark.pedantic(fit_ours, (X, Y), rounds=1)
        assert set(units.status_.flat) <= {"converged", "constant_feature"}
        facts["pairs_per_second"] = round(H * K / benchmark.stats.stats.median)
    elif impl == "sklearn":
        pairs = [(int(generator.integers(H)), int(generator.integers(K))) for _ in range(PAIRS)]
        columns = [X[:, unit].astype(np.float64) for unit, _ in pairs]
        ours = fit_ours(X[:, [unit for unit, _ in pairs]], Y)
        theirs = benchmark.pedantic(fit_pairs, (columns, Y, pairs), rounds=1)
        got = np.array([(ours.coef_[k, i], ours.intercept_[k, i], ours.auroc_[k, i]) for i, (_, k) in enumerate(pairs)])
        np.testing.assert_allclose(got[:, 2], theirs[:, 2], atol=1e-12)
        ends = [
            [objective(column, Y[:, k], *fit[:2]) for fit in (our, their)]
            for column, (_, k), our, their in zip(columns, pairs, got, theirs, strict=True)
        ]
        # scikit-learn stops at its own tolerance of 1e-4.
        facts["objective_excess"] = [float(f(their / our - 1 for our, their in ends)) for f in (min, max)]
        facts |= {"scaled": f"from {PAIRS} of {H * K} pairs"}
        facts["scaled_s"] = round(benchmark.stats.stats.median * H * K / PAIRS, 1)
    else:
        part = np.ascontiguousarray(X[:, :: H // COLUMNS])
        auroc, _ = benchmark.pedantic(rank_and_multiply, (part.astype(np.float32), Y), rounds=1)
        np.testing.assert_allclose(fit_ours(part, Y).auroc_, auroc, atol=1e-12)
        facts |= {"scaled": f"from {COLUMNS} of {H} columns"}
        facts["scaled_s"] = round(benchmark.stats.stats.median * H / COLUMNS, 1)
    benchmark.extra_info.update(facts)


@pytest.mark.benchmark(group=f"single units, N={MASKED_N}, H={MASKED_H}, K={K}")
@pytest.mark.parametrize("impl", ["gatescope", "gatescope-masks", "gatescope-one-by-one"])
def test_masks(benchmark, problem, impl):
    """A mask for each hypothesis, compared with none and with a separate fit for each on the rows that it keeps."""
    X, Y = np.ascontiguousarray(problem[0][:MASKED_N, :: H // MASKED_H]), problem[1][:MASKED_N]
    mask = np.random.default_rng(0).random(Y.shape) < 0.7

    def one_by_one():
        return np.stack([fit_ours(X[kept], y[kept]).auroc_[0] for y, kept in zip(Y.T, mask.T, strict=True)])

    calls = {
        "gatescope": lambda: fit_ours(X, Y).auroc_,
        "gatescope-masks": lambda: NeuronProbes().fit(X, Y, sample_weight=mask).auroc_,
        "gatescope-one-by-one": one_by_one,
    }
    auroc = benchmark.pedantic(calls[impl], rounds=3)
    if impl == "gatescope-one-by-one":
        np.testing.assert_allclose(calls["gatescope-masks"](), auroc, atol=1e-12)
    benchmark.extra_info.update({"impl": impl, "N": MASKED_N, "H": MASKED_H, "K": K, "dtype": "float16"})
