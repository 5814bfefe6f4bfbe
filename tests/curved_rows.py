"""Correlated rows with curvatures of many magnitudes, and their Hessian."""

import numpy as np


def make(n_rows=4000, n_units=6):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_rows, n_units)) @ generator.standard_normal((n_units, n_units)) + 5
    curvature = generator.random(n_rows) ** 6
    return X, curvature


def dense_hessian(X, curvature, total, ridge, fit_intercept):
    design = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    matrix = design.T @ (design * curvature[:, None]) / total
    return matrix + ridge * np.diag([1.0] * X.shape[1] + [0.0] * fit_intercept)
