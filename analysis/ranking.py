"""Which units carry a hypothesis: orders of the H units, and how far one unit stands for all.

A ranking is only an order of suspects. Whether it is right shows in a second probe on the units it puts first, and
whether the network uses them shows only in what happens when they are held.

Of 12 hypotheses on 80,000 states of 256 units of a model of Python, probes of the first 1, 2, 4, 8 and 16 units have
mean AUROC .784 .782 .795 .812 .818 by AUROC, and .785 .792 .802 .807 .818 by mutual information, .779 .788 .799 .815
.820 by Youden's J, .776 .785 .805 .816 .819 by F, .776 .794 .801 .814 .822 by |w| * sd: much the same, where mean
difference has .650 .679 .732 .780 .809 and |w| .619 .709 .746 .799 .799. Weight mass (Dalvi et al. 2019) orders the
units of one hypothesis as |w| does. What is offered here is one of those that do well, and the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

RANKINGS = ("auroc", "correlation", "weight", "weight_sd")


def unit_importance(
    by: str,
    *,
    coefficients: np.ndarray | None = None,
    sd: np.ndarray | None = None,
    auroc: np.ndarray | None = None,
    correlation: np.ndarray | None = None,
) -> np.ndarray:
    """How much each unit matters to each hypothesis; the larger, the more.

    - `auroc`: `|AUROC - 1/2|`, how well the unit alone separates the classes, in either direction.
    - `correlation`: `|r|` with a continuous hypothesis.
    - `weight`: `|w|`, the choice of van der Ouderaa (2019); it favours units of small range.
    - `weight_sd`: `|w| * sd`, the coefficient on standardised states. Where units tell the same, weights are shared
      among them, and a unit that tells nothing by itself may have a large one, to take from another what disturbs it.

    Args:
        by: one of `RANKINGS`; the arrays that it names must be given.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each unit over the training rows.
        auroc: [K, H] area under the ROC curve of each unit alone.
        correlation: [K, H] Pearson's r of each unit.

    Returns:
        [K, H] float64; NaN where the statistic is.

    Raises:
        ValueError: an unknown ranking, or one whose arrays are missing.
    """
    needs = {
        "weight": (coefficients,),
        "weight_sd": (coefficients, sd),
        "auroc": (auroc,),
        "correlation": (correlation,),
    }
    if by not in needs:
        raise ValueError(f"unknown ranking {by!r}, expected one of {', '.join(RANKINGS)}")
    arrays = [np.asarray(array, dtype=np.float64) for array in needs[by] if array is not None]
    if len(arrays) < len(needs[by]):
        raise ValueError(f"the ranking {by!r} needs an array that was not given")
    if by == "auroc":
        return np.abs(arrays[0] - 0.5)
    return np.abs(math.prod(arrays[1:], start=arrays[0]))


def rank_units(by: str, **statistics: np.ndarray | None) -> np.ndarray:
    """Order the units of each hypothesis by `unit_importance`, whose arguments it takes.

    Returns:
        [K, H] int64 unit indices, the most important first; equal ones by index, NaN last.
    """
    importance = unit_importance(by, **statistics)
    # NaN sorts behind every number, and so does its negative.
    return np.argsort(-importance, axis=1, kind="stable")


def unit_records(
    columns: Sequence[tuple[str, int]],
    order: np.ndarray,
    coefficients: np.ndarray,
    sd: np.ndarray,
    alone: Mapping[str, np.ndarray],
) -> list[list[dict[str, object]]]:
    """The first units of each hypothesis as records for a result file.

    Args:
        columns: [H] pairs such as `("layer0/h", 17)` that name the columns of the (concatenated) feature matrix.
        order: [K, n] indices of units, best first; -1 for none.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each column over the training rows.
        alone: what units tell by themselves, `auroc` or `correlation` [K, H].

    Returns:
        Per hypothesis a list of `{"states", "unit", "coefficient", "importance"}` and the numbers of `alone`.
        Importance is `|coefficient| * sd`; None stands for NaN.
    """
    numbers = {"coefficient": coefficients, "importance": np.abs(coefficients) * sd, **alone}
    return [
        [
            {"states": columns[unit][0], "unit": columns[unit][1]}
            | {name: _number(values[k, unit]) for name, values in numbers.items()}
            for unit in units
            if unit >= 0
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


def localisation(best_unit_auroc: np.ndarray, full_auroc: np.ndarray, full_low: np.ndarray) -> np.ndarray:
    """Share of what the full probe knows that the best single unit tells: `(A_unit - 1/2) / (A_full - 1/2)`.

    Of AUROC, not F1 at 1/2: a unit alone seldom reaches probability 1/2 of a rare hypothesis, however well it tells it.

    Args:
        best_unit_auroc: [K] of the first unit of a ranking, on test rows.
        full_auroc: [K] of the probe on all units, on the same rows.
        full_low: [K], the lower end of its interval.

    Returns:
        [K] float64; above 1 where the unit alone generalises better, NaN where the probe does not lie above chance
        with its whole interval: there is nothing to take a share of.
    """
    full = np.asarray(full_auroc, dtype=np.float64) - 0.5
    known = np.asarray(full_low) > 0.5
    return np.divide(np.asarray(best_unit_auroc) - 0.5, full, out=np.full(full.shape, np.nan), where=known)


def _number(value: float) -> float | None:
    """A plain float for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
