"""An excerpt as a figure for a paper: text coloured by hypothesis, by prediction and by the most responsible unit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal
from unicodedata import combining

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, Transform

from gatescope.analysis.coloured_text import (
    SIGNS,
    UNDEFINED,
    Colouring,
    colourings,
    printable,
    runs,
    tint,
    visible,
)
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import Excerpt

MONOSPACE = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf")
# A character cell in points: the advance of the font is 0.602 times its size.
FONT_SIZE, CELL_WIDTH, CELL_HEIGHT = 6.4, 6.4 * 0.602, 8.2
LEAST_COLUMNS, MOST_COLUMNS, MOST_LINES, TAB = 44, 60, 60, 4
UNDERLINE = 1.0
UNDEFINED_KEY = "undefined"

Cell = tuple[int, int, int, str]
Fills = dict[str, list[Outline]]


def text_figure(excerpt: Excerpt) -> Figure:
    """Draw an excerpt coloured by hypothesis, by prediction and by the most responsible unit, side by side.

    Args:
        excerpt: text with three numbers per character.

    Returns:
        The figure; lines are wrapped at 60 columns, text beyond 60 lines is cut, with a note.
    """
    longest = max((len(line.expandtabs(TAB)) for line in excerpt.text.split("\n")), default=0)
    columns = min(max(longest, LEAST_COLUMNS), MOST_COLUMNS)
    cells, complete = _cells(excerpt.text, columns)
    lines = 1 + max((line for line, *_ in cells), default=0)
    # Points throughout, origin at the lower left corner.
    panel, gap, margin = columns * CELL_WIDTH, 18.0, 10.0
    top, bottom = 51.0, margin + (0.0 if complete else 12.0)
    width, height = 2 * margin + 3 * panel + 2 * gap, top + lines * CELL_HEIGHT + bottom
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.text(margin, height - 14, drawable(excerpt.hypothesis, 80), fontsize=9, fontweight="bold", va="center")
    fills: Fills = {}
    lefts = [margin + i * (panel + gap) for i in range(3)]
    for left, colouring in zip(lefts, colourings(excerpt), strict=True):
        _panel_head(axes, fills, colouring, left, height - 34, panel)
        _tint_cells(fills, cells, colouring, left, height - top)
    _draw_fills(axes, fills)
    _draw_glyphs(axes, Affine2D().scale(1 / 72) + figure.dpi_scale_trans, cells, lefts, height - top)
    if not complete:
        axes.text(margin, margin, f"The first {MOST_LINES} lines.", fontsize=7, color=LIGHT["muted"], va="center")
    return figure


def _cells(text: str, columns: int) -> tuple[list[Cell], bool]:
    """Lay out text as an editor does: line, column, width and glyph of every character, and whether all of them fit."""
    cells: list[Cell] = []
    line = column = 0
    for character in text:
        width = TAB - column % TAB if character == "\t" else 1
        # A newline may hang over the edge instead of making an empty line.
        if column + width > columns and character != "\n":
            line, column = line + 1, 0
            width = TAB if character == "\t" else 1
        if line == MOST_LINES:
            return cells, False
        cells.append((line, column, width, _glyph(character)))
        line, column = (line + 1, 0) if character == "\n" else (line, column + width)
    return cells, True


@cache
def _glyph(character: str) -> str:
    """The glyph for a cell: the character, an arrow for a tab or newline, or a box if the font cannot draw it there."""
    if character in SIGNS:
        return SIGNS[character]
    drawn = printable(character) == character and not combining(character) and _font().get_char_index(ord(character))
    return character if drawn else "□"


def drawable(text: str, longest: int) -> str:
    """A name from outside that a figure can show: without characters that the font lacks, cut to a length."""
    text = "".join(character if _font().get_char_index(ord(character)) else "□" for character in visible(text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def inches(label: str, size: float) -> float:
    """Return the width of a label in the figures' font, at a size in points."""
    # TextPath would read a pair of dollar signs as mathematics.
    path = TextPath((0, 0), label.replace("$", "S"), size=size, prop=FontProperties(family="DejaVu Sans"))
    return path.get_extents().width / 72


@cache
def _font() -> FT2Font:
    return FT2Font(MONOSPACE)


@cache
def _outline(glyph: str) -> Outline:
    return TextPath((0, 0), glyph, size=FONT_SIZE, prop=FontProperties(fname=MONOSPACE))


