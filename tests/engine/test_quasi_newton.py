"""The minimiser's own promises: descent, restarts, few passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from logistic_problems import problems_of

from gatescope.engine import inverse_hessian, quasi_newton
from gatescope.engine.arrays import as_rows
from gatescope.engine.inverse_hessian import InverseHessians
from gatescope.engine.quasi_newton import QuasiNewton, _flat_at
from gatescope.engine.row_blocks import RowBlocks


def make(n_rows=3000, n_units=20, n_problems=4, sharpness=1.0):
    generator = np.random.default_rng(0)
    X = np.tanh(generator.standard_normal((n_rows, n_units)) @ generator.standard_normal((n_units, n_units)) * 0.3)
    logits = X @ generator.standard_normal((n_units, n_problems)) * sharpness - np.arange(n_problems)
    return X, np.where(logits + generator.logistic(size=logits.shape) > 0, 1.0, -1.0)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 30.0])
def test_a_minimum_is_found_in_tens_of_passes(sharpness):
    X, signed = make(sharpness=sharpness)
    with RowBlocks(X, np.float64) as rows:
        solution = QuasiNewton(problems_of(rows, signed), 1e-6, 200, 4).solve(np.arange(4))
    assert (solution.status == "converged").all()
    # Plain L-BFGS and conjugate gradients need hundreds on correlated states.
    assert solution.n_passes.max() < 60


def test_every_step_lowers_the_loss(monkeypatch):
    X, signed = make(sharpness=30.0)
    seen = {k: [] for k in range(4)}
    begin = QuasiNewton._begin

    def watched(self, columns):
        for column in columns:
            seen[int(self.problem[column])].append(float(self.loss[column]))
        begin(self, columns)

    monkeypatch.setattr(QuasiNewton, "_begin", watched)
    with RowBlocks(X, np.float64) as rows:
        QuasiNewton(problems_of(rows, signed), 1e-9, 200, 2).solve(np.arange(4))
    for losses in seen.values():
        assert len(losses) > 5
        assert (np.diff(losses) <= 16 * np.finfo(float).eps).all()


def test_starting_at_the_minimum_stays_there():
    X, signed = make()
    with RowBlocks(X, np.float64) as rows:
        first = QuasiNewton(problems_of(rows, signed), 1e-9, 200, 4).solve(np.arange(4))
        start = np.vstack([first.coefficients, first.intercepts])
        start[:, 2] = np.nan
        again = QuasiNewton(problems_of(rows, signed, start=start), 1e-8, 200, 4).solve(np.array([0, 2]))
    assert again.n_passes[0] == 1 and again.n_iterations[0] == 0
    assert again.n_passes[2] > 5 and again.status[2] == "converged"
    assert np.isnan(again.coefficients[:, [1, 3]]).all() and again.n_passes[1] == 0
    np.testing.assert_allclose(again.coefficients[:, 0], first.coefficients[:, 0], rtol=1e-12)


@pytest.mark.parametrize("bad", [-1.0, 1e30, 1e300])
def test_a_start_worse_than_zero_is_discarded(bad):
    X, signed = make()
    with RowBlocks(X, np.float64) as rows:
        plain = QuasiNewton(problems_of(rows, signed), 1e-8, 200, 4).solve(np.arange(4))
        start = np.vstack([plain.coefficients, plain.intercepts])
        start[:, 1] *= bad
        again = QuasiNewton(problems_of(rows, signed, start=start), 1e-8, 200, 4).solve(np.arange(4))
    assert (again.status == "converged").all()
    np.testing.assert_allclose(again.coefficients[:, 1], plain.coefficients[:, 1], atol=1e-5)
    assert (again.n_passes[[0, 2, 3]] <= 2).all() and again.n_passes[1] <= plain.n_passes[1] + 1


def test_a_failed_step_keeps_the_previous_point(monkeypatch):
    X, signed = make()
    monkeypatch.setattr(quasi_newton, "SMALLEST_STEP", 1.0)
    # Every step goes uphill, and none can be accepted.
    monkeypatch.setattr(InverseHessians, "direction", lambda self, columns, g: 10 * g)
    with RowBlocks(X, np.float64) as rows:
        solution = QuasiNewton(problems_of(rows, signed), 1e-8, 200, 4).solve(np.arange(4))
    assert (solution.status == "stalled").all() and (solution.coefficients == 0).all()
    prevalence = (signed > 0).mean(axis=0)
    np.testing.assert_allclose(solution.intercepts, np.log(prevalence / (1 - prevalence)))


def test_a_long_history_forgets_the_oldest_steps(monkeypatch):
    monkeypatch.setattr(inverse_hessian, "MEMORY", 3)
    monkeypatch.setattr(quasi_newton, "SETTLED_DECREMENT", 1e9)
    X, signed = make(sharpness=5.0)
    with RowBlocks(X, np.float64) as rows:
        solution = QuasiNewton(problems_of(rows, signed), 1e-9, 400, 4).solve(np.arange(4))
    assert (solution.status == "converged").all()
    assert solution.n_iterations.max() > 2 * 3


def test_single_precision_stops_when_only_noise_is_left():
    X, signed = make()
    X, signed = X.astype(np.float32), signed.astype(np.float32)
    with RowBlocks(X, np.float32) as rows:
        solution = QuasiNewton(problems_of(rows, signed), 1e-14, 400, 4).solve(np.arange(4))
    assert (solution.status == "stalled").all()
    assert solution.n_passes.max() < 80
    assert (solution.gradient < 1e-6).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_drift_bounds_the_rounding_error_of_the_logits(monkeypatch, dtype):
    X, signed = make(n_problems=2, sharpness=5.0)
    # Columns of several sizes, one of them far from zero, so that terms of the products cancel.
    X = (X * np.logspace(-1, 1, X.shape[1]) + np.where(np.arange(X.shape[1]) == 3, 50.0, 0.0)).astype(dtype)
    rms, moved, logits = np.sqrt((X.astype(float) ** 2).mean(axis=0)), np.zeros(2), {}
    sweep, finish = QuasiNewton._sweep, QuasiNewton._finish

    def watched(self):
        before = self.w.copy()
        sums = sweep(self)
        change = np.abs(self.w - before)
        moved[self.problem] += rms @ change[:-1] + change[-1]
        return sums

    def ended(self, columns, status):
        for column in columns.tolist():
            # Before the solver falls back to the last point that was accepted.
            exact = X.astype(np.longdouble) @ self.w[:-1, column] + self.w[-1, column]
            logits[int(self.problem[column])] = np.sqrt(float(((self.arrays.logits[:, column] - exact) ** 2).mean()))
        finish(self, columns, status)

    monkeypatch.setattr(QuasiNewton, "_sweep", watched)
    monkeypatch.setattr(QuasiNewton, "_finish", ended)
    with RowBlocks(X, dtype) as rows:
        problems = replace(problems_of(rows, signed), mean=X.mean(axis=0, dtype=float), sd=X.std(axis=0, dtype=float))
        solution = QuasiNewton(problems, 1e-5, 300, 2).solve(np.arange(2))
    np.testing.assert_allclose(solution.drift, np.finfo(dtype).eps * moved, rtol=1e-5)
    off = np.array([logits[k] for k in range(2)])
    assert (off > 0).all() and (off <= solution.drift).all()


@pytest.mark.parametrize(
    ("slope", "slopes", "expected"),
    [
        (-1.0, [1.0, 2.0, 3.0], 1.5),
        (-1.0, [-0.5, 0.5, 3.0], 3.0),
        (-1.0, [-0.5, -0.2, 0.2], 6.0),
        (-1.0, [-0.5, -0.4, -0.3], 8.0),
        (-1.0, [np.nan, 1.0, 1.0], 1.0),
        (-1.0, [-0.5, np.inf, np.inf], 2.0),
    ],
)
def test_the_flat_point_of_a_step_is_interpolated(slope, slopes, expected):
    assert _flat_at(slope, np.array(slopes)) == pytest.approx(expected)


def test_a_device_resamples_after_as_many_passes_as_sampling_costs(device):
    X, signed = make(n_rows=200)
    rules = []
    for states in (X, as_rows(device(X))):
        with RowBlocks(states, np.float64) as rows:
            solver = QuasiNewton(problems_of(rows, signed), 1e-6, 200, 4)
            rules.append([solver._renewal_steps(n) for n in (1, 2, 5, 7, 32)])
    assert rules == [[4, 4, 4, 4, 4], [4, 6, 15, quasi_newton.MEMORY, quasi_newton.MEMORY]]


@pytest.mark.parametrize(("C", "precision"), [(1.0, "tf32"), (np.inf, "ieee"), (np.array([1, 1, np.inf, 1]), "ieee")])
def test_rows_are_rounded_only_with_a_penalty(C, precision):
    X, signed = make(n_rows=200)
    with RowBlocks(X, np.float64) as rows:
        assert InverseHessians(problems_of(rows, signed, C=C), np.arange(4), 4, 1).sampler.precision == precision
