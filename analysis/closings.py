"""Variants of hypotheses that count the closing delimiter as inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gatescope.analysis.hypotheses import register_as
from gatescope.engine.vocabulary import code_points


def register_closing(language: str, base: Callable[[str], np.ndarray], closing: str) -> None:
    """Register the hypothesis `base+close`: inside, or at the delimiter that has just closed it.

    Args:
        language: the language of the hypothesis.
        base: the hypothesis that does not count the closing delimiter.
        closing: the characters that may close it.
    """

    def closed(text: str) -> np.ndarray:
        inside = np.array(base(text))
        inside[1:] |= inside[:-1] & np.isin(code_points(text)[1:], code_points(closing))
        return inside

    # It belongs to the set of its base, and does not count as a redefinition of another.
    closed.__module__ = base.__module__
    description = f"{(base.__doc__ or '').rstrip('.')}; its closing counts as inside."
    register_as(f"{base.__name__}+close", description, closed, language=language)
