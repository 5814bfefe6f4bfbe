"""LogisticProbes compared with scikit-learn on the states of a real model, to equal gradients.

Every fit ends when the largest absolute gradient of the mean loss, recomputed in float64, is at most 1e-6. Each of
scikit-learn's solvers runs at the loosest tolerance that reaches this, in float32 if that is precise enough. It fits
one hypothesis at a time; from 4 hypotheses on it is timed on 3 of them, the first, the middle and the last. They are
fitted one after another with all threads in BLAS, and again by joblib, with one single-threaded process for each core
and the same number of fits for each process, so that none waits. `scaled_s` is the faster time scaled to K hypotheses,
and `parallel` says which of the two it was. `ratio` is `scaled_s` over our median, and `objective_excess` the largest
relative difference of its objective from ours. `beside_x_mb` is the most memory that our fit takes besides X, and
`aim_mb` that of six arrays [N, K] and four [H, H].
"""

import time
import tracemalloc
import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.linear_model import LogisticRegression

from benchmarks import real_states
from gatescope.engine.irls import LogisticProbes

GRADIENT = 1e-6
TOLERANCES = (1e-5, 1e-6, 1e-7)
IMPLS = [
    "gatescope",
    "sklearn-newton-cholesky",
    # Three to ten times slower than the other at these shapes.
    pytest.param("sklearn-lbfgs", marks=pytest.mark.slow),
]
# N, H, K, class_weight.
ROWS = [
    pytest.param(50_000, 512, 32, None, id="N50k-H512-K32"),
    pytest.param(50_000, 512, 4, None, id="N50k-H512-K4"),
    pytest.param(50_000, 512, 1, None, id="N50k-H512-K1"),
    pytest.param(50_000, 512, 1000, None, id="N50k-H512-K1000", marks=pytest.mark.slow),
    pytest.param(47_000, 512, 12, None, id="N47k-H512-K12"),
    pytest.param(47_000, 512, 12, "balanced", id="N47k-H512-K12-balanced"),
    pytest.param(47_000, 512, 3, None, id="N47k-H512-rare", marks=pytest.mark.slow),
    pytest.param(100_000, 1536, 32, None, id="N100k-H1536-K32", marks=pytest.mark.slow),
]
# A hypothesis counts as rare if its share of positive rows is between these.
RARE = (0.002, 0.004)


@pytest.fixture(scope="module")
def dump():
    return real_states.open_states()


@pytest.fixture(scope="module")
def fitted():
    """Our probes and their time in seconds for each row, to compare the other implementations with."""
    return {}


def labels(states, n_rows, n_targets, row):
    """Return Y [N, K] of a row of the table."""
    if "rare" not in row:
        return real_states.labels(states, n_rows, n_targets)
    Y = real_states.labels(states, n_rows, 1000)
    share = Y.mean(axis=0)
    return Y[:, (share > RARE[0]) & (share < RARE[1])][:, :n_targets]


def fit_ours(X, Y, class_weight):
    return LogisticProbes(class_weight=class_weight).fit(X, Y)


def beside_x(fit):
    """Return the most memory that a fit takes besides its arguments, in megabytes."""
    tracemalloc.start()
    fit()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e6, 1)


def gradient_and_objective(X, y, w, b, class_weight):
    """The largest absolute gradient of the mean loss and the objective at C = 1, both in float64."""
    counts = np.bincount(y, minlength=2)
    s = (len(y) / (2 * counts))[y.astype(int)] if class_weight else np.ones(len(y))
    gradient, loss = np.append(w, 0.0), w @ w / 2
    for start in range(0, len(y), 10_000):
        block, part = X[start : start + 10_000].astype(np.float64), slice(start, start + 10_000)
        z = block @ w + b
        residual = s[part] * (1 / (1 + np.exp(-z)) - y[part])
        gradient += np.append(residual @ block, residual.sum())
        loss += (s[part] * np.logaddexp(0, np.where(y[part], -z, z))).sum()
    return np.abs(gradient).max() / s.sum(), loss


def fit_alone(X, y, solver, class_weight, tol):
    model = LogisticRegression(solver=solver, class_weight=class_weight, tol=tol, max_iter=20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def coefficients(model):
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def loosest(X, y, solver, class_weight):
    """Return scikit-learn's fastest options that reach the gradient: values of X and tolerance."""
    reached = []
    for dtype in (np.float32, np.float64):
        values = X.astype(dtype, copy=False)
        # L-BFGS stops on the very gradient that is required, and in float32 may stall above it.
        for tol in (GRADIENT,) if solver == "lbfgs" else TOLERANCES:
            started = time.perf_counter()
            model = fit_alone(values, y, solver, class_weight, tol)
            seconds = time.perf_counter() - started
            if gradient_and_objective(X, y, *coefficients(model), class_weight)[0] <= GRADIENT:
                reached.append((seconds, values, tol))
                break
    assert reached, f"{solver} does not reach {GRADIENT}"
    return min(reached, key=lambda each: each[0])[1:]


def seconds_of_processes(fits):
    """Return the seconds a fit takes if each core has a process of its own, for hypotheses of its own.

    Args:
        fits: the arguments of `fit_alone` for each; every process makes all of these fits.
    """
    n_processes = cpu_count()
    X, _, *options = fits[0]
    with parallel_config(backend="loky", n_jobs=n_processes, inner_max_num_threads=1), Parallel() as parallel:
        # Start the processes, and let them import what they need.
        parallel(delayed(fit_alone)(X[:200], np.arange(200) % 2 == 0, *options) for _ in range(n_processes))
        started = time.perf_counter()
        parallel(delayed(fit_alone)(*each) for each in fits for _ in range(n_processes))
        return (time.perf_counter() - started) / (len(fits) * n_processes)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("n_rows", "n_units", "n_targets", "class_weight"), ROWS)
