"""Ridge probes: how well is a continuous quantity, such as a depth or a position, a linear function of the states?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from gatescope.engine.arrays import array_namespace, as_rows
from gatescope.engine.device_memory import torch_memory
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.normal_equations import NormalEquations
from gatescope.engine.predictions import cancels, linear_predictions, prediction_dtype
from gatescope.engine.processes import Processes
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import as_continuous, as_targets, inverse_penalties
from gatescope.engine.weights import Weights, equal_weights


class RidgeProbes(RegressorMixin, BaseEstimator):
    """Penalised least squares of K continuous targets on the same states, fitted together.

    For each target y, weights s >= 0 and states x it minimises

        1/2 sum_n s_n (w . x_n + b - y_n)^2 + |w|^2 / (2 C)

    with an unpenalised intercept b: the minimum of `sklearn.linear_model.Ridge(alpha=1 / C)` (Hoerl & Kennard 1970).
    Targets with the same weights share one Gram matrix, formed and solved in float64.

    Args:
        C: inverse strength of the penalty, a number or one for each target [K]; `inf` for none, and then of all minima
            the one of smallest norm in units of equal standard deviation.
        fit_intercept: whether b is fitted; otherwise it is 0.
        memory_limit: what a fit may take beside X, Y, the weights and the Gram matrix, such as "1GB"; None for as
            much as is useful. X on disk is read ahead in smaller pieces.
        distributed: whether X, Y and the weights are this process's rows of a fit that all processes of the default
            group of torch.distributed make together.

    Attributes:
        coef_: [K, H], float64; NaN unless the status is "converged". [H] after a one-dimensional y.
        intercept_: [K], float64, and NaN where `coef_` is: so are the predictions. A number after a one-dimensional y.
        status_: [K], str: "converged"; "empty": no row has weight; "not_finite": the arithmetic failed.
        grad_norm_: [K], the largest absolute gradient of the mean loss at the end. Without an intercept, of units far
            from zero, it is mostly that of the last bit of `coef_`: about 1e-16 times the square of the distance.
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
        """Fit all targets once for each of several penalties, with one Gram matrix for all.

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
        # Targets and weights are worked on where X lies, as X is.
        with torch_memory(X):
            with processes.together():
                source, X = X, as_rows(X)
                Y = as_targets(y, X.shape[0])
                flat = Y.ndim == 1
                Y = as_continuous(Y)
                C = np.array([inverse_penalties(probes.C, Y.shape[1]) for probes in path]).reshape(-1, Y.shape[1])
                for probes in path:
                    validate_data(probes, source, skip_check_array=True)
            processes.check_equal("columns of X and of Y, or in penalties", [X.shape[1], Y.shape[1], len(path)])
            processes.check_equal("C and fit_intercept", [*C.ravel().tolist(), bool(self.fit_intercept)])
            coefficients = np.full((len(path), Y.shape[1], X.shape[1]), np.nan)
            intercepts, gradients, objectives = np.full((3, *C.shape), np.nan)
            status, cancelling = np.full(C.shape, "not_finite", dtype="<U16"), np.zeros(len(path), bool)
            weights = Weights(sample_weight, X.shape[0], Y.shape[1], array_namespace(X), processes)
            with RowBlocks(X, np.float64, bytes_of(self.memory_limit), processes) as rows:
                for group in equal_weights(weights):
                    system = NormalEquations(rows, Y, weights.column(int(group[0])), group, self.fit_intercept)
                    if system.total == 0:
                        status[:, group] = "empty"
                    elif system.finite:
                        for number in range(len(path)):
                            w = system.solutions(C[number, group])
                            b = system.intercepts(w)
                            cancelling[number] |= cancels(w.T, b, system.mean, system.sd)
                            coefficients[number, group], intercepts[number, group] = w.T, b
                            gradients[number, group] = np.abs(system.gradient(w, C[number, group])).max(axis=0)
                            objectives[number, group] = system.objective(w, C[number, group])
                            status[number, group[np.isfinite(w).all(axis=0)]] = "converged"
        bad = np.argwhere(status != "converged")
        if len(bad):
            number, target = bad[0].tolist()
            warnings.warn(
                f"{len(np.unique(bad[:, 1]))} of {Y.shape[1]} ridge probes have no result (the first is target "
                f"{target}, {status[number, target]}): give them rows with positive weight and values of moderate size",
                ConvergenceWarning,
                stacklevel=3,
            )
        for probes, w, b, gradient, objective, cancelled, found in zip(
            path, coefficients, intercepts, gradients, objectives, cancelling.tolist(), status, strict=True
        ):
            probes._flat, probes._cancelling, probes.status_ = flat, cancelled, found.copy()
            probes.grad_norm_, probes.objective_ = gradient, objective
            probes.coef_, probes.intercept_ = (w[0], float(b[0])) if flat else (w, b)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets: [N, K], or [N] after a one-dimensional y.

        Args:
            X: states [N, H].
        """
        check_is_fitted(self, "coef_")
        source, X = X, as_rows(X)
        validate_data(self, source, reset=False, skip_check_array=True)
        with RowBlocks(X, prediction_dtype(X, self._cancelling), bytes_of(self.memory_limit)) as rows:
            coefficients = np.atleast_2d(self.coef_)
            predictions = linear_predictions(rows, coefficients, np.atleast_1d(self.intercept_))
        return predictions[:, 0] if self._flat else predictions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
