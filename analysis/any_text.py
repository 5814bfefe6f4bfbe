"""Hypotheses about lines, for texts of every kind."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.hypotheses import hypothesis
from gatescope.analysis.lines import NEWLINE, character_bytes, remembered, scan_columns

DEFAULT = ("newline_next", "line_position", "line_decay")
LINE_WIDTH = 80


@remembered
def _scan(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where newlines are, bool [n], and the column after every character, int32 [n]."""
    raw = character_bytes(text)
    return np.frombuffer(raw, np.uint8) == NEWLINE, scan_columns(raw)


@hypothesis(language="any", sees="future")
def newline_next(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The next character is a newline; undefined at the last one."""
    newline, _ = _scan(text)
    defined = np.ones(len(text), bool)
    defined[-1:] = False
    return np.append(newline[1:], False)[: len(text)], defined


@hypothesis(language="any", values="continuous")
def line_position(text: str) -> np.ndarray:
    """Column divided by 80: characters since the last newline, as a share of a line's width."""
    return _scan(text)[1] / np.float32(LINE_WIDTH)


@hypothesis(language="any", values="continuous")
def column(text: str) -> np.ndarray:
    """Characters read since the last newline; 0 at the newline itself."""
    return _scan(text)[1]


@hypothesis(language="any", values="continuous", sees="future")
def line_decay(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Falls linearly from 1 at a line's first character to -1 at its newline; undefined in an unfinished line."""
    newline, columns = _scan(text)
    ends = np.flatnonzero(newline)
    lengths = np.diff(ends, prepend=-1)
    n_finished = int(ends[-1]) + 1 if len(ends) else 0
    # A line that consists of its newline alone stays at 1.
    slopes = np.where(lengths > 1, -2 / np.maximum(lengths - 1, 1), 0).astype(np.float32)
    values = np.zeros(len(text), np.float32)
    values[:n_finished] = 1 + (columns[:n_finished] - 1) * np.repeat(slopes, lengths)
    values[ends] = np.where(lengths > 1, -1, 1)
    defined = np.zeros(len(text), bool)
    defined[:n_finished] = True
    return values, defined
