"""What the report's sections share: text and numbers as HTML, and tables that scroll and open to further rows."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import Record, Result, unit_name

# Rows of a table that are open at once.
MOST_OPEN = 40
# Units that are listed of a ranking.
MOST_UNITS = 5


def escaped(text: str) -> str:
    """Text from outside, safe in an element or a quoted attribute, on one line, nothing in it invisible."""
    return html.escape(visible(text))


def name_html(name: str) -> str:
    """A name that a narrow column may break after an underscore or a slash."""
    return escaped(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def unit_names(units: Sequence[Record]) -> str:
    """The names of units, separated by commas."""
    return ", ".join(escaped(unit_name(unit)) for unit in units)


def significant(value: object) -> str:
    """A number to three significant digits, with a true minus sign; a dash where there is none."""
    return f"{value:.3g}".replace("-", "−") if isinstance(value, int | float) else "–"


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
