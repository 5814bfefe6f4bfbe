"""Standard errors of fitted logistic regressions: from the observed information, or robust to groups of rows."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special

from gatescope.engine.arrays import to_host
from gatescope.engine.errors import InputError
from gatescope.engine.log_loss import log_loss, log_loss_curvature
from gatescope.engine.positive_definite import solution
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import BinaryTargets


@dataclass(frozen=True)
class StandardErrors:
    """Errors of K hypotheses on H units; NaN where there are none.

    Args:
        coef: [K, H], float64.
        intercept: [K]; NaN without an intercept.
        p_values: [K, H], of the coefficients being 0 (Wald 1943).
    """

    coef: np.ndarray
    intercept: np.ndarray
    p_values: np.ndarray


def infer(
    rows: RowBlocks,
    targets: BinaryTargets,
    coefficients: np.ndarray,
    intercepts: np.ndarray,
    ridge: np.ndarray,
    groups: Any,
    fit_intercept: bool,
) -> StandardErrors:
    """Return the errors of each hypothesis; one pass over X for each.

    The scores of a group are added as the threads come to its rows: its errors may differ from call to call in their
    last bits.

    Args:
        rows: X [N, H] in float64.
        targets: labels and weights.
        coefficients: [K, H].
        intercepts: [K].
        ridge: the penalty on the squares of the coefficients, [K, H]; p-values need 0.
        groups: [N] or None.
        fit_intercept: whether the intercept was fitted.

    Raises:
        InputError: groups of another length.
    """
    n_targets, n_units = coefficients.shape
    covariances = _Covariances(rows, groups, fit_intercept)
    errors = np.full((n_targets, n_units + 1), np.nan)
    # Without class weights: these are not more rows.
    n_rows = np.broadcast_to(targets.weights.sums(), (n_targets,))
    # A hypothesis of one class has an infinite intercept.
    for k in np.flatnonzero(np.isfinite(coefficients).all(axis=1) & np.isfinite(intercepts)).tolist():
        point = np.append(coefficients[k], intercepts[k])
        covariance = covariances.of(targets.signed(k, rows.dtype), point, ridge[k], float(n_rows[k]))
        if covariance is not None:
            errors[k, : len(covariance)] = np.sqrt(covariance.diagonal())
    z = np.where((ridge == 0).all(axis=1)[:, None], coefficients / errors[:, :-1], np.nan)
    return StandardErrors(errors[:, :-1], errors[:, -1], 2 * scipy.special.ndtr(-np.abs(z)))


def _mean(rows: RowBlocks) -> np.ndarray:
    """Return the mean of each unit, [H], over all rows of all processes."""
    (sums,) = rows.totals(lambda block, start, stop: (block.sum(axis=0),))
    return np.asarray(to_host(sums)) / rows.processes.total(rows.shape[0])


def _codes(groups: Any, rows: RowBlocks) -> tuple[np.ndarray, int]:
    """Return the number of each row's group [N], and of groups."""
    groups, n_rows = to_host(groups), rows.shape[0]
    with rows.processes.together():
        if groups.shape != (n_rows,):
            raise InputError(f"groups has the shape {groups.shape}: expected the group of each row, [N] = ({n_rows},)")
        if rows.processes.size > 1 and groups.dtype.kind not in "iu":
            raise InputError(f"groups has the dtype {groups.dtype}: expected integers, the same in all processes")
    if rows.processes.size == 1:
        try:
            names, codes = np.unique(groups, return_inverse=True)
            # NaN, which would be one group, is what is not equal to itself.
            missing = bool((names != names).any())
        except TypeError:
            missing = True
        if missing:
            raise InputError("groups has missing values, or names of several types: give one name to each row")
        return codes, len(names)
    names = rows.processes.union(groups)
    return np.searchsorted(names, groups), len(names)


class _Covariances:
    """The covariances of the coefficients of hypotheses on the same rows; arguments as in `infer`."""

    def __init__(self, rows: RowBlocks, groups: Any, fit_intercept: bool):
        self._rows, self._fit_intercept = rows, fit_intercept
        # Subtracted from the units, so that far from zero digits are left.
        self._mean = _mean(rows) if fit_intercept else np.zeros(rows.shape[1])
        # The number of each row's group [N], and of groups; none for independent rows.
        self._codes: np.ndarray | None
        self._codes, self._n_groups = (None, 0) if groups is None else _codes(groups, rows)
        self._width = rows.shape[1] + int(fit_intercept)

    def of(self, signed: Any, point: np.ndarray, ridge: np.ndarray, n_rows: float) -> np.ndarray | None:
        """Return the covariance of one hypothesis's coefficients, the intercept last; None where it does not exist.

        Args:
            signed: s_n (2 y_n - 1), [N].
            point: the coefficients, [H + 1].
            ridge: the penalty on their squares, [H].
            n_rows: the sum of the weights, which count rows.
        """
        width, n_units = self._width, self._rows.shape[1]
        information, scores = self._sums(signed, point)
        information[np.diag_indices(n_units)] += ridge
        inverse = solution(information, np.eye(width))
        if inverse is None:
            return None
        # To the intercept at zero from that at the mean.
        back = np.eye(width)
        if self._fit_intercept:
            back[-1, :-1] = -self._mean
        if self._codes is None:
            return np.asarray(back @ inverse @ back.T)
        weighted = to_host(signed) != 0
        counts = np.bincount(self._codes[weighted], minlength=self._n_groups).astype(np.float64)
        scores, counts = self._rows.processes.totals([scores, counts])
        present = int((counts > 0).sum())
        if present < 2 or n_rows <= width:
            return None
        half = back @ inverse @ scores.T
        # The correction for few groups that statsmodels makes; Stata makes the first half of it for logits.
        return half @ half.T * (present / (present - 1) * (n_rows - 1) / (n_rows - width))

    def _sums(self, signed: Any, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the observed information of the loss, and this process's sum of the scores of each group."""
        xp, codes, mean = self._rows.xp, self._codes, self._mean
        w, b = xp.asarray(point[:-1]), float(point[-1] + point[:-1] @ mean)
        scores = np.zeros((self._n_groups, self._width))
        adding = Lock()

        def block_sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            z, s = block @ w + b, signed[start:stop]
            design = xp.hstack([block, xp.ones((stop - start, 1))]) if self._fit_intercept else block
            root = design * xp.sqrt(log_loss_curvature(z, s))[:, None]
            if codes is None:
                return (root.T @ root,)
            score = to_host(design * log_loss(z, s)[1][:, None])
            present, place = np.unique(codes[start:stop], return_inverse=True)
            member = scipy.sparse.csr_array((np.ones(stop - start), (place, np.arange(stop - start))))
            with adding:
                scores[present] += member @ score
            return (root.T @ root,)

        with np.errstate(all="ignore"):
            information = to_host(self._rows.totals(block_sums, shift=xp.asarray(mean))[0])
        return information, scores
