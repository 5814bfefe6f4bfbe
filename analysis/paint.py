"""Hypotheses for the terminal: a list of all, or one painted on a text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import printable
from gatescope.analysis.hypotheses import library, select
from gatescope.analysis.hypothesis import SETS
from gatescope.analysis.language import LANGUAGES, detect_language
from gatescope.analysis.own_hypotheses import pattern
from gatescope.analysis.table import ruled_table
from gatescope.engine.corpus import read_pieces
from gatescope.engine.errors import InputError

# Values that replace a level of blue, which is 100 to 255.
UNDEFINED, PLAIN = -1, 0


def list_hypotheses() -> Table:
    """Return a table of every hypothesis: name, language, values, what it sees of the text, and its description.

    A star follows the names of those in the default sets.
    """
    caption = "* in the default set for its language"
    table = ruled_table(padding=1, caption=caption)
    chosen = [each for language in LANGUAGES for each in select(["auto"], language)]
    for heading in ("hypothesis", "language", "values", "sees", "description"):
        table.add_column(heading, overflow="fold")
    for each in library():
        star = "*" * (each in chosen)
        table.add_row(f"{each.name}{star}", each.language, each.values, each.sees, Text(each.description))
    return table


def paint_hypothesis(name: str, path: Path) -> Text:
    """Return a text in which the characters where a hypothesis holds are marked; undefined ones are dim.

    Characters without a shape, which a terminal may obey, are shown as their code points. Continuous values are painted
    from pale to dark between their least and greatest.

    If several hypotheses share a name, such as the comments of C and of Python, the one of the text's language is used.

    Raises:
        InputError: no such hypothesis, the name of a set, or an unreadable text.
    """
    if name in ("auto", *SETS):
        raise InputError(f"--show {name} is a set of hypotheses: choose one of them; `gatescope hypotheses` lists them")
    text = "".join(read_pieces(str(path)))
    if not text:
        raise InputError(f"text {str(path)!r} is empty: give a text of at least one character")
    (hypothesis,) = [pattern(name)] if "=" in name else select([name], detect_language(text))
    values, defined = hypothesis.label(text)
    shades = np.asarray(values, dtype=np.float64)
    low, high = (shades[defined].min(), shades[defined].max()) if defined.any() else (0.0, 1.0)
    shades = (shades - low) / (high - low) if high > low else np.where(shades > 0, 1.0, 0.0)
    levels = np.rint(255 - 155 * shades).astype(int)
    # No blue where the hypothesis is undefined or does not hold.
    levels = np.where(defined, np.where(shades > 0, levels, PLAIN), UNDEFINED)
    borders = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), len(text)]
    painted = Text()
    for start, stop in pairwise(borders):
        level = int(levels[start])
        style = {UNDEFINED: "dim", PLAIN: ""}.get(level, f"black on rgb({level},{level},255)")
        shown = (c if c in "\t\n" else printable(c) for c in text[start:stop])
        painted.append("".join(shown), style)
    return painted
