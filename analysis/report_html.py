"""Helpers of the report's sections: text and numbers as HTML, and tables that scroll and open to more rows."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import Record, Result, unit_name

# Rows of a table that are open at first.
MOST_OPEN = 40
# How many units of a ranking are listed.
MOST_UNITS = 5


def escaped(text: str) -> str:
    """Text from outside, on one line, safe in an element or a quoted attribute, with nothing invisible in it."""
    return html.escape(visible(text))


def name_html(name: str) -> str:
    """A name that can break after an underscore or a slash in a narrow column."""
    return escaped(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def unit_names(units: Sequence[Record]) -> str:
    """The names of units, separated by commas."""
    return ", ".join(escaped(unit_name(unit)) for unit in units)


def significant(value: object) -> str:
    """A number with three significant digits and a true minus sign; a dash where there is none."""
    return f"{value:.3g}".replace("-", "−") if isinstance(value, int | float) else "–"


def scrolled(label: str, content: str, css: str = "") -> str:
    """A table in a box that scrolls, also from the keyboard.

    Args:
        label: the label for screen readers.
        content: the content of the table.
        css: the table's class.
    """
    kind = f' class="{css}"' if css else ""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{kind}>{content}</table></div>\n'


def opened(rows: Sequence[Any], table: Callable[[Sequence[Any]], str], of: str = "hypotheses") -> str:
    """A table of the first rows, and one of the rest that is closed at first."""
    first, rest = rows[:MOST_OPEN], rows[MOST_OPEN:]
    more = f"<details><summary>{len(rest)} more {of}</summary>\n{table(rest)}</details>\n" if rest else ""
    return table(first) + more


def result_title(result: Result, results: Sequence[Result]) -> str:
    """The name of a result as a heading, if there are several results."""
    return f"<h3>{escaped(result.name)}</h3>\n" if len(results) > 1 else ""
