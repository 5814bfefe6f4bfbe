"""Texts to paint: for each hypothesis one test sequence with labels, predictions and a unit's activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.analysis.labels import Labels
from gatescope.engine.state_source import StateSource

LONGEST = 500  # characters of an excerpt


@dataclass(frozen=True)
class Prediction:
    """What a probe says of the test rows.

    Args:
        states: the state set that it was fitted on.
        weighting: how.
        values: probability or value at each test row, [n].
        rows: the test rows, [n], sorted.
        unit: the unit that its ranking puts first, {"states", "unit", ...}, or None.
    """

    states: str
    weighting: str
    values: np.ndarray
    rows: np.ndarray
    unit: dict[str, Any] | None


def excerpt(
    dump: StateSource,
    labels: Labels,
    k: int,
    test_sequences: np.ndarray,
    prediction: Prediction,
    activation: Callable[[dict[str, Any], int, int], np.ndarray],
) -> dict[str, Any]:
    """Return the record of one hypothesis for `excerpts.json`.

    The sequence is chosen by its labels alone: the one in whose first 500 characters they vary most.

    Args:
        dump: the states and their text.
        labels: the labels of the hypothesis's kind.
        k: its place among them.
        test_sequences: the sequences to choose from.
        prediction: of the probe to show.
        activation: gives a unit's activation at the rows start:stop.
    """
    each = labels.hypotheses[k]
    starts = dump.sequence_starts
    spans = [(int(starts[s]), int(min(starts[s] + LONGEST, starts[s + 1]))) for s in test_sequences]
    variances = [_variance(labels.values[a:b, k], labels.defined[a:b, k]) for a, b in spans]
    best = int(np.argmax(variances))
    start, stop = spans[best]
    at = np.searchsorted(prediction.rows, np.arange(start, stop))
    value = labels.values[start:stop, k].astype(np.float64)
    unit = prediction.unit
    return {
        "hypothesis": each.name,
        "kind": each.values,
        "states": prediction.states,
        "weighting": prediction.weighting,
        "description": each.description,
        "sees": each.sees,
        "sequence": int(test_sequences[best]),
        "text": dump.text(start, stop),
        "value": [
            round(float(number), 4) if known else None
            for number, known in zip(value, labels.defined[start:stop, k], strict=True)
        ],
        "prediction": _rounded(prediction.values[at], each.values == "boolean"),
        "unit": None if unit is None else {"states": unit["states"], "unit": unit["unit"]},
        "activation": None if unit is None else _rounded(activation(unit, start, stop)),
    }


def _variance(values: np.ndarray, defined: np.ndarray) -> float:
    return float(np.var(values[defined].astype(np.float64))) * defined.sum() if defined.any() else 0.0


def _rounded(values: np.ndarray, decides: bool = False) -> list[float | None]:
    """Values as JSON has them; what decides by being above 1/2 or not still does."""
    rounded = np.round(values.astype(np.float64), 4)
    if decides:
        rounded[(rounded <= 0.5) & (values > 0.5)] = 0.5001
    return [float(value) if np.isfinite(value) else None for value in rounded]
