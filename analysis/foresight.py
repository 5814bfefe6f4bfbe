"""Whether a hypothesis that is said to follow from the past changes with what comes later.

A label that looks ahead, if only to the end of its line, turns "the states know this" into "the states foretell this".
So a function of a user's is asked again about beginnings of a text that end where its labels change: there one that
looks ahead is found out the most easily. What is found is certain; what is not found may be there all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError

LONGEST = 4096  # characters of a text that are looked at
CHANGES = 3  # of the labels of one text
MOST = 24  # beginnings that are asked about
# Of continuous values, whose last digits may depend on how many are computed at once.
RTOL, ATOL = 1e-6, 1e-9


def looks_ahead(hypothesis: Hypothesis, texts: Iterable[str], prime: str = "") -> str | None:
    """Say where a label changes when its text ends earlier, or None where none was found that does.

    Args:
        hypothesis: that `sees` the past.
        texts: to ask it about; no more are taken than are needed.
        prime: stands before each, as for `Hypothesis.label`.
    """
    asked = 0
    for text in texts:
        if asked >= MOST:
            break
        text = text[:LONGEST]
        try:
            values, defined = hypothesis.label(text, prime)
            for stop in _beginnings(values, defined):
                asked += 1
                found, known = hypothesis.label(text[:stop], prime)
                same = np.isclose(found, values[:stop], rtol=RTOL, atol=ATOL) | ~known
                differs = np.flatnonzero((known != defined[:stop]) | ~same)
                if len(differs):
                    return (
                        f"its label of character {differs[0]} of a text is another when the text ends behind character "
                        f"{stop - 1}"
                    )
        except InputError:
            # Of the whole text it says so when its labels are asked for; a beginning may be too short for it.
            asked += 1
    return None


def _beginnings(values: np.ndarray, defined: np.ndarray) -> list[int]:
    """How long beginnings of a text are that end behind a change and before it, of some from all over, or midway."""
    shown = np.where(defined, values, np.inf)
    changes = np.flatnonzero(shown[1:] != shown[:-1]) + 1
    chosen = changes[np.linspace(0, max(len(changes) - 1, 0), min(len(changes), CHANGES)).astype(int)]
    return [*(stop for change in chosen.tolist() for stop in (change + 1, change)), len(values) // 2]
