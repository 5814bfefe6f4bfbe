"""The position of a character in its line: the column, and the width of the line's leading blanks.

Both are what a reader knows after the character. The column is the number of characters read since the last newline, so
that the first character of a line is at 1 and the newline itself at 0. The leading width is defined from the first
character of a line that is not blank to its last; in the leading blanks it still grows, and a newline has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from gatescope.engine.vocabulary import code_points

NEWLINE = 10
BLANKS = b" \t\x0b\x0c\r"
UNDEFINED = -1

Scan = TypeVar("Scan")

_SOLID = bytes(byte not in BLANKS for byte in range(256))
_WIDTHLESS = b"\x0b\x0c\r"


@dataclass(frozen=True)
class LineState:
    """What the scan remembers of the unfinished line; `LineState()` is the start of a text.

    Args:
        width: width of the leading blanks so far, in columns.
        leading: nothing but blanks has been read of this line.
        empty: nothing at all has been read of this line.
    """

    width: int = 0
    leading: bool = True
    empty: bool = True


def remembered(scan: Callable[..., Scan]) -> Callable[..., Scan]:
    """Return a scan that remembers its last result, for several hypotheses to share; its arrays are read-only.

    Args:
        scan: a function that returns a dataclass or tuple, some of whose parts are arrays.
    """

    def read_only(*given: Any, **named: Any) -> Scan:
        found = scan(*given, **named)
        for part in found if isinstance(found, tuple) else vars(found).values():
            if isinstance(part, np.ndarray):
                part.flags.writeable = False
        return found

    return lru_cache(maxsize=1)(read_only)


def character_bytes(text: str) -> bytes:
    """Return one byte per character: ASCII unchanged, everything else as 0x80.

    The scanners of C and Python need to distinguish only ASCII. A byte string as long as the text lets regular
    expressions, `bytes.translate` and NumPy use the same offsets.
    """
    if text.isascii():
        return text.encode("ascii")
    return np.minimum(code_points(text), 0x80).astype(np.uint8).tobytes()


def scan_columns(raw: bytes) -> np.ndarray:
    """Return the column after every character of a text, int32 [n], from one byte per character."""
    newlines = np.flatnonzero(np.frombuffer(raw, np.uint8) == NEWLINE)
    # A line's characters have columns 1, 2, ... and its newline is column 0 of the next line.
    origins = np.append(-1, newlines).astype(np.int32)
    lengths = np.diff(np.concatenate(([0], newlines, [len(raw)])))
    return np.arange(len(raw), dtype=np.int32) - np.repeat(origins, lengths)


def scan_widths(raw: bytes, state: LineState, tab: int) -> tuple[np.ndarray, LineState]:
    """Return the width of the line's leading blanks after every character, and the state to continue from.

    Args:
        raw: n characters, one byte each.
        state: the state after the previous piece.
        tab: columns from one tab stop to the next.

    Returns:
        width [n] int32 in columns, UNDEFINED where there is none, and the state after the last character.
    """
    n = len(raw)
    if not n:
        return np.zeros(0, np.int32), state
    array = np.frombuffer(raw, np.uint8)
    newlines = np.flatnonzero(array == NEWLINE)
    starts, ends = np.concatenate(([0], newlines + 1)), np.append(newlines, n)

    solid = np.frombuffer(raw.translate(_SOLID), bool)
    first = np.minimum(next_solid(solid, solid_starts(solid), starts), ends)
    if not state.leading:
        first[0] = 0
    widths = _leading_widths(raw, array, starts, first, tab)
    offset = state.width % tab if state.leading else 0
    head = b" " * offset + raw[: first[0]].translate(None, _WIDTHLESS)
    widths[0] = state.width - offset + len(head.expandtabs(tab))

    # Three runs per line: the leading blanks, the rest, the newline.
    has_newline = np.append(np.ones(len(newlines), np.int64), 0)
    runs = np.stack((first - starts, ends - first, has_newline), axis=1)
    values = np.full(runs.shape, UNDEFINED, np.int32)
    values[:, 1] = widths
    width = np.repeat(values.ravel(), runs.ravel())

    leading = bool(first[-1] == n) and (state.leading or len(newlines) > 0)
    return width, LineState(int(widths[-1]), leading, empty=bool(array[-1] == NEWLINE))


def solid_starts(solid: np.ndarray) -> np.ndarray:
    """Return the places of bool [n] where False turns into True; a True at the very start is not among them."""
    return np.flatnonzero(solid[1:] > solid[:-1]) + 1


def next_solid(solid: np.ndarray, starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the first place at or after each position where `solid` holds, or n where there is none.

    Args:
        solid: bool [n].
        starts: `solid_starts(solid)`, which several calls may share.
        positions: places from 0 to n.
    """
    n = len(solid)
    found = np.append(starts, n)[np.searchsorted(starts, positions)]
    inside = positions < n
    inside[inside] = solid[positions[inside]]
    return np.where(inside, positions, found)


def fill_between(flips: Sequence[int] | np.ndarray, before: bool, n: int) -> np.ndarray:
    """Return bool [n]: `before` up to the first of the ascending places in `flips`, then the other value, and so on."""
    borders = np.concatenate(([0], flips, [n])).astype(np.int64)
    lengths = borders[1:] - borders[:-1]
    values = np.arange(len(lengths)) % 2 == int(not before)
    return np.repeat(values, lengths)


def _leading_widths(raw: bytes, array: np.ndarray, starts: np.ndarray, first: np.ndarray, tab: int) -> np.ndarray:
    tabs = np.flatnonzero(array == 9)
    tab_from, tab_to = np.searchsorted(tabs, starts), np.searchsorted(tabs, first)
    n_tabs = tab_to - tab_from
    n_spaces = first - starts - n_tabs
    widths = n_tabs * tab + n_spaces
    # Tabs at the start of a line are one whole stop each. If a blank precedes a tab, or a blank has no width, the
    # columns are counted one by one; such lines are few.
    odd = (n_tabs > 0) & (np.append(tabs, -1)[tab_to - 1] != starts + n_tabs - 1)
    if any(byte in raw for byte in _WIDTHLESS):
        odd |= n_spaces > 0
    for line in np.flatnonzero(odd):
        run = raw[starts[line] : first[line]].translate(None, _WIDTHLESS)
        widths[line] = len(run.expandtabs(tab))
    return widths
