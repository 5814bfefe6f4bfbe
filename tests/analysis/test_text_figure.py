"""An excerpt as a picture: where each character stands, and the colour behind it."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from gatescope.analysis.coloured_text import tint
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import Excerpt
from gatescope.analysis.text_figure import CELL_HEIGHT, CELL_WIDTH, _cells, drawable, text_figure


def excerpt(text, value=None, prediction=None, activation=None, name="name"):
    nothing = (None,) * len(text)
    return Excerpt(
        *(name, "boolean", "all", "plain", "", "past", 0, text),
        value=value or nothing,
        prediction=prediction or nothing,
        unit="layer0/h 3",
        activation=activation or nothing,
    )


def pixels(figure, dpi=144):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    buffer.seek(0)
    return np.rint(imread(buffer)[:, :, :3] * 255).astype(int)


def test_text_is_laid_out_as_in_an_editor():
    cells, complete = _cells("ab\tc\n\tdefgh", 8)
    assert complete
    assert [(line, column, width) for line, column, width, _ in cells] == [
        *((0, 0, 1), (0, 1, 1), (0, 2, 2), (0, 4, 1), (0, 5, 1)),
        *((1, 0, 4), (1, 4, 1), (1, 5, 1), (1, 6, 1), (1, 7, 1), (2, 0, 1)),
    ]
    assert "".join(glyph for *_, glyph in cells) == "ab→c↵→defgh"


def test_a_newline_overhangs_instead_of_starting_a_line():
    cells, _ = _cells("abcd\ne", 4)
    assert [(line, column) for line, column, *_ in cells] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]


def test_text_beyond_the_last_line_is_dropped():
    assert _cells("\n" * 60, 44)[1]
    cells, complete = _cells("\n" * 61, 44)
    assert (len(cells), complete) == (60, False)
    words = [text.get_text() for text in text_figure(excerpt("x\n" * 70)).axes[0].texts]
    assert "The first 60 lines." in words
    assert "The first 60 lines." not in [text.get_text() for text in text_figure(excerpt("x")).axes[0].texts]


@pytest.mark.parametrize("character", ["\x00", "\u202e", "\ud800", "漢", "\u0301", "\U000e0001"])
def test_undrawable_characters_become_boxes(character):
    assert _cells(character, 8)[0][0][3] == "□"


def test_names_are_drawable():
    assert drawable("inside_string", 32) == "inside_string"
    assert drawable("漢a\x00", 32) == "□aU+0000"
    assert drawable("abcdef", 4) == "abc…"


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def test_the_colours_of_each_panel_match_its_numbers():
    # Blanks, so that no glyph covers the tint.
    text = " " * 4
    figure = text_figure(excerpt(text, (0, 1, 1, None), (0.0, 0.3, 1.0, 1.0), (-1.0, 0.3, 0.7, None)))
    image = pixels(figure)
    panel = 44 * CELL_WIDTH
    expected: list[list[str | None]] = [
        [LIGHT["paper"], LIGHT["high"], LIGHT["high"], None],
        [LIGHT["paper"], tint(3, False, LIGHT), LIGHT["high"], LIGHT["high"]],
        [LIGHT["negative"], tint(3, True, LIGHT), tint(7, True, LIGHT), None],
    ]
    for i_panel, colours in enumerate(expected):
        for column, colour in enumerate(colours):
            # Two pixels per point; 51 points of heading above the first line.
            x = 2 * (10 + i_panel * (panel + 18) + (column + 0.5) * CELL_WIDTH)
            y = 2 * (51 + 0.4 * CELL_HEIGHT)
            seen = tuple(image[int(y), int(x)])
            if colour is not None:
                assert seen == rgb(colour), (i_panel, column)
    # Undefined cells are hatched, in no single colour and in grey only.
    x, y = 2 * (10 + 3 * CELL_WIDTH), 2 * 51
    cell = image[int(y) + 1 : int(y + 2 * CELL_HEIGHT) - 1, int(x) + 1 : int(x + 2 * CELL_WIDTH) - 1].reshape(-1, 3)
    assert len(np.unique(cell, axis=0)) > 1
    assert np.all(np.ptp(cell, axis=1) < 24)


def test_each_character_is_drawn_in_its_cell():
    image = pixels(text_figure(excerpt("x\nM\t|")), dpi=288)
    ink, line = np.all(image < 96, axis=2), int(4 * CELL_HEIGHT)
    for i_panel in range(3):
        for number, columns in ((0, [0]), (1, [0, 4])):
            # Four pixels per point; 51 points of heading above the first line.
            left, top = 4 * (10 + i_panel * (44 * CELL_WIDTH + 18)), int(4 * (51 + number * CELL_HEIGHT))
            drawn = np.flatnonzero(ink[top : top + line, int(left) : int(left + 4 * 8 * CELL_WIDTH)].any(axis=0))
            assert sorted({int(x / (4 * CELL_WIDTH)) for x in drawn + 0.5}) == columns
            rows = np.flatnonzero(ink[top : top + line, int(left) : int(left + 4 * CELL_WIDTH)].any(axis=1))
            # Letters stand on the baseline, 73% of a cell below its top.
            assert abs(rows.max() - 0.73 * line) <= 1.5


def test_only_wrong_predictions_are_underlined():
    figure = text_figure(excerpt("    ", (0, 1, 1, None), (0.9, 0.9, 0.1, 0.1)))
    image = pixels(figure)
    left, bottom = 10 + 44 * CELL_WIDTH + 18, 51 + CELL_HEIGHT
    row = image[int(2 * bottom) - 1]
    underlined = [tuple(row[int(2 * (left + (column + 0.5) * CELL_WIDTH))]) == rgb(LIGHT["ink"]) for column in range(4)]
    assert underlined == [True, False, True, False]


@pytest.mark.parametrize("name", ["short", "m" * 300, "$a$ $b$", "a\nb"])
@pytest.mark.parametrize("text", ["", "x", "m" * 500, "\t\t\tx\n" * 3])
def test_nothing_is_clipped(name, text):
    n = len(text)
    figure = text_figure(excerpt(text, (1.0,) * n, (0.1,) * n, (-123.0,) * n, name=name))
    pixels(figure, dpi=72)
    width, height = figure.get_size_inches() * 72
    for word in figure.axes[0].texts:
        box = word.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        assert min(box.x0, box.y0) >= 0 and box.x1 * 72 <= width and box.y1 * 72 <= height, word.get_text()
    boxes = [word.get_window_extent() for word in figure.axes[0].texts if word.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
