"""Several results side by side, for the terminal: a line for each hypothesis and a column for each result."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.overview import Course, is_known, text_alone
from gatescope.analysis.results import Result, number, score
from gatescope.analysis.table import ruled_table

CAPTION = (
    "AUROC, or R²; * known: above chance and the text baseline, each with its whole 95% interval; text: that baseline, "
    "where all results share it"
)


def overview_columns(n_results: int) -> int:
    """Return how many columns of a terminal the table needs, with room for the names of hypotheses."""
    return 19 + n_results * (_width(n_results) + 1)


def _width(n_results: int) -> int:
    """The width of a result's column, to which its name is folded."""
    return max(6, 55 // n_results)


def _folded(name: str, width: int) -> str:
    """Return a name broken into lines after separators, where it has any."""
    lines = [""]
    for piece in re.findall(r"[^_/-]*[_/-]|[^_/-]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def overview_table(results: Sequence[Result], courses: Sequence[Course]) -> Table:
    """Lay out a line for each hypothesis and a column for each result, for the terminal.

    A star follows the score if the hypothesis is known. Names are plain text, never markup. The table needs
    `overview_columns` columns.
    """
    table = ruled_table(caption=Text(CAPTION))
    table.add_column("hypothesis", overflow="fold", min_width=12)
    table.add_column("text", justify="right", no_wrap=True)
    width = _width(len(results))
    for result in results:
        heading = Text(_folded(visible(result.name), width))
        table.add_column(heading, justify="right", overflow="fold", max_width=width)
    for course in courses:
        name = visible(course.hypothesis) + ", R²" * (course.measure == "r2")
        cells = [
            score(number(record or {}, course.measure)) + ("*" if is_known(record) else " ")
            for record in course.records
        ]
        table.add_row(*map(Text, [name, text_alone(course), *cells]))
    return table
