"""Text coloured by one number per character: the colours, their legend, and how unprintable characters are shown.

The three colourings of an excerpt are those of van der Ouderaa, Quantitatively understanding recurrent networks, in
Figures 2 and 7: by hypothesis, by prediction and by the activation of the most responsible unit. The report and the
figures share them. Colours are background tints that leave the text readable, and few enough to be told apart: a single
blue where a number has one direction, teal over neutral to orange where it lies below or above a middle (both safe for
the common kinds of colour blindness).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from gatescope.analysis.results import Excerpt

# Steps of a scale in each direction: 0 to STEPS, or -STEPS to STEPS if numbers lie on both sides of a middle.
STEPS = 10
UNDEFINED = -128
# Signs for characters that take up room in the text but have no shape.
SIGNS = {"\n": "↵", "\t": "→"}


@dataclass(frozen=True)
class Colouring:
    """One number per character as steps of a colour scale, with the words of the legend.

    `step` [n] holds 0..STEPS, or -STEPS..STEPS where `signed`, or UNDEFINED; `wrong` [n] marks characters at which
    the prediction contradicts the label. `low` and `high` are the numbers at the ends of the legend.
    """

    title: str
    signed: bool
    step: np.ndarray
    wrong: np.ndarray
    low: str
    high: str
    two_valued: bool = False

    def scale(self) -> list[int]:
        """The steps that the legend shows, from `low` to `high`: 2, or at most 11."""
        if self.signed:
            # The legend shows only the range of steps that occur.
            known = self.step[self.step != UNDEFINED].tolist() or [0]
            return [*range(min(known), max(known), 2), max(known)]
        return list(range(0, STEPS + 1, STEPS if self.two_valued else 1))


def colourings(excerpt: Excerpt) -> tuple[Colouring, Colouring, Colouring]:
    """The three colourings of an excerpt: by hypothesis, by prediction, by the activation of the most responsible unit.

    Label and prediction share one scale: 0 to 1 for a boolean hypothesis, the range of the labels for a continuous one.
    """
    value, prediction, activation = (_array(x) for x in (excerpt.value, excerpt.prediction, excerpt.activation))
    nobody = np.zeros(len(value), dtype=bool)
    low, high, wrong = 0.0, 1.0, nobody
    if excerpt.kind == "boolean":
        wrong = ((prediction > 0.5) != (value > 0.5)) & ~np.isnan(value) & ~np.isnan(prediction)
    elif not np.isnan(value).all():
        low, high = float(np.nanmin(value)), float(np.nanmax(value))
    ends = (_number(low), _number(high))
    title = f"Unit {excerpt.unit}" if excerpt.unit else "No unit"
    return (
        Colouring("Hypothesis", False, _steps(value, low, high), nobody, *ends, two_valued=excerpt.kind == "boolean"),
        Colouring("Prediction", False, _steps(prediction, low, high), wrong, *ends),
        activation_colouring(title, activation),
    )


def activation_colouring(title: str, activation: np.ndarray) -> Colouring:
    """The colouring of a unit's values, NaN where it has none.

    The scale is symmetric about their mean, so that the colour shows whether the unit is higher or lower than usual,
    whatever its sign; it ends at the largest distance from the mean.
    """
    known = activation[~np.isnan(activation)]
    least, largest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    # The mean of equal numbers may differ from them by rounding.
    middle = float(known.mean()) if largest > least else least
    reach = max(largest - middle, middle - least)
    steps = _steps(activation, middle, middle + reach, signed=True)
    return Colouring(title, True, steps, np.zeros(len(steps), dtype=bool), _number(least), _number(largest))


def _array(numbers: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)


def _steps(values: np.ndarray, low: float, high: float, signed: bool = False) -> np.ndarray:
    """Round values to the nearest step of a scale that is 0 at low and STEPS at high.

    Values outside take the nearer end, NaN becomes UNDEFINED; if low equals high, all steps are 0.
    """
    share = (values - low) / (high - low) if high > low else values * 0.0
    steps = np.rint(np.clip(share, -1.0 if signed else 0.0, 1.0) * STEPS)
    return np.where(np.isnan(steps), UNDEFINED, steps).astype(np.int8)


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if abs(value) < 100 else f"{value:.0f}".replace("-", "−")


def tint(step: int, signed: bool, theme: dict[str, str]) -> str:
    """The background colour of a character, #rrggbb, mixed linearly in sRGB from paper to the end of the scale."""
    end = theme["high"] if not signed else theme["positive" if step > 0 else "negative"]
    share = abs(step) / STEPS
    channels = zip(bytes.fromhex(theme["paper"][1:]), bytes.fromhex(end[1:]), strict=True)
    return "#" + bytes(round(paper + share * (full - paper)) for paper, full in channels).hex()


def runs(colouring: Colouring) -> list[tuple[int, int]]:
    """Maximal runs (start, stop) of characters that look alike."""
    n = len(colouring.step)
    if n == 0:
        return []
    change = (np.diff(colouring.step) != 0) | (np.diff(colouring.wrong.astype(np.int8)) != 0)
    borders = [0, *(np.flatnonzero(change) + 1).tolist(), n]
    return list(pairwise(borders))


@cache
def printable(character: str) -> str:
    """Return a character, or its code point as U+XXXX if it has no shape of its own.

    These are control and format characters (joiners, and marks that change the direction of writing and could make a
    text look like another), unpaired surrogates, private and unassigned code points, and line separators.
    """
    shapeless = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return f"U+{ord(character):04X}" if shapeless else character


def visible(text: str) -> str:
    """Return text from outside, fit for one line: every character without a shape of its own is made visible."""
    return text if text.isprintable() else "".join(map(printable, text))
