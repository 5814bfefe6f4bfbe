"""Ridge probes: how well is a continuous quantity, such as a depth or a position, a linear function of the states?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from gatescope.engine.arrays import array_namespace, as_rows, computing_dtype, moved, to_host
from gatescope.engine.errors import InputError
from gatescope.engine.gram import Moments
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.predictions import linear_predictions
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.shards import Processes
from gatescope.engine.targets import Weights, as_continuous, as_targets, equal_weights


class RidgeProbes(RegressorMixin, BaseEstimator):
    """Penalised least squares of K continuous targets on the same states, fitted together.

    For each target y, weights s >= 0 and states x it minimises

        1/2 sum_n s_n (w . x_n + b - y_n)^2 + |w|^2 / (2 C)

    with an unpenalised intercept b: the minimum of `sklearn.linear_model.Ridge(alpha=1 / C)` (Hoerl & Kennard 1970).
    Targets with the same weights share one Gram matrix, formed and solved in float64.

    Args:
        C: inverse strength of the penalty, a number or one for each target [K]; `inf` for none, and then of all minima
            the one of smallest norm.
        fit_intercept: whether b is fitted; otherwise it is 0.
        memory_limit: what a fit may take beside X, Y, the weights and the Gram matrix, such as "1GB"; None for as
            much as is useful. X on disk is read ahead in smaller pieces.
        distributed: whether X, Y and the weights are this process's rows of a fit that all processes of the default
            group of torch.distributed make together.

    Attributes:
        coef_: [K, H], float64; NaN unless the status is "converged". [H] after a one-dimensional y.
        intercept_: [K], float64, and NaN where `coef_` is: so are the predictions. A number after a one-dimensional y.
        status_: [K], str: "converged"; "empty": no row has weight; "not_finite": the arithmetic failed.
        grad_norm_: [K], the largest absolute gradient of the mean loss at the end.
        objective_: [K].
    """

    def __init__(
        self,
        C: Any = 1.0,
        *,
        fit_intercept: bool = True,
        memory_limit: str | int | None = None,
        distributed: bool = False,
    ):
        self.C = C
        self.fit_intercept = fit_intercept
        self.memory_limit = memory_limit
        self.distributed = distributed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RidgeProbes:
        """Fit all targets.

        Args:
            X: states [N, H], NumPy, torch or CuPy, of any real type. Never copied as a whole.
            y: targets [N, K] or [N], real numbers.
            sample_weight: [N], or [N, K] with one column for each target; zero leaves a position out.

        Returns:
            self.

        Raises:
            InputError: shapes that do not match, NaN or infinity in X, Y or the weights, weights [N] that are zero
                everywhere, or C out of range.
        """
        self._fit_all([self], X, y, sample_weight)
        return self

    def fit_path(self, X: Any, y: Any, Cs: Iterable[Any], sample_weight: Any = None) -> list[RidgeProbes]:
        """Fit all targets once for each of several penalties, with one Gram matrix and one eigendecomposition for all.

        Args:
            X, y, sample_weight: as for `fit`.
            Cs: what `C` is to be, in any order.

        Returns:
            One fitted estimator for each C, in their order; this one is not changed.

        Raises:
            InputError: as `fit` does.
        """
        path = [clone(self).set_params(C=C) for C in Cs]
        self._fit_all(path, X, y, sample_weight)
        return path

    def _fit_all(self, path: list[RidgeProbes], X: Any, y: Any, sample_weight: Any) -> None:
        """Fit estimators that differ in C alone."""
        processes = Processes(self.distributed)
        with processes.together():
            source, X = X, as_rows(X)
            Y = as_targets(y, X.shape[0])
            flat = Y.ndim == 1
            Y = as_continuous(Y)
            C = np.array([probes._read_C(Y.shape[1]) for probes in path]).reshape(len(path), Y.shape[1])
            for probes in path:
                validate_data(probes, source, skip_check_array=True)
        processes.check_equal("columns of X and of Y", [X.shape[1], Y.shape[1]])
        coefficients = np.full((len(path), Y.shape[1], X.shape[1]), np.nan)
        intercepts, gradients, objectives = np.full((3, *C.shape), np.nan)
        status = np.full(Y.shape[1], "not_finite", dtype="<U16")
        weights = Weights(sample_weight, X.shape[0], Y.shape[1], array_namespace(X), processes)
        with RowBlocks(X, np.float64, bytes_of(self.memory_limit), processes) as rows:
            for group in equal_weights(weights, Y.shape[1]):
                system = _NormalEquations(rows, Y, weights.column(int(group[0])), group, self.fit_intercept)
                if system.total == 0:
                    status[group] = "empty"
                elif system.finite:
                    for number, w in enumerate(system.solutions(C[:, group])):
                        coefficients[number, group], intercepts[number, group] = w.T, system.intercepts(w)
                        gradients[number, group] = np.abs(system.gradient(w, C[number, group])).max(axis=0)
                        objectives[number, group] = system.objective(w, C[number, group])
                    status[group] = "converged"
        if (status != "converged").any():
            bad = np.flatnonzero(status != "converged")
            warnings.warn(
                f"{len(bad)} of {len(status)} ridge probes have no result (the first is target {bad[0]}, "
                f"{status[bad[0]]}): give them rows of positive weight and values of moderate size",
                ConvergenceWarning,
                stacklevel=3,
            )
        for probes, w, b, gradient, objective in zip(
            path, coefficients, intercepts, gradients, objectives, strict=True
        ):
            probes._flat, probes.status_ = flat, status.copy()
            probes.grad_norm_, probes.objective_ = gradient, objective
            probes.coef_, probes.intercept_ = (w[0], float(b[0])) if flat else (w, b)

    def _read_C(self, n_targets: int) -> np.ndarray:
        C = np.asarray(self.C, dtype=np.float64)
        if C.shape not in ((), (n_targets,)) or not (C > 0).all():
            raise InputError(f"C is {self.C}: expected a number above 0, or one for each of {n_targets} targets")
        return np.broadcast_to(C, (n_targets,))

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets: [N, K], or [N] after a one-dimensional y.

        Args:
            X: states [N, H].
        """
        check_is_fitted(self)
        source, X = X, as_rows(X)
        validate_data(self, source, reset=False, skip_check_array=True)
        with RowBlocks(X, computing_dtype(X), bytes_of(self.memory_limit)) as rows:
            coefficients = np.atleast_2d(self.coef_)
            predictions = linear_predictions(rows, coefficients, np.atleast_1d(self.intercept_))
        return predictions[:, 0] if self._flat else predictions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _NormalEquations:
    """The least-squares problems of the targets of one group, which share their weights.

    Args:
        rows: X [N, H].
        Y: [N, K].
        weight: [N] or None.
        group: the targets, integers [G].
        fit_intercept: whether means are taken out.
    """

    def __init__(self, rows: RowBlocks, Y: Any, weight: Any, group: np.ndarray, fit_intercept: bool):
        xp = rows.xp
        moments = Moments(rows, weight, covariance=True)
        self.total = moments.total
        if self.total == 0:
            return
        origin = moments.mean if fit_intercept else np.zeros_like(moments.mean)
        columns = moved(group, array_namespace(Y)) if len(group) < Y.shape[1] else slice(None)
        target_sum = np.zeros(len(group))

        def block_targets(start: int, stop: int) -> tuple[Any, Any]:
            targets = moved(Y[start:stop, columns], xp).astype(np.float64)
            return targets, xp.ones(stop - start) if weight is None else weight[start:stop].astype(np.float64)

        def sum_targets(_: Any, start: int, stop: int) -> tuple[Any, ...]:
            targets, share = block_targets(start, stop)
            return (share @ targets,)

        if fit_intercept:
            target_sum = to_host(rows.totals(sum_targets)[0])
        self.target_mean = target_sum / self.total
        center = xp.asarray(self.target_mean)

        def cross(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            targets, share = block_targets(start, stop)
            targets = targets - center
            weighted = targets * share[:, None]
            return block.T @ weighted, (targets * weighted).sum(axis=0)

        products, squares = (to_host(value) for value in rows.totals(cross, shift=xp.asarray(origin)))
        self.mean, self.cross, self.squares = origin, products / self.total, squares / self.total
        self.gram = moments.covariance if fit_intercept else moments.covariance + np.outer(moments.mean, moments.mean)
        self.finite = bool(np.isfinite(self.gram).all() and np.isfinite(self.cross).all())

    def solutions(self, Cs: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the coefficients [H, G] for each of P penalties of the targets [P, G]."""
        values = np.unique(Cs)
        few = len(values) <= 2 and np.isfinite(values).all()
        if not few:
            eigenvalues, vectors = np.linalg.eigh(self.gram)
            projected = vectors.T @ self.cross
        for C in Cs:
            if few:
                w = np.empty_like(self.cross)
                for value in np.unique(C).tolist():
                    matrix = self.gram + np.eye(len(self.gram)) / (value * self.total)
                    w[:, value == C] = scipy.linalg.solve(matrix, self.cross[:, value == C], assume_a="sym")
                yield w
                continue
            spread = eigenvalues[:, None] + 1 / (C * self.total)
            # Directions in which X does not vary have no coefficient unless the penalty sets it to zero.
            usable = spread > eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps
            yield vectors @ np.where(usable, projected / np.where(usable, spread, 1.0), 0.0)

    def intercepts(self, w: np.ndarray) -> np.ndarray:
        return self.target_mean - self.mean @ w

    def gradient(self, w: np.ndarray, C: np.ndarray) -> np.ndarray:
        return self.gram @ w - self.cross + w / (C * self.total)

    def objective(self, w: np.ndarray, C: np.ndarray) -> np.ndarray:
        loss = self.squares - 2 * (w * self.cross).sum(axis=0) + (w * (self.gram @ w)).sum(axis=0)
        return 0.5 * (self.total * loss + (w * w).sum(axis=0) / C)
