"""Rankings of the H units by hypothesis, and how well the first unit does alone.

A ranking is only a list of suspects. Whether it is right shows in a second probe, fitted on the units that it puts
first; whether the network uses these units shows only when they are held.

For 12 hypotheses on 80,000 states of 256 units of a model of Python, probes of the first 1, 2, 4, 8 and 16 units have
mean AUROC .784 .782 .795 .812 .818 by AUROC, .785 .792 .802 .807 .818 by mutual information, .779 .788 .799 .815 .820
by Youden's J, .776 .785 .805 .816 .819 by F, and .776 .794 .801 .814 .822 by |w| * sd. These are much the same, while
mean difference has .650 .679 .732 .780 .809 and |w| .619 .709 .746 .799 .799. Weight mass (Dalvi et al. 2019) orders
the units of one hypothesis as |w| does. Offered here are some of those that do well, and the paper's.
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
    """How important each unit is to each hypothesis; larger is more important.

    - `auroc`: `|AUROC - 1/2|`, how well the unit alone separates the classes, in either direction.
    - `correlation`: `|r|` with a continuous hypothesis.
    - `weight`: `|w|`, the choice of van der Ouderaa (2019); it favours units of small range.
    - `weight_sd`: `|w| * sd`, the coefficient on standardised states. Units with the same information share the weight,
      and a unit that predicts nothing alone may have a large one, to cancel what disturbs another unit.

    Args:
        by: one of `RANKINGS`; the arrays that it needs must be given.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each unit over the training rows.
        auroc: [K, H] area under the ROC curve of each unit alone.
        correlation: [K, H] Pearson's r of each unit.

    Returns:
        [K, H] float64; NaN where the statistic is NaN.

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
        [K, H] int64 unit indices, the most important first; ties by index, NaN last.
    """
    importance = unit_importance(by, **statistics)
    # NaN sorts after every number, and so does -NaN.
    return np.argsort(-importance, axis=1, kind="stable")


def unit_records(
    columns: Sequence[tuple[str, int]],
    order: np.ndarray,
    coefficients: np.ndarray,
    sd: np.ndarray,
    alone: Mapping[str, np.ndarray],
) -> list[list[dict[str, object]]]:
    """The first units of each hypothesis, as records for a file of results.

    Args:
        columns: [H] pairs such as `("layer0/h", 17)` that name the columns of the (concatenated) feature matrix.
        order: [K, n] indices of units, best first; -1 for none.
        coefficients: [K, H] of the probes, on the states' own scale.
        sd: [H] standard deviation of each column over the training rows.
        alone: the score of each unit alone, `auroc` or `correlation` [K, H].

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

    It is 1 if one unit has all the weight and H if all have the same; scale does not matter.

    Args:
        importance: [K, H] signed or absolute, most meaningful on standardised states (`|w| * sd`).

    Returns:
        [K] float64 between 1 and H; NaN where every unit is zero or any is NaN.
    """
    # Scaled to a largest value of 1, so that fourth powers neither overflow nor underflow.
    largest = np.abs(importance).max(axis=1, keepdims=True)
    square = np.divide(importance, largest, out=np.full(importance.shape, np.nan), where=largest > 0) ** 2
    return square.sum(axis=1) ** 2 / (square**2).sum(axis=1)


def localisation(best_unit_auroc: np.ndarray, full_auroc: np.ndarray, full_low: np.ndarray) -> np.ndarray:
    """Share of the full probe's score above chance that the best unit reaches: `(A_unit - 1/2) / (A_full - 1/2)`.

    By AUROC, not F1 at 1/2: one unit alone seldom reaches probability 1/2 for a rare hypothesis, even if it ranks well.

    Args:
        best_unit_auroc: [K] of the first unit of a ranking, on test rows.
        full_auroc: [K] of the probe on all units, on the same rows.
        full_low: [K], the lower end of its interval.

    Returns:
        [K] float64; above 1 where the unit alone generalises better, NaN where the probe's interval is not wholly above
        chance, so that there is nothing to take a share of.
    """
    full = np.asarray(full_auroc, dtype=np.float64) - 0.5
    known = np.asarray(full_low) > 0.5
    return np.divide(np.asarray(best_unit_auroc) - 0.5, full, out=np.full(full.shape, np.nan), where=known)


def _number(value: float) -> float | None:
    """A plain float for JSON, None for NaN, which JSON lacks."""
    return None if math.isnan(value) else float(value)
