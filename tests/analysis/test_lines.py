from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis.lines import (
    UNDEFINED,
    LineState,
    character_bytes,
    fill_between,
    next_solid,
    remembered,
    scan_columns,
    scan_widths,
    solid_starts,
)


def by_characters(text, tab):
    """Column and leading width, one character at a time."""
    columns, widths = [], []
    column, width, leading = 0, 0, True
    for character in text:
        column += 1
        if character == "\n":
            column, width, leading = 0, 0, True
            widths.append(UNDEFINED)
        elif leading and character in " \t\r\x0b\x0c":
            width += {" ": 1, "\t": tab - width % tab}.get(character, 0)
            widths.append(UNDEFINED)
        else:
            leading = False
            widths.append(width)
        columns.append(column)
    return columns, widths


@settings(max_examples=300, deadline=None)
@given(text=st.text(" \t\n\r\x0cab", max_size=60), tab=st.sampled_from([2, 4, 8]), data=st.data())
def test_columns_and_widths_of_pieces(text, tab, data):
    cut = data.draw(st.integers(0, len(text)))
    first, second = character_bytes(text[:cut]), character_bytes(text[cut:])
    columns, widths = by_characters(text, tab)
    assert scan_columns(first + second).tolist() == columns
    found, state = scan_widths(first, LineState(), tab)
    assert state.empty == (text[cut - 1 : cut] in ("", "\n"))
    assert [*found, *scan_widths(second, state, tab)[0]] == widths


@pytest.mark.parametrize("text", ["", "abc", "é", "a😀b", "\ud800x", "\x00\x7f\x80"])
def test_each_character_becomes_one_byte(text):
    raw = character_bytes(text)
    assert len(raw) == len(text)
    for byte, character in zip(raw, text, strict=True):
        assert byte == min(ord(character), 0x80)


@settings(deadline=None)
@given(solid=st.lists(st.booleans(), max_size=30))
def test_next_solid_finds_the_next_marked_place(solid):
    array = np.array(solid, bool)
    found = next_solid(array, solid_starts(array), np.arange(len(solid) + 1))
    expected = [next((j for j in range(i, len(solid)) if solid[j]), len(solid)) for i in range(len(solid) + 1)]
    assert found.tolist() == expected


@settings(deadline=None)
@given(flips=st.lists(st.integers(0, 20), max_size=8).map(sorted), before=st.booleans())
def test_fill_between_toggles_at_each_flip(flips, before):
    expected = [before ^ (sum(flip <= place for flip in flips) % 2 == 1) for place in range(20)]
    assert fill_between(flips, before, 20).tolist() == expected


def test_a_scan_is_cached_and_read_only():
    asked = []

    @dataclass
    class Found:
        place: np.ndarray

    for make in (lambda place: Found(place), lambda place: (place, ["a name"])):
        scan = remembered(lambda text, make=make: asked.append(text) or make(np.arange(len(text))))
        first, again = scan("some"), scan("some")
        place = first[0] if isinstance(first, tuple) else first.place
        assert again is first and scan("other") is not first
        with pytest.raises(ValueError, match="read-only"):
            place[0] = 1
    assert asked == ["some", "other"] * 2
