"""Which units carry a hypothesis: orders of the H units, and how far one unit stands for all.

A ranking is only an order of suspects. Whether it is right shows in a second probe on the units it puts first, and
whether the network uses them shows only in what happens when they are clamped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

RANKINGS = ("weight", "weight_sd", "auroc", "mean_difference")


def unit_importance(
    by: str,
    *,
    coefficients: np.ndarray | None = None,
    sd: np.ndarray | None = None,
    mean_difference: np.ndarray | None = None,
    auroc: np.ndarray | None = None,
) -> np.ndarray:
    """How much each unit matters to each hypothesis; the larger, the more.

    - `weight`: `|w|`, the choice of van der Ouderaa (2019); it favours units of small range.
    - `weight_sd`: `|w| * sd`, the coefficient on standardised states.
    - `auroc`: `|AUROC - 1/2|`, how well the unit alone separates the classes, in either direction.
    - `mean_difference`: `|mean of positives - mean of negatives|`, probeless (Antverg & Belinkov, 2021).

    Args:
        by: one of `RANKINGS`; the arrays that it names must be given.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each unit over the training rows.
        mean_difference: [K, H] difference of the class means.
        auroc: [K, H] area under the ROC curve of each unit alone.

    Returns:
        [K, H] float64; NaN where the statistic is.

    Raises:
        ValueError: an unknown ranking, or one whose arrays are missing.
    """
    needs = {
        "weight": (coefficients,),
        "weight_sd": (coefficients, sd),
        "auroc": (auroc,),
        "mean_difference": (mean_difference,),
    }
    if by not in needs:
        raise ValueError(f"unknown ranking {by!r}, expected one of {', '.join(RANKINGS)}")
    arrays = [np.asarray(array, dtype=np.float64) for array in needs[by] if array is not None]
    if len(arrays) < len(needs[by]):
        raise ValueError(f"the ranking {by!r} needs an array that was not given")
    if by == "auroc":
        return np.abs(arrays[0] - 0.5)
    return np.abs(math.prod(arrays[1:], start=arrays[0]))


def rank_units(
    coefficients: np.ndarray | None = None,
    sd: np.ndarray | None = None,
    mean_difference: np.ndarray | None = None,
    auroc: np.ndarray | None = None,
    by: str = "weight_sd",
) -> np.ndarray:
    """Order the units of each hypothesis by `unit_importance`.

    Args:
        coefficients, sd, mean_difference, auroc, by: as for `unit_importance`.

    Returns:
        [K, H] int64 unit indices, the most important first; equal ones by index, NaN last.
    """
    importance = unit_importance(by, coefficients=coefficients, sd=sd, mean_difference=mean_difference, auroc=auroc)
    # NaN sorts behind every number, and so does its negative.
    return np.argsort(-importance, axis=1, kind="stable")


def top_units(
    columns: Sequence[tuple[str, int]],
    coefficients: np.ndarray,
    sd: np.ndarray,
    auroc: np.ndarray | None = None,
    mean_difference: np.ndarray | None = None,
    by: str = "weight_sd",
    n: int = 10,
) -> list[list[dict[str, object]]]:
    """The first units of each hypothesis as records for a result file.

    Args:
        columns: [H] pairs such as `("layer0/h", 17)` that name the columns of the (concatenated) feature matrix.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each column over the training rows.
        auroc: [K, H], or None where no single-unit AUROC exists (continuous hypotheses).
        mean_difference: [K, H], needed only to rank by it.
        by: the ranking, one of `RANKINGS`.
        n: units to keep, at most.

    Returns:
        Per hypothesis a list, best first, of `{"states", "unit", "coefficient", "importance", "auroc"}`, where
        importance is `|coefficient| * sd` whatever the ranking, and None stands for NaN and for what was not given.
    """
    order = rank_units(coefficients, sd, mean_difference, auroc, by)[:, :n]
    importance = unit_importance("weight_sd", coefficients=coefficients, sd=sd)
    return [
        [
            {
                "states": columns[unit][0],
                "unit": columns[unit][1],
                "coefficient": _number(coefficients[k, unit]),
                "importance": _number(importance[k, unit]),
                "auroc": None if auroc is None else _number(auroc[k, unit]),
            }
            for unit in units
        ]
        for k, units in enumerate(order.tolist())
    ]


def participation_ratio(importance: np.ndarray) -> np.ndarray:
    """Effective number of units that share a hypothesis: `(sum w^2)^2 / sum w^4` (Bell & Dean, 1970).

    It is 1 where one unit carries everything and H where all carry the same; scale does not matter.

    Args:
        importance: [K, H] signed or absolute, most meaningful on standardised states (`|w| * sd`).

    Returns:
        [K] float64 between 1 and H; NaN where every unit is zero or any is NaN.
    """
    # Scaled to a largest value of 1, so that fourth powers neither overflow nor vanish.
    largest = np.abs(importance).max(axis=1, keepdims=True)
    square = np.divide(importance, largest, out=np.full(importance.shape, np.nan), where=largest > 0) ** 2
    return square.sum(axis=1) ** 2 / (square**2).sum(axis=1)


def localisation(best_unit_score: np.ndarray, full_score: np.ndarray) -> np.ndarray:
    """Share of the full probe's score that the best single unit reaches: `top-1 F1 / full F1`.

    Args:
        best_unit_score: [K] test score (F1, or R2) of a probe on the first unit of a ranking.
        full_score: [K] test score of the probe on all units, on the same rows.

    Returns:
        [K] float64; above 1 where the unit alone generalises better, NaN where the full probe scores nothing.
    """
    full = np.asarray(full_score, dtype=np.float64)
    return np.divide(best_unit_score, full, out=np.full(full.shape, np.nan), where=full > 0)


def top_overlap(orders: np.ndarray, n: int = 10) -> np.ndarray:
    """How stable a ranking's first units are: mean share of the top n that two of its repetitions have in common.

    Two rankings at random share n / H on average; identical ones share 1.

    Args:
        orders: [R, K, H] orders from R >= 2 resamples of the training sequences.
        n: how many units count as the top, at most H.

    Returns:
        [K] float64, the mean over all R (R - 1) / 2 pairs.
    """
    n_repeats, n_hypotheses, n_units = orders.shape
    if n_repeats < 2:
        raise ValueError(f"an overlap needs at least 2 rankings, got {n_repeats}")
    if not 1 <= n <= n_units:
        raise ValueError(f"the top must have 1 to {n_units} units, got {n}")
    times_on_top = np.zeros((n_hypotheses, n_units))
    np.add.at(times_on_top, (np.arange(n_hypotheses)[:, None], orders[:, :, :n]), 1)
    # A unit on top in m repetitions is shared by m (m - 1) / 2 of the pairs.
    shared = (times_on_top * (times_on_top - 1)).sum(axis=1)
    return shared / (n * n_repeats * (n_repeats - 1))


def _number(value: float) -> float | None:
    """A plain float for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
