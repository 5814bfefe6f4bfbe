"""LogisticProbes on states in a GPU's memory, compared with fits of one hypothesis at a time, to equal gradients.

Every fit ends when the largest absolute gradient of the mean loss, recomputed in float64, is at most 1e-6 (if a peer
does not reach that, the row keeps its gradient). Peers are timed on the first, the middle and the last of the K
hypotheses, scikit-learn on the first and part of the rows; `scaled_s` is that time scaled to all of them.
"""

import time

import device_states
import numpy as np
import pytest
import torch
import torch_lbfgs
from sklearn.linear_model import LogisticRegression

from gatescope.engine.irls import LogisticProbes

GRADIENT = 1e-6
N, H, K = 1_000_000, 1536, 32
SKLEARN_ROWS = 50_000
pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def problem():
    X = device_states.states(N, H, torch.float16)
    return X, device_states.labels(X, K)


@pytest.fixture(scope="module")
def fitted(problem):
    fit_ours(*problem)  # warm up imports and kernels
    torch.cuda.synchronize()
    started = time.perf_counter()
    probes = fit_ours(*problem)
    return probes, time.perf_counter() - started


def fit_ours(X, Y):
    return LogisticProbes(tol=GRADIENT).fit(X, Y)


def ends(X, Y, chosen, coefficients, intercepts):
    """The gradient and the objective of some hypotheses."""
    found = []
    for k, w, b in zip(chosen, coefficients, intercepts, strict=True):
        w, b = (torch.as_tensor(np.asarray(value), device=X.device) for value in (w, b))
        found.append(torch_lbfgs.gradient_and_objective(X, Y[:, k], w, b))
    return found


def fit_lbfgs(X, Y, chosen):
    found = [torch_lbfgs.fit(X, Y[:, k], GRADIENT) for k in chosen]
    torch.cuda.synchronize()
    return [w.cpu().numpy() for w, _ in found], [float(b) for _, b in found]


def fit_cuml(X, Y, chosen):
    from cuml.linear_model import LogisticRegression as CumlRegression

    models = [CumlRegression(C=1.0, tol=GRADIENT, max_iter=3000).fit(X, Y[:, k].float()) for k in chosen]
    torch.cuda.synchronize()
    return [np.asarray(model.coef_)[0] for model in models], [
        float(np.asarray(model.intercept_)[0]) for model in models
    ]


def fit_sklearn(X, y):
    return LogisticRegression(solver="lbfgs", tol=GRADIENT, max_iter=5000).fit(X, y)


@pytest.mark.parametrize(
    "impl", ["gatescope", "torch-lbfgs", "cuml", pytest.param("sklearn-lbfgs", marks=pytest.mark.slow)]
)
def test_fit(benchmark, problem, fitted, impl):
    X, Y = problem
    ours, seconds = fitted
    assert set(ours.status_) == {"converged"}
    chosen = [0, K // 2, K - 1]
    our_ends = ends(X, Y, chosen, ours.coef_[chosen], ours.intercept_[chosen])
    assert max(gradient for gradient, _ in our_ends) <= 1.1 * GRADIENT
    benchmark.group = f"logistic probes on {torch.cuda.get_device_name()}, N={N}, H={H}, K={K}"
    facts = {"impl": impl, "N": N, "H": H, "K": K, "dtype": "float16"}
    if impl == "gatescope":
        benchmark.pedantic(fit_ours, (X, Y), rounds=5)
        passes, copied = int(ours.n_passes_.max()), device_states.bandwidth()
        # X is read twice in a pass; the rest of the time is not spent reading X.
        read = 2 * passes * X.numel() * X.element_size() / benchmark.stats.stats.median
        facts |= {"passes": passes, "gradient": max(gradient for gradient, _ in our_ends)}
        facts |= {"bandwidth_share": round(read / copied, 3), "copy_bytes_per_s": round(copied)}
    elif impl == "sklearn-lbfgs":
        part, y = X[:SKLEARN_ROWS].float().cpu().numpy(), Y[:SKLEARN_ROWS, 0].cpu().numpy()
        benchmark.pedantic(fit_sklearn, (part, y), rounds=1)
        scaled = benchmark.stats.stats.median * K * N / SKLEARN_ROWS
        facts |= {"scaled_s": round(scaled, 1), "scaled": f"from 1 of {K} fits of {SKLEARN_ROWS} of {N} rows"}
        facts["ratio"] = round(scaled / seconds, 1)
    else:
        if impl == "cuml":
            pytest.importorskip("cuml")
        # The peers have no 16-bit arithmetic: the states are converted before the clock starts.
        wide, fit = X.float(), {"torch-lbfgs": fit_lbfgs, "cuml": fit_cuml}[impl]
        fit(wide, Y, chosen[:1])
        found = benchmark.pedantic(fit, (wide, Y, chosen), rounds=1)
        their_ends = ends(X, Y, chosen, *found)
        scaled = benchmark.stats.stats.median * K / len(chosen)
        facts |= {"scaled_s": round(scaled, 3), "scaled": f"from {len(chosen)} of {K} fits"}
        facts |= {"gradient": max(gradient for gradient, _ in their_ends), "ratio": round(scaled / seconds, 1)}
        excess = [their[1] / our[1] - 1 for their, our in zip(their_ends, our_ends, strict=True)]
        facts["objective_excess"] = max(excess)
    benchmark.extra_info.update(facts)
    print(facts)
