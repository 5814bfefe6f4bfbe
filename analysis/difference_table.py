"""How far one result lies above another, for the terminal: a line for each hypothesis that both were tested on."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.difference import Difference, Pair
from gatescope.analysis.results import score, signed, signed_interval
from gatescope.analysis.table import ruled_table

LEGEND = (
    "AUROC (R² of continuous hypotheses) on the characters that both were tested on, and how far the second lies above "
    "the first, with the 95% interval over their sequences; q: the expected share of false findings (Benjamini and "
    "Hochberg) if all lines with this q or less count as findings"
)


def difference_table(pair: Pair) -> Table:
    """Lay out the differences of two results.

    Args:
        pair: with at least one difference.

    Returns:
        A table for `rich.print`, readable at 80 columns or more; names are plain text, never markup. A star follows
        a hypothesis whose whole interval lies on one side of 0; `LEGEND` explains the rest, once for several tables.
    """
    table = ruled_table()
    table.add_column("hypothesis", overflow="fold", min_width=12)
    for heading in headings(pair)[:2]:
        table.add_column(Text(visible(heading)), justify="right", overflow="fold")
    for heading in headings(pair)[2:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for each in pair.differences:
        table.add_row(*map(Text, [visible(each.hypothesis) + "*" * each.decided, *cells(each)]))
    return table


def headings(pair: Pair) -> list[str]:
    """The headings of `cells`: the results, each with its state set unless that is `all`, and the rest."""
    names = []
    for name, *sets in zip((pair.first, pair.second), *(each.states for each in pair.differences), strict=True):
        own = set(sets) - {"all"}
        names.append(name if len(own) != 1 or "all" in sets else f"{name}, {own.pop()}")
    return [*names, "difference", "95%", "q"]


def cells(difference: Difference) -> list[str]:
    """The cells after the hypothesis: both scores, their difference, its interval and q."""
    return [
        *map(score, (difference.first, difference.second)),
        signed(difference.second - difference.first),
        signed_interval(difference.low, difference.high),
        score(difference.q),
    ]
