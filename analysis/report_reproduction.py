"""The report's comparison with the paper: its scores beside ours, with its labels and with correct ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatescope.analysis.report_html import escaped, scrolled
from gatescope.analysis.reproduction_table import COLUMNS, HEADS, LEGEND, cells, title


def reproduction_section(tables: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """A table of the result of `reproduction.compared` for each cell; empty if there is none."""
    if not tables:
        return ""
    heads = "".join(f'<th scope="col" class="r">{word}</th>' for word in HEADS)
    head = f'<thead><tr><th scope="col">hypothesis</th><th scope="col">scores</th>{heads}</tr></thead>'
    parts = [
        f"<h3>{escaped(title(rows))}</h3>\n"
        + scrolled("The paper’s scores and ours", head + "".join(map(_group, rows)))
        for rows in tables
    ]
    return f'<h2>Compared with the paper</h2>\n<p class="muted">{LEGEND[0].upper()}{LEGEND[1:]}.</p>\n{"".join(parts)}'


def _group(row: Mapping[str, Any]) -> str:
    """The three lines of a hypothesis."""
    lines = []
    for place, (key, name) in enumerate(COLUMNS.items()):
        first = f'<th scope="rowgroup" rowspan="{len(COLUMNS)}">{escaped(row["name"])}</th>' if place == 0 else ""
        numbers = "".join(f'<td class="r">{cell}</td>' for cell in cells(row, key))
        lines.append(f'<tr>{first}<th scope="row" class="muted">{name}</th>{numbers}</tr>\n')
    return f'<tbody class="group">{"".join(lines)}</tbody>'
