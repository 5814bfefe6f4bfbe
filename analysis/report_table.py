"""What tables of the report have in common: each scrolls by itself, and rows beyond the first are one click away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatescope.analysis.report_text import escaped
from gatescope.analysis.results import Result

# Rows of a table that are open at once.
MOST_OPEN = 40


def scrolled(label: str, content: str, css: str = "") -> str:
    """A table in a box that scrolls, by the keys too.

    Args:
        label: what readers hear who do not see it.
        content: what is within the table.
        css: the table's class.
    """
    kind = f' class="{css}"' if css else ""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{kind}>{content}</table></div>\n'


def opened(rows: Sequence[Any], table: Callable[[Sequence[Any]], str], of: str = "hypotheses") -> str:
    """A table of the first rows, and one of the others that is closed at first."""
    first, rest = rows[:MOST_OPEN], rows[MOST_OPEN:]
    more = f"<details><summary>{len(rest)} more {of}</summary>\n{table(rest)}</details>\n" if rest else ""
    return table(first) + more


def result_title(result: Result, results: Sequence[Result]) -> str:
    """The name of a result above what is its own, where there are several."""
    return f"<h3>{escaped(result.name)}</h3>\n" if len(results) > 1 else ""
