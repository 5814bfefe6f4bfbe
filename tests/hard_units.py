"""Units and labels whose logistic regressions are hard, and their fits one unit at a time."""

from __future__ import annotations

import numpy as np

from gatescope.engine.univariate import fit_univariate


def fit(x, Y, weight=None, C=1.0):
    """Fit values [N] to labels [N, G] with weights None, [N] or [N, G]."""
    values, places = np.unique(x, return_inverse=True)
    origin = 0.5 * (values[0] + values[-1])
    values = values - origin
    weight = np.ones((len(x), 1)) if weight is None else weight.reshape(len(x), -1)
    at_value = [np.bincount(places, column, len(values)) for column in weight.T]
    positive = np.stack([np.bincount(places, column, len(values)) for column in (weight * Y).T], axis=1)
    sums = positive.sum(axis=0), values @ positive
    w, b, converged = fit_univariate(values, np.stack(at_value, axis=1), *sums, lambda g: positive[:, g], C)
    return w, b - w * origin, converged


def columns(N=2500):
    """Columns that are hard to fit, by name."""
    generator = np.random.default_rng(5)
    normal = generator.standard_normal(N)
    return {
        "t3": (generator.standard_t(3, N) * 5).astype(np.float16).astype(np.float64),
        "lognormal": generator.lognormal(0, 2, N),
        "cauchy": generator.standard_cauchy(N) * 100,
        "bimodal": np.tanh(5 * normal),
        "tiny": 1e-6 * normal,
        "huge": 1e6 * normal,
        "offset": 5e4 + normal,
        "far-offset": 2.0**20 + 1e-3 * normal,
        "two": np.where(generator.random(N) < 0.3, 1.0, -1.0),
        "three": generator.integers(0, 3, N).astype(np.float64),
        "three-huge": generator.integers(0, 3, N) * 1e6,
        "outlier": np.append(normal[1:], 1e4),
    }


def labels(x):
    generator = np.random.default_rng(6)
    N = len(x)
    Y = [
        x > np.median(x),
        x > np.quantile(x, 0.99),
        x < np.quantile(x, 0.01),
        (x - x.mean()) / x.std() + 0.1 * generator.standard_normal(N) > 1,
        (x - x.mean()) / x.std() + generator.logistic(size=N) > 0,
        generator.random(N) < 0.5,
        generator.random(N) < 0.004,
        np.arange(N) == 7,
        (x > np.quantile(x, 0.4)) & (x < np.quantile(x, 0.6)),
    ]
    return np.stack([y for y in Y if 0 < y.sum() < N], axis=1)
