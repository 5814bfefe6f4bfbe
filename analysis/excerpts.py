"""Texts to paint: for each hypothesis, one test sequence with labels, predictions and the activation of a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.analysis.labels import Labels
from gatescope.engine.state_source import StateSource

LONGEST = 500  # characters of an excerpt


@dataclass(frozen=True)
class Prediction:
    """What a probe predicts for the test rows.

    Args:
        states: the state set that it was fitted on.
        weighting: the class weights of the fit.
        values: probability or value at each test row, [n].
        rows: the test rows, [n], sorted.
        unit: the first unit of its ranking, {"states", "unit", ...}, or None.
    """

    states: str
    weighting: str
    values: np.ndarray
    rows: np.ndarray
    unit: dict[str, Any] | None


def excerpts(
    dump: StateSource,
    labels: Labels,
    test_sequences: np.ndarray,
    predictions: Mapping[str, Prediction],
    activation: Callable[[dict[str, Any], int, int], np.ndarray],
) -> list[dict[str, Any]]:
    """Return the record of each hypothesis for `excerpts.json`.

    The sequence is chosen by its labels alone: they vary most in its first 500 characters.

    Args:
        dump: the states and their text.
        labels: K hypotheses.
        test_sequences: the sequences to choose from, sorted.
        predictions: predictions of the probe to show, by hypothesis.
        activation: returns a unit's activation at the rows start:stop.
    """
    begins, ends = dump.sequence_starts[test_sequences], dump.sequence_starts[test_sequences + 1]
    chosen = test_sequences[ends > begins]
    begins, ends = begins[ends > begins], np.minimum(begins + LONGEST, ends)[ends > begins]
    first = np.cumsum(ends - begins) - (ends - begins)
    rows = np.concatenate(list(map(np.arange, begins, ends)))
    records = []
    for k, each in enumerate(labels.hypotheses):
        best = np.argmax(_variation(labels.values[rows, k], labels.defined[rows, k], first))
        start, stop = int(begins[best]), int(ends[best])
        prediction = predictions[each.name]
        at, unit = np.searchsorted(prediction.rows, np.arange(start, stop)), prediction.unit
        value = labels.values[start:stop, k].astype(np.float64)
        records.append(
            {
                "hypothesis": each.name,
                "kind": each.values,
                "states": prediction.states,
                "weighting": prediction.weighting,
                "description": each.description,
                "sees": each.sees,
                "sequence": int(chosen[best]),
                "text": dump.text(start, stop),
                "value": [
                    round(float(number), 4) if known else None
                    for number, known in zip(value, labels.defined[start:stop, k], strict=True)
                ],
                "prediction": _rounded(prediction.values[at], each.values == "boolean"),
                "unit": None if unit is None else {"states": unit["states"], "unit": unit["unit"]},
                "activation": None if unit is None else _rounded(activation(unit, start, stop)),
            }
        )
    return records


def _variation(values: np.ndarray, defined: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sum of squared differences from the mean, [S], over the defined rows of each sequence.

    Args:
        values, defined: at the rows of all sequences, one after another.
        first: [S], the first row of each sequence.
    """
    numbers = np.where(defined, values, 0).astype(np.float64)
    if values.dtype != bool and defined.any():
        # The squares of values far from zero would lose precision.
        numbers = np.where(defined, numbers - numbers[defined].mean(), 0)
    count, total, square = (np.add.reduceat(each, first) for each in (defined.astype(np.float64), numbers, numbers**2))
    return square - total**2 / np.maximum(count, 1)


def _rounded(values: np.ndarray, decides: bool = False) -> list[float | None]:
    """Values rounded for JSON; for a probability that decides, rounding never moves it across 1/2."""
    rounded = np.round(values.astype(np.float64), 4)
    if decides:
        rounded[(rounded <= 0.5) & (values > 0.5)] = 0.5001
    return [float(value) if np.isfinite(value) else None for value in rounded]
