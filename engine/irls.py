"""Logistic probes: what can a linear classifier read from the states, for many hypotheses at once?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from gatescope.engine.arrays import array_namespace, as_rows, computing_dtype
from gatescope.engine.device_memory import torch_memory
from gatescope.engine.errors import InputError
from gatescope.engine.inference import StandardErrors, infer
from gatescope.engine.label_classes import positive_labels
from gatescope.engine.logistic_fit import LogisticFit, penalty_scale
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.predictions import linear_predictions, prediction_dtype
from gatescope.engine.problems import Solution
from gatescope.engine.processes import Processes
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import BinaryTargets, ClassWeight, as_targets, inverse_penalties
from gatescope.engine.weights import Weights


class LogisticProbes(ClassifierMixin, BaseEstimator):
    """Penalised logistic regressions of K hypotheses on the same states, fitted together.

    For each hypothesis with labels y, weights s >= 0 and states x it minimises scikit-learn's objective

        sum_n s_n log(1 + exp(-(2 y_n - 1)(w . x_n + b))) + |w|^2 / (2 C)

    with an unpenalised intercept b, to the same minimum as `sklearn.linear_model.LogisticRegression` alone would. A
    hypothesis that cannot be fitted is given a status and never changes the others.

    >>> probes = LogisticProbes(class_weight="balanced").fit(X, Y, sample_weight=defined)
    >>> probes.predict_proba(X)  # [N, K]

    Args:
        C: inverse strength of the penalty, a number or one for each hypothesis [K]; `inf` for none, and then a unit
            that the units before it determine, such as a duplicate, has the coefficient 0.
        class_weight: None; "balanced": each class of a hypothesis has half of its weight, as scikit-learn counts it,
            over the rows of positive weight; or a dictionary from label to factor.
        fit_intercept: whether b is fitted; otherwise it is 0.
        tol: largest absolute gradient of the mean loss, and largest half Newton decrement, at which a fit is done.
        max_iter: steps at most.
        standardize: whether the penalty is on the coefficients of (x - mean) / sd (of x / sd without an intercept),
            mean and sd taken over the rows by the weights of each hypothesis; `coef_` is on the scale of X either way.
        warm_start: whether a fit begins at the coefficients of the one before, where it had as many units and
            hypotheses; the minimum is the same, and sooner found where labels, weights or C have changed a little.
        memory_limit: what a fit may take beside X, Y and the weights, such as "1GB", or a number of bytes; None for as
            much as is useful. Fewer hypotheses then share a pass, and X on disk (a memory map or an array of a dump) is
            read ahead in smaller pieces; at least one hypothesis is fitted at a time, which takes about 40 bytes a row.
        distributed: whether X, Y and the weights are this process's rows of a fit that all processes of the default
            group of torch.distributed make together; each holds at least one row, and each gets the same coefficients.

    Attributes:
        coef_: [K, H], float64; NaN where the status is "one_class" or "not_finite".
        intercept_: [K], float64; where only one class has weight, +inf or -inf: that class is predicted for certain;
            NaN where no row has weight.
        status_: [K], str: "converged"; "max_iter": stopped before the tolerance was met; "separable": there is no
            penalty and no minimum, since a plane has every row on it or on its right side (Albert & Anderson 1984), and
            the coefficients grow without end; "one_class": fewer than two classes have weight; "not_finite": the
            arithmetic failed. At a coarse `tol` a fit may end with rows on the wrong side that such a plane would turn:
            it is then "converged".
        grad_norm_: [K], the largest absolute gradient of the mean loss at the end, summed in float64: in the intercept
            and in the coefficients of X, or with `standardize` of x / sd, of (x - mean) / sd where some unit's mean is
            more than 100 times its sd.
        half_decrement_: [K], half the Newton decrement at the end: about the distance to the minimum of the mean loss.
        objective_: [K], the objective at the end, nats.
        n_iter_: [K], steps.
        n_passes_: [K], passes over X in which the hypothesis took part.
        classes_: the two labels of a one-dimensional y; for Y [N, K] its columns by number, as in scikit-learn.
    """

    def __init__(
        self,
        C: Any = 1.0,
        *,
        class_weight: ClassWeight = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 500,
        standardize: bool = False,
        warm_start: bool = False,
        memory_limit: str | int | None = None,
        distributed: bool = False,
    ):
        self.C = C
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.standardize = standardize
        self.warm_start = warm_start
        self.memory_limit = memory_limit
        self.distributed = distributed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticProbes:
        """Fit all hypotheses.

        Args:
            X: states [N, H], NumPy, torch or CuPy; float16, bfloat16, float32 or float64. Never copied as a whole.
            y: labels [N, K], bool or 0 and 1; or [N] with any two labels.
            sample_weight: [N], or [N, K] with one column for each hypothesis; zero leaves a position out.

        Returns:
            self.

        Raises:
            InputError: shapes that do not match, NaN or infinity in X (with row and column) or in the weights, weights
                [N] that are zero everywhere, labels other than two classes, or a parameter out of range.
        """
        return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> LogisticProbes:
        """Fit all hypotheses, for `fit` and `fit_path`."""
        processes = Processes(self.distributed)
        # Labels and weights are worked on where X lies, as X is.
        with torch_memory(X):
            with processes.together():
                source, X = X, as_rows(X)
                validate_data(self, source, skip_check_array=True)
                labels, Y = positive_labels(as_targets(y, X.shape[0]))
                if self.distributed and labels.flat:
                    raise InputError("distributed=True with labels [N]: give Y [N, K], whose classes are known")
                n_targets = Y.shape[1]
                C = self._read_parameters(n_targets)
                class_weight = labels.weights(self.class_weight)
                bytes_of(self.memory_limit)
            processes.check_equal("columns of X and of Y", [X.shape[1], n_targets])
            if processes.size > 1:
                processes.check_equal("settings or in the precision of X", self._told(C, class_weight, X))
            weights = Weights(sample_weight, X.shape[0], n_targets, array_namespace(X), processes)
            targets = BinaryTargets(Y, weights, class_weight)
            two_classes = (targets.class_totals > 0).all(axis=0)
            fit = LogisticFit(C, self.tol, self.max_iter, self.fit_intercept, self.standardize, self.memory_limit)
            solution, self._cancelling = fit.minimise(X, targets, two_classes, self._earlier(X.shape[1], n_targets))
        self._labels, self.classes_ = labels, labels.names
        self._store(solution, targets.class_totals, two_classes)
        return self

    def _earlier(self, n_units: int, n_targets: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the coefficients [H, K] and intercepts [K] to begin with, if there are any."""
        if not self.warm_start or getattr(self, "coef_", np.empty(0)).shape != (n_targets, n_units):
            return None
        return self.coef_.T.copy(), self.intercept_.copy() if self.fit_intercept else np.zeros(n_targets)

    def fit_path(self, X: Any, y: Any, Cs: Iterable[float], sample_weight: Any = None) -> list[LogisticProbes]:
        """Fit all hypotheses once for each of several penalties, each fit beginning where the one before ended.

        Args:
            X, y, sample_weight: as for `fit`.
            Cs: the penalties' inverse strengths, best in ascending order.

        Returns:
            One fitted estimator for each C, in their order; this one is not changed.

        Raises:
            InputError: as `fit` does.
        """
        path: list[LogisticProbes] = []
        for C in Cs:
            probes = clone(self).set_params(C=C, warm_start=True)
            if path:
                probes.coef_, probes.intercept_ = path[-1].coef_, path[-1].intercept_
            path.append(probes._fit(X, y, sample_weight).set_params(warm_start=self.warm_start))
        return path

    def standard_errors(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> StandardErrors:
        """Return standard errors of the fitted coefficients, and p-values where they have a meaning.

        Errors are square roots of the diagonal of the inverse observed information A^-1, or with G groups of
        `A^-1 (sum_g u_g u_g') A^-1 * G / (G - 1) * (N - 1) / (N - P)` (Liang & Zeger 1986), where u_g is the sum of a
        group's scores, N that of the weights, and P the number of coefficients, the intercept included. Rows of a text
        are not independent: give each its sequence as its group; of few groups, above all of fewer than units, the
        errors come out too small. A penalty is part of the information; p-values (two-sided, normal) are NaN unless C
        is infinite and `class_weight` None.

        Args:
            X, y, sample_weight: what was fitted. Weights count rows.
            groups: the group of each row [N], or None for independent rows. Scores are then added as the threads come
                to a group's rows: errors may differ from call to call in their last bits.

        Returns:
            Errors and p-values, NaN where the status is not "converged" or the information is singular; with groups
            also where fewer than two have weight, or all weights sum to no more than there are coefficients.

        Raises:
            InputError: shapes that do not match.
        """
        check_is_fitted(self, "coef_")
        processes = Processes(self.distributed)
        with torch_memory(X):
            source, X = X, as_rows(X)
            validate_data(self, source, reset=False, skip_check_array=True)
            with processes.together():
                Y = self._labels.positive(as_targets(y, X.shape[0]))
                if Y.shape[1] != len(self.coef_):
                    raise InputError(f"Y has {Y.shape[1]} hypotheses: expected {len(self.coef_)}, as in the fit")
                C = self._read_parameters(len(self.coef_))
            weights = Weights(sample_weight, X.shape[0], Y.shape[1], array_namespace(X), processes)
            targets = BinaryTargets(Y, weights, self._labels.weights(self.class_weight))
            with RowBlocks(X, np.float64, bytes_of(self.memory_limit), processes) as rows:
                ridge = np.broadcast_to(1 / C[:, None], self.coef_.shape)
                if self.standardize:
                    ridge = ridge * penalty_scale(rows, weights).T ** 2
                coefficients = np.where((self.status_ == "converged")[:, None], self.coef_, np.nan)
                found = infer(rows, targets, coefficients, self.intercept_, ridge, groups, self.fit_intercept)
        if self.class_weight is not None:
            found.p_values[:] = np.nan
        return found

    def _store(self, solution: Solution, class_totals: np.ndarray, two_classes: np.ndarray) -> None:
        solution.status[solution.status == "stalled"] = "max_iter"
        self.coef_ = np.ascontiguousarray(solution.coefficients.T)
        certain = np.where(class_totals.sum(axis=0) > 0, np.where(class_totals[1] > 0, np.inf, -np.inf), np.nan)
        self.intercept_ = np.where(two_classes, solution.intercepts, certain)
        self.status_ = np.where(two_classes, solution.status, "one_class")
        self.grad_norm_, self.half_decrement_ = solution.gradient, solution.half_decrement
        self.objective_ = solution.objective
        self.n_iter_, self.n_passes_ = np.maximum(solution.n_iterations, 1), solution.n_passes
        bad = np.flatnonzero(two_classes & (self.status_ != "converged"))
        if len(bad):
            counts = ", ".join(f"{(self.status_ == name).sum()} {name}" for name in np.unique(self.status_[bad]))
            advice = ["lower C"]
            if not self.standardize and (self.status_[bad] != "separable").any():
                advice.append("set standardize=True")
            if (self.status_[bad] == "max_iter").any():
                # Of fits that stopped earlier the arithmetic leaves no less of the gradient.
                ran_out = (self.n_iter_[bad] >= self.max_iter).any()
                limit = f"max_iter (now {self.max_iter})" if ran_out else f"tol (now {self.tol:g})"
                advice.insert(0, f"raise {limit}")
            warnings.warn(
                f"{len(bad)} of {len(self.status_)} probes did not converge ({counts}; the first is hypothesis "
                f"{bad[0]}): {' or '.join(advice)}; see status_",
                ConvergenceWarning,
                # Who called `fit` or `fit_path`.
                stacklevel=4,
            )

    def _read_parameters(self, n_targets: int) -> np.ndarray:
        if not isinstance(self.tol, Real) or not self.tol > 0:
            raise InputError(f"tol is {self.tol}: expected a number above 0")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise InputError(f"max_iter is {self.max_iter}: expected a whole number of steps, at least 1")
        return inverse_penalties(self.C, n_targets)

    def _told(self, C: np.ndarray, class_weight: ClassWeight, X: Any) -> list[float]:
        """Return in numbers what must be the same in all processes."""
        factors = class_weight if isinstance(class_weight, Mapping) else {}
        flags = bool(self.fit_intercept), bool(self.standardize), class_weight == "balanced"
        settings = (self.tol, self.max_iter, *flags, factors.get(False, 1.0), factors.get(True, 1.0))
        return [*C.tolist(), *map(float, settings), float(np.dtype(computing_dtype(X)).itemsize)]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits w . x + b: [N, K], or [N] after a one-dimensional y.

        Args:
            X: states [N, H].
        """
        logits = self._logits(X)
        return logits[:, 0] if self._labels.flat else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of the positive class [N, K]; after a one-dimensional y that of each class [N, 2].

        Args:
            X: states [N, H].
        """
        logits = self._logits(X)
        with np.errstate(over="ignore"):
            positive = 1 / (1 + np.exp(-logits))
        if not self._labels.flat:
            return positive
        return np.hstack([1 - positive, positive]) if len(self.classes_) == 2 else np.ones_like(positive)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likelier label: [N, K] of the type of Y, or [N] of the labels of y.

        Args:
            X: states [N, H].
        """
        positive = self._logits(X) > 0
        return self._labels.named(positive)

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "coef_")
        source, X = X, as_rows(X)
        validate_data(self, source, reset=False, skip_check_array=True)
        with RowBlocks(X, prediction_dtype(X, self._cancelling), bytes_of(self.memory_limit)) as rows:
            return linear_predictions(rows, self.coef_, self.intercept_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class, tags.target_tags.multi_output = False, True
        return tags
