"""A test whether a hypothesis that is declared to see only the past depends on later characters.

A label that looks ahead, if only to the end of its line, turns "the states know this" into "the states predict this".
So a user's function is called again on prefixes of a text that end where its labels change, which is where looking
ahead shows most easily. A prefix whose labels differ is proof; if none differs, that proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError

LONGEST = 4096  # characters of a text that are looked at
CHANGES = 3  # label changes of a text at which prefixes are tested
MOST = 24  # prefixes that are tested
# For continuous values, whose last digits may depend on how many are computed at once.
RTOL, ATOL = 1e-6, 1e-9


def looks_ahead(hypothesis: Hypothesis, texts: Iterable[str], prime: str = "") -> str | None:
    """Return which label changes if its text ends earlier; None if no such label was found.

    Args:
        hypothesis: one that `sees` the past.
        texts: to call it on; only as many are taken as are needed.
        prime: text before each, as for `Hypothesis.label`.
    """
    asked = 0
    for text in texts:
        if asked >= MOST:
            break
        text = text[:LONGEST]
        try:
            values, defined = hypothesis.label(text, prime)
            for stop in _prefixes(values, defined):
                asked += 1
                found, known = hypothesis.label(text[:stop], prime)
                same = np.isclose(found, values[:stop], rtol=RTOL, atol=ATOL) | ~known
                differs = np.flatnonzero((known != defined[:stop]) | ~same)
                if len(differs):
                    return (
                        f"its label of character {differs[0]} of a text changes if the text ends after character "
                        f"{stop - 1}"
                    )
        except InputError:
            # If the whole text fails, labelling reports it; a prefix may just be too short.
            asked += 1
    return None


def _prefixes(values: np.ndarray, defined: np.ndarray) -> list[int]:
    """Prefix lengths to test: just after and before up to three label changes spread over the text, and half of it."""
    shown = np.where(defined, values, np.inf)
    changes = np.flatnonzero(shown[1:] != shown[:-1]) + 1
    chosen = changes[np.linspace(0, max(len(changes) - 1, 0), min(len(changes), CHANGES)).astype(int)]
    return [*(stop for change in chosen.tolist() for stop in (change + 1, change)), len(values) // 2]
