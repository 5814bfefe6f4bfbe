"""The last characters that a state has read."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.split import sequence_ids_of

LONGEST_CONTEXT = 5  # characters
# The character that stands before every sequence; real characters are shifted up by one.
BEFORE_START = 0


def last_characters(
    tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray, k: int, alignment: str = "post"
) -> np.ndarray:
    """Return the last k characters that the state of each row has read, the newest first.

    Args:
        tokens: [N] character ids, non-negative integers below 2^32 - 1.
        sequence_starts: [S + 1] first row of each sequence, then N.
        rows: [n] row indices.
        k: number of characters, 0 or more.
        alignment: "post" if the state of a row has read the row's own character, "pre" if it has not.

    Returns:
        [k, n] uint32 character ids plus 1; 0 stands for everything before the row's sequence.
    """
    rows = np.asarray(rows, dtype=np.int64)
    first = np.asarray(sequence_starts, dtype=np.int64)[sequence_ids_of(rows, sequence_starts)]
    newest = rows if alignment == "post" else rows - 1
    characters = np.empty((k, len(rows)), dtype=np.uint32)
    for back in range(k):
        position = newest - back
        shifted = np.asarray(tokens[np.maximum(position, 0)], dtype=np.int64) + 1
        characters[back] = np.where(position >= first, shifted, BEFORE_START)
    return characters
