"""Steps of the colour scales, the colours themselves, and characters without a shape of their own."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatescope.analysis.coloured_text import (
    DARK,
    LIGHT,
    STEPS,
    UNDEFINED,
    colourings,
    printable,
    runs,
    tint,
    visible,
)
from gatescope.analysis.report_style import DARK_PAGE, LIGHT_PAGE
from gatescope.analysis.results import Excerpt


def excerpt(value, prediction, activation, kind="boolean", unit="layer0/h 3"):
    text = "x" * len(value)
    return Excerpt("name", kind, "all", "plain", "", "past", 0, text, value, prediction, unit, activation)


def test_boolean_labels_predictions_and_activations_take_their_steps():
    label, prediction, unit = colourings(
        excerpt((0, 1, None, 1, 0, 1), (0.0, 0.5, 0.94, 0.49, 0.5, None), (-2.0, 0.75, 0.09, 2.0, None, 0.82))
    )
    assert label.step.tolist() == [0, STEPS, UNDEFINED, STEPS, 0, STEPS]
    assert prediction.step.tolist() == [0, 5, 9, 5, 5, UNDEFINED]
    # From the mean, 0.332, to the farthest, 2.332 below.
    assert unit.step.tolist() == [-10, 2, -1, 7, UNDEFINED, 2]
    # Wrong where defined, predicted, and on the other side of one half.
    assert prediction.wrong.tolist() == [False, True, False, True, False, False]
    assert not label.wrong.any() and not unit.wrong.any()
    assert (label.low, label.high, prediction.low, prediction.high) == ("0", "1", "0", "1")
    assert (unit.low, unit.high) == ("−2", "2")
    assert (label.title, prediction.title, unit.title) == ("Hypothesis", "Prediction", "Unit layer0/h 3")
    assert label.scale() == [0, STEPS]
    assert prediction.scale() == list(range(STEPS + 1))
    assert unit.scale() == [-10, -8, -6, -4, -2, 0, 2, 4, 6, 7]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_unit_that_keeps_its_sign_has_both_colours(sign):
    activation = tuple(sign * value for value in (0.9, 0.8, 0.1, 1.0))
    unit = colourings(excerpt((0, 0, 1, 0), (0.5,) * 4, activation))[2]
    assert unit.step.tolist() == [sign * step for step in (3, 2, -10, 5)]
    assert (unit.low, unit.high) == (("0.1", "1") if sign > 0 else ("−1", "−0.1"))
    assert (unit.scale()[0], unit.scale()[-1]) == ((-10, 5) if sign > 0 else (-5, 10))


def test_continuous_predictions_take_the_scale_of_the_labels():
    label, prediction, _ = colourings(
        excerpt((2.0, 4.0, None, 3.0), (1.0, 9.0, 2.4, 3.0), (0.0,) * 4, kind="continuous")
    )
    assert label.step.tolist() == [0, 10, UNDEFINED, 5]
    assert prediction.step.tolist() == [0, 10, 2, 5]
    assert not prediction.wrong.any()
    assert (prediction.low, prediction.high) == ("2", "4")
    assert len(label.scale()) == STEPS + 1


@pytest.mark.parametrize("kind", ["boolean", "continuous"])
def test_nothing_to_tell_apart_is_no_error(kind):
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


def test_runs_part_where_only_the_mark_changes():
    _, prediction, _ = colourings(excerpt((1, 0, 0), (0.5, 0.5, 0.5), (0.0,) * 3))
    assert runs(prediction) == [(0, 1), (1, 3)]
    assert runs(dataclasses.replace(prediction, wrong=np.zeros(3, dtype=bool))) == [(0, 3)]


def luminance(colour):
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme, page", [(LIGHT, LIGHT_PAGE), (DARK, DARK_PAGE)], ids=["light", "dark"])
def test_text_is_readable_on_every_tint(theme, page):
    steps = [(step, False) for step in range(STEPS + 1)] + [(step, True) for step in range(-STEPS, STEPS + 1)]
    assert tint(0, False, theme) == tint(0, True, theme) == theme["paper"]
    assert tint(STEPS, False, theme) == theme["high"]
    assert (tint(-STEPS, True, theme), tint(STEPS, True, theme)) == (theme["negative"], theme["positive"])
    # 4.5 is what WCAG 2.2 asks of text, 3 of graphical marks.
    for step, signed in steps:
        assert contrast(theme["ink"], tint(step, signed, theme)) >= 4.5
    for name in ("muted", "plain", "balanced"):
        assert contrast(page[name], theme["paper"]) >= 4.5
    assert contrast(page["faint"], theme["paper"]) >= 3


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, vision):
    """CIE L*a*b* of an sRGB colour as somebody with this vision sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DICHROMATS[vision]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(to_xyz @ seen / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", DICHROMATS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_ends_of_the_scales_differ_without_one_kind_of_cone(theme, vision):
    ends = [lab(theme[name], vision) for name in ("negative", "paper", "positive")]
    # A difference of 2.3 is just noticeable (Mahy, Van Eycken and Oosterlinck 1994); ten times that is plain to see.
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert np.linalg.norm(ends[i] - ends[j]) > 23
    assert np.linalg.norm(lab(theme["high"], vision) - lab(theme["paper"], vision)) > 23


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
def test_what_has_no_shape_is_shown_by_its_code_point(character, shown):
    assert printable(character) == shown
    assert visible(f"a{character}b") == f"a{shown}b"


def test_a_name_stays_on_its_line():
    assert visible("one\ntwo\tthree") == "oneU+000AtwoU+0009three"
