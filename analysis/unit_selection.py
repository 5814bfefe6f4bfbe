"""A few units that together predict a hypothesis: forward selection, which skips what earlier units already explain.

The first units of a ranking by single units may all carry the same information. For 12 hypotheses on 80,000 states of
256 units of a model of Python, probes of 2, 4, 8 and 16 units have mean AUROC .721 .736 .743 .749 if the units are
selected, .715 .728 .734 .737 if they are the first by AUROC, .712 .726 .735 .740 by mean difference in standard
deviations (F statistic), .688 .706 .733 .746 by weight times standard deviation, .673 .709 .720 .723 by weight, and
.637 .657 .713 .730 by mean difference (probeless); all units have .749. For a GRU of Shakespeare, on 80,000 states:
.953 .969 .978 .988 selected, .947 .952 .969 .979 by AUROC, .923 .949 .977 .990 by weight times standard deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import as_rows, to_host
from gatescope.engine.gram import Moments
from gatescope.engine.row_blocks import RowBlocks

# A unit adds nothing new if less than this share of its variance is left unexplained by the earlier units.
LEAST_LEFT = 1e-4


def selected_units(X: Any, Y: np.ndarray, defined: np.ndarray, n_units: int) -> np.ndarray:
    """Select units for each hypothesis, one after another; each is the one that adds most to the earlier ones.

    The criterion is R2 of least squares. For a boolean hypothesis that is Fisher's discriminant, and the selection is
    that of Torroba Hennigen, Williams & Cotterell (Intrinsic Probing through Dimension Selection, 2020) with one
    covariance for both classes.

    Args:
        X: [n, H] states, in memory or read in pieces.
        Y: [n, K] labels, bool or float.
        defined: [n, K] bool.
        n_units: how many, at most H.

    Returns:
        [K, n_units] int64 columns in the order of selection.
    """
    chosen = np.empty((Y.shape[1], n_units), np.int64)
    # Hypotheses that are defined at the same rows share the covariance of the units.
    masks, of_hypothesis = np.unique(defined, axis=1, return_inverse=True)
    for place in range(masks.shape[1]):
        members = np.flatnonzero(of_hypothesis.ravel() == place)
        if not masks[:, place].any():
            chosen[members] = np.arange(n_units)
            continue
        correlation, with_labels = _correlations(X, Y[:, members], masks[:, place])
        for k, products in zip(members.tolist(), with_labels, strict=True):
            chosen[k] = _forward(correlation, products, n_units)
    return chosen


def _correlations(X: Any, Y: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of the units [H, H] and, up to a factor, of labels and units [K, H]; 0 for a constant unit."""
    y = np.where(mask[:, None], Y - Y[mask].mean(axis=0, dtype=np.float64), 0)
    with RowBlocks(as_rows(X), np.float64) as rows:
        moments = Moments(rows, None if mask.all() else rows.xp.asarray(mask), covariance=True)
        (products,) = rows.totals(
            lambda block, start, stop: (rows.xp.asarray(y[start:stop].T) @ block,), shift=rows.xp.asarray(moments.mean)
        )
    scale = np.divide(1, moments.sd, out=np.zeros_like(moments.sd), where=moments.sd > 0)
    return moments.covariance * scale[:, None] * scale, to_host(products) * scale


def _forward(correlation: np.ndarray, products: np.ndarray, n_units: int) -> np.ndarray:
    """The units that reduce the squared error of a label most, as pivots of a Cholesky factorisation.

    Args:
        correlation: [H, H], correlations of the units.
        products: [H], products of the label and the units.
        n_units: how many to choose.
    """
    left, of_label, factor = np.diag(correlation).copy(), products.copy(), np.zeros((len(products), n_units))
    chosen = np.empty(n_units, np.int64)
    for step in range(n_units):
        adds = np.where(left > LEAST_LEFT, of_label**2 / np.maximum(left, LEAST_LEFT), 0.0)
        adds[chosen[:step]] = -1
        unit = chosen[step] = adds.argmax()
        if left[unit] > LEAST_LEFT:
            column = (correlation[:, unit] - factor[:, :step] @ factor[unit, :step]) / np.sqrt(left[unit])
            of_label -= column * (of_label[unit] / np.sqrt(left[unit]))
            left -= column**2
            factor[:, step] = column
    return chosen