def _tint_cells(fills: Fills, cells: Sequence[Cell], colouring: Colouring, left: float, top: float) -> None:
    """Add the tints of one panel, and the underlines of its wrong predictions."""
    for start, stop in runs(colouring):
        step = int(colouring.step[start])
        key = UNDEFINED_KEY if step == UNDEFINED else tint(step, colouring.signed, LIGHT)
        for line, first, end in _stretches(cells[start:stop]):
            x0, x1, y = left + first * CELL_WIDTH, left + end * CELL_WIDTH, top - (line + 1) * CELL_HEIGHT
            _fill(fills, key, x0, y, x1, y + CELL_HEIGHT)
            if colouring.wrong[start]:
                _fill(fills, LIGHT["ink"], x0, y, x1, y + UNDERLINE)


def _stretches(cells: Sequence[Cell]) -> list[tuple[int, int, int]]:
    """Consecutive cells as (line, first column, column after the last), one per line."""
    stretches: list[tuple[int, int, int]] = []
    for line, column, width, _ in cells:
        if stretches and stretches[-1][0] == line:
            stretches[-1] = (line, stretches[-1][1], column + width)
        else:
            stretches.append((line, column, column + width))
    return stretches


def _fill(fills: Fills, key: str, left: float, bottom: float, right: float, top: float) -> None:
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    fills.setdefault(key, []).append(Outline(corners, closed=True))


def _draw_fills(axes: Axes, fills: Fills) -> None:
    """Draw one shape per colour, underlines last so that no tint covers them."""
    for key in sorted(fills, key=lambda key: (key == LIGHT["ink"], key)):
        # Without antialiasing, so that neighbours leave no seam.
        shape = PathPatch(Outline.make_compound_path(*fills[key]), linewidth=0, antialiased=False)
        if key == UNDEFINED_KEY:
            shape.set(facecolor=LIGHT["paper"], edgecolor=LIGHT["behind"], hatch="//////")
        else:
            shape.set(facecolor=key)
        axes.add_artist(shape)


def _draw_glyphs(axes: Axes, points: Transform, cells: Sequence[Cell], lefts: Sequence[float], top: float) -> None:
    """Set the characters of all panels, one collection per glyph."""
    glyphs: dict[str, list[tuple[float, float]]] = {}
    for line, column, _, glyph in cells:
        if not glyph.isspace():
            y = top - (line + 0.73) * CELL_HEIGHT
            glyphs.setdefault(glyph, []).extend((left + column * CELL_WIDTH, y) for left in lefts)
    for glyph, offsets in glyphs.items():
        shapes = PathCollection([_outline(glyph)], offsets=offsets, offset_transform=axes.transData)
        # Unsnapped: snapping to pixels thickens stems unevenly at this size.
        shapes.set(
            facecolor=LIGHT["faint"] if glyph in SIGNS.values() else LIGHT["ink"],
            linewidth=0,
            transform=points,
            snap=False,
        )
        axes.add_collection(shapes, autolim=False)


def _panel_head(axes: Axes, fills: Fills, colouring: Colouring, left: float, y: float, width: float) -> None:
    """Draw the panel's title at the left, its colour scale and key at the right, and a rule below."""

    def word(x: float, text: str, align: Literal["left", "right"]) -> None:
        axes.text(x, y, text, fontsize=6.4, va="center", ha=align)

    swatch, half = 4.6, 3.0
    steps = colouring.scale()
    right = left + width - 3.8 * len(colouring.high) - 3
    x = right - swatch * len(steps)
    word(right + 3, colouring.high, "left")
    word(x - 3, colouring.low, "right")
    for i, step in enumerate(steps):
        corner = x + i * swatch
        _fill(fills, tint(step, colouring.signed, LIGHT), corner, y - half, corner + swatch, y + half)
    axes.add_artist(
        Rectangle((x, y - half), right - x, 2 * half, fill=False, edgecolor=LIGHT["faint"], linewidth=0.4, zorder=2)
    )
    x -= 12 + 3.8 * len(colouring.low)
    keys = (("undefined", UNDEFINED_KEY, UNDEFINED in colouring.step), ("wrong", LIGHT["ink"], colouring.wrong.any()))
    for name, key, present in keys:
        if present:
            word(x, name, "right")
            x -= 3.6 * len(name) + 4
            _fill(fills, key, x - 8, y - half, x, y + half if key == UNDEFINED_KEY else y - half + UNDERLINE)
            x -= 16
    axes.text(left, y, drawable(colouring.title, int((x - left) / 4.3)), fontsize=7.5, va="center")
    axes.plot([left, left + width], [y - 9, y - 9], color=LIGHT["rule"], linewidth=0.6)