def test_fit(benchmark, dump, fitted, request, n_rows, n_units, n_targets, class_weight, impl):
    row = request.node.callspec.id.removesuffix(f"-{impl}")
    states, validation_nats = dump
    X = real_states.states(states, n_rows, n_units, np.float32)
    Y = labels(states, n_rows, n_targets, row)
    chosen = np.arange(n_targets) if n_targets < 4 else np.array([0, n_targets // 2, n_targets - 1])
    benchmark.group = f"logistic probes, {row}"
    facts = {"N": n_rows, "H": n_units, "K": n_targets, "class_weight": str(class_weight), "dtype": "float32"}
    facts |= {"positive": [round(float(share), 4) for share in np.quantile(Y.mean(axis=0), [0, 0.5, 1])]}
    if row not in fitted:
        fit_ours(X, Y, class_weight)  # warm up imports and threads
        started = time.perf_counter()
        probes = fit_ours(X, Y, class_weight)
        fitted[row] = probes, time.perf_counter() - started
    ours, seconds = fitted[row]
    ends = [gradient_and_objective(X, Y[:, k], ours.coef_[k], ours.intercept_[k], class_weight) for k in chosen]
    assert set(ours.status_) == {"converged"} and max(end[0] for end in ends) <= 1.1 * GRADIENT
    if impl == "gatescope":
        benchmark.pedantic(fit_ours, (X, Y, class_weight), rounds=3 if n_targets < 100 else 1)
        facts |= {"gradient": max(end[0] for end in ends), "passes": int(ours.n_passes_.sum())}
        facts |= {"beside_x_mb": beside_x(lambda: fit_ours(X, Y, class_weight))}
        facts |= {"aim_mb": round(4e-6 * (6 * Y.size + 4 * n_units**2), 1)}
        fitted[row] = ours, benchmark.stats.stats.median
    else:
        solver = impl.removeprefix("sklearn-")
        options = [loosest(X, Y[:, k], solver, class_weight) for k in chosen]
        fits = [(values, Y[:, k], solver, class_weight, tol) for k, (values, tol) in zip(chosen, options, strict=True)]
        models = benchmark.pedantic(lambda: [fit_alone(*each) for each in fits], rounds=1)
        theirs = [
            gradient_and_objective(X, Y[:, k], *coefficients(model), class_weight)
            for k, model in zip(chosen, models, strict=True)
        ]
        each_s = {"threads": benchmark.stats.stats.median / len(fits)}
        if n_targets > 1:
            each_s["processes"] = seconds_of_processes(fits)
        faster = min(each_s, key=each_s.get)
        scaled = each_s[faster] * n_targets
        facts |= {"parallel": faster, "each_s": {name: round(value, 4) for name, value in each_s.items()}}
        facts |= {"scaled_s": round(scaled, 3), "scaled": f"from {len(chosen)} of {n_targets} fits"}
        facts |= {"options": [f"{values.dtype} tol={tol}" for values, tol in options]}
        facts |= {"gradient": max(end[0] for end in theirs), "ratio": round(scaled / seconds, 2)}
        facts["objective_excess"] = max(their[1] / our[1] - 1 for their, our in zip(theirs, ends, strict=True))
    benchmark.extra_info.update(impl=impl, validation_nats=round(validation_nats, 3), **facts)


@pytest.mark.parametrize("impl", ["gatescope", "statsmodels"])
def test_standard_errors(benchmark, dump, impl):
    """Errors robust to clustering by sequence; statsmodels is timed with its fit, and so are we here."""
    states, validation_nats = dump
    n_rows, n_units = 20_000, 64
    # The columns are in no particular order: any will do.
    X = real_states.states(states, n_rows, 512, np.float64)[:, :n_units]
    y = real_states.labels(states, n_rows, 1)[:, 0]
    groups = np.arange(n_rows) // real_states.SAMPLING.length
    design = np.column_stack([X, np.ones(n_rows)])

    def ours():
        probes = LogisticProbes(C=np.inf, tol=1e-10).fit(X, y)
        return probes.standard_errors(X, y, groups=groups).coef[0]

    def theirs():
        clusters = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
        return sm.Logit(y.astype(float), design).fit(disp=0, tol=1e-12, **clusters).bse[:n_units]

    benchmark.group = "standard errors robust to sequences, N20k-H64-K1"
    np.testing.assert_allclose(ours(), theirs(), rtol=1e-5)
    benchmark.pedantic(ours if impl == "gatescope" else theirs, rounds=3)
    benchmark.extra_info.update(impl=impl, validation_nats=round(validation_nats, 3), N=n_rows, H=n_units, K=1)
