"""Steps of the colour scales, and characters without a glyph of their own."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatescope.analysis.coloured_text import (
    STEPS,
    UNDEFINED,
    colourings,
    printable,
    runs,
    visible,
)
from gatescope.analysis.results import Excerpt


def excerpt(value, prediction, activation, kind="boolean", unit="layer0/h 3"):
    text = "x" * len(value)
    return Excerpt("name", kind, "all", "plain", "", "past", 0, text, value, prediction, unit, activation)


def test_boolean_labels_predictions_and_activations_map_to_colour_steps():
    label, prediction, unit = colourings(
        excerpt((0, 1, None, 1, 0, 1), (0.0, 0.5, 0.94, 0.49, 0.5, None), (-2.0, 0.75, 0.09, 2.0, None, 0.82))
    )
    assert label.step.tolist() == [0, STEPS, UNDEFINED, STEPS, 0, STEPS]
    assert prediction.step.tolist() == [0, 5, 9, 5, 5, UNDEFINED]
    # From the mean, 0.332, to the farthest value, 2.332 below it.
    assert unit.step.tolist() == [-10, 2, -1, 7, UNDEFINED, 2]
    # A prediction is wrong where the label is defined and lies on the other side of one half.
    assert prediction.wrong.tolist() == [False, True, False, True, False, False]
    assert not label.wrong.any() and not unit.wrong.any()
    assert (label.low, label.high, prediction.low, prediction.high) == ("0", "1", "0", "1")
    assert (unit.low, unit.high) == ("−2", "2")
    assert (label.title, prediction.title, unit.title) == ("Hypothesis", "Prediction", "Unit layer0/h 3")
    assert label.scale() == [0, STEPS]
    assert prediction.scale() == list(range(STEPS + 1))
    assert unit.scale() == [-10, -8, -6, -4, -2, 0, 2, 4, 6, 7]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_unit_of_constant_sign_uses_both_colours(sign):
    activation = tuple(sign * value for value in (0.9, 0.8, 0.1, 1.0))
    unit = colourings(excerpt((0, 0, 1, 0), (0.5,) * 4, activation))[2]
    assert unit.step.tolist() == [sign * step for step in (3, 2, -10, 5)]
    assert (unit.low, unit.high) == (("0.1", "1") if sign > 0 else ("−1", "−0.1"))
    assert (unit.scale()[0], unit.scale()[-1]) == ((-10, 5) if sign > 0 else (-5, 10))


def test_continuous_predictions_use_the_scale_of_the_labels():
    label, prediction, _ = colourings(
        excerpt((2.0, 4.0, None, 3.0), (1.0, 9.0, 2.4, 3.0), (0.0,) * 4, kind="continuous")
    )
    assert label.step.tolist() == [0, 10, UNDEFINED, 5]
    assert prediction.step.tolist() == [0, 10, 2, 5]
    assert not prediction.wrong.any()
    assert (prediction.low, prediction.high) == ("2", "4")
    assert len(label.scale()) == STEPS + 1


@pytest.mark.parametrize("kind", ["boolean", "continuous"])
def test_constant_missing_and_empty_values_are_coloured_without_error(kind):
    for values in ((None, None), (0.0, 0.0), ()):
        for colouring in colourings(excerpt(values, values, values, kind=kind, unit=None)):
            assert set(colouring.step.tolist()) <= {0, UNDEFINED}
    assert colourings(excerpt((), (), (), unit=None))[2].title == "No unit"


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=40))
def test_steps_are_the_nearest_and_runs_cover_the_text(numbers):
    values = tuple(numbers)
    for colouring in colourings(excerpt(values, values, values, kind="continuous")):
        known = np.array([number for number in numbers if number is not None])
        steps = colouring.step[[number is not None for number in numbers]]
        if colouring.signed and known.size and known.max() > known.min():
            far = known - known.mean()
            assert np.all(np.abs(far / np.abs(far).max() * STEPS - steps) <= 0.5 + 1e-9)
        elif not colouring.signed and known.size and known.max() > known.min():
            shares = (known - known.min()) / (known.max() - known.min())
            assert np.all(np.abs(shares * STEPS - steps) <= 0.5 + 1e-9)
        assert [number is None for number in numbers] == (colouring.step == UNDEFINED).tolist()
        borders = runs(colouring)
        assert [i for start, stop in borders for i in range(start, stop)] == list(range(len(numbers)))
        assert all(len(set(colouring.step[start:stop].tolist())) == 1 for start, stop in borders)
        firsts = [int(colouring.step[start]) for start, _ in borders]
        assert all(a != b for a, b in pairwise(firsts))


def test_runs_split_where_only_the_mark_changes():
    _, prediction, _ = colourings(excerpt((1, 0, 0), (0.5, 0.5, 0.5), (0.0,) * 3))
    assert runs(prediction) == [(0, 1), (1, 3)]
    assert runs(dataclasses.replace(prediction, wrong=np.zeros(3, dtype=bool))) == [(0, 3)]


@pytest.mark.parametrize(
    "character, shown",
    [
        ("a", "a"),
        (" ", " "),
        ("é", "é"),
        ("\u0301", "\u0301"),
        ("א", "א"),
        ("😀", "😀"),
        ("\x00", "U+0000"),
        ("\x1b", "U+001B"),
        ("\r", "U+000D"),
        ("\x7f", "U+007F"),
        ("\x85", "U+0085"),
        ("\u200d", "U+200D"),
        ("\u202e", "U+202E"),
        ("\u2028", "U+2028"),
        ("\ud83d", "U+D83D"),
        ("\ue000", "U+E000"),
        ("\ufeff", "U+FEFF"),
        ("\uffff", "U+FFFF"),
    ],
)
def test_invisible_characters_are_shown_by_code_point(character, shown):
    assert printable(character) == shown
    assert visible(f"a{character}b") == f"a{shown}b"


def test_names_are_shown_on_one_line():
    assert visible("one\ntwo\tthree") == "oneU+000AtwoU+0009three"
