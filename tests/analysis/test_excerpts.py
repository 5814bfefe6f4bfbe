"""excerpts.py: which sequence is shown, and that its numbers are those of the file."""

from types import SimpleNamespace

import numpy as np
import pytest

from gatescope.analysis.excerpts import LONGEST, Prediction, excerpts
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels

LENGTHS = [4, 0, 700, 600, 3, 5]
STARTS = np.cumsum([0, *LENGTHS])
N = int(STARTS[-1])
TEXT = "".join(chr(97 + row % 26) for row in range(N))
DUMP = SimpleNamespace(sequence_starts=STARTS, text=lambda start, stop: TEXT[start:stop])
TESTED = np.array([1, 2, 3, 5])
ROWS = np.concatenate([np.arange(STARTS[s], STARTS[s + 1]) for s in TESTED])
UNIT = {"states": "layer0/h", "unit": 7, "auroc": 0.9}


def shown(values, defined=None, predicted=None, unit=UNIT):
    """The record of one hypothesis; a unit's activation is the row number."""
    kind = "boolean" if values.dtype == bool else "continuous"
    hypothesis = Hypothesis("mine", "any", kind, "past", "What it is.", None)
    defined = np.ones(N, bool) if defined is None else defined
    said = np.zeros(N) if predicted is None else predicted
    prediction = Prediction("all", "plain", said[ROWS], ROWS, unit)
    labels = Labels((hypothesis,), values[:, None], defined[:, None])
    (record,) = excerpts(DUMP, labels, TESTED, {"mine": prediction}, lambda unit, start, stop: np.arange(start, stop))
    return record


@pytest.mark.parametrize("kind", ["boolean", "continuous", "far from zero"])
def test_the_sequence_whose_first_characters_vary_most_is_shown(kind):
    random = np.random.default_rng(0)
    for _ in range(10):
        defined = random.random(N) < 0.7
        values = random.random(N) < random.random(len(LENGTHS)).repeat(LENGTHS)
        if kind != "boolean":
            values = random.normal(size=N) * random.random(len(LENGTHS)).repeat(LENGTHS) + 1e6 * (kind != "continuous")
        varies = {}
        for s in TESTED:
            rows = np.arange(STARTS[s], min(STARTS[s] + LONGEST, STARTS[s + 1]))
            known = values[rows][defined[rows]].astype(float)
            varies[s] = ((known - known.mean()) ** 2).sum() if len(known) else 0.0
        record = shown(values, defined)
        assert record["sequence"] == max(varies, key=varies.get)
        assert len(record["text"]) == min(LONGEST, LENGTHS[record["sequence"]])


def test_only_the_first_characters_decide_the_choice():
    values = np.zeros(N, bool)
    values[STARTS[2] + LONGEST : STARTS[3] : 2] = True
    values[STARTS[5] + 1] = True
    assert shown(values)["sequence"] == 5


def test_numbers_match_the_rows_of_the_sequence():
    values, defined = np.zeros(N), np.ones(N, bool)
    first = int(STARTS[5])
    values[first : first + 5], defined[first + 2] = [1.23456, 2, 0, -4, 5], False
    predicted = np.full(N, 9.0)
    predicted[first : first + 5] = [0.123456, np.nan, 2, np.inf, -1]
    record = shown(values, defined, predicted)
    assert record["sequence"] == 5 and record["text"] == TEXT[first : first + 5]
    assert record["value"] == [1.2346, 2, None, -4, 5]
    assert record["prediction"] == [0.1235, None, 2, None, -1]
    assert record["activation"] == list(range(first, first + 5)) and record["unit"] == {"states": "layer0/h", "unit": 7}
    assert (record["states"], record["weighting"], record["sees"]) == ("all", "plain", "past")
    assert shown(values, defined, predicted, unit=None)["activation"] is None


def test_rounding_does_not_change_decisions():
    values, predicted = np.zeros(N, bool), np.zeros(N)
    first = int(STARTS[5])
    values[first] = True
    predicted[first : first + 5] = [0.50004, 0.5, 0.49996, 0.4, 0.50006]
    assert shown(values, predicted=predicted)["prediction"] == [0.5001, 0.5, 0.5, 0.4, 0.5001]
    assert shown(values.astype(float), predicted=predicted)["prediction"] == [0.5, 0.5, 0.5, 0.4, 0.5001]
