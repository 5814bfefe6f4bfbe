"""The report's comparison of several results: how far each lies above the first, if both read the same text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gatescope.analysis.difference import Difference, Pair
from gatescope.analysis.difference_table import LEGEND, cells, headings
from gatescope.analysis.report_html import escaped, name_html, opened, scrolled


def difference_section(pairs: Sequence[Pair]) -> str:
    """A table for each pair of results, or the reason why there is none; empty for a single result."""
    if not pairs:
        return ""
    parts = ["<h2>Differences</h2>\n"]
    if any(pair.differences for pair in pairs):
        parts.append(f'<p class="muted">{LEGEND}. In bold: the whole interval lies on one side.</p>\n')
    for pair in pairs:
        names = [escaped(name) for name in (pair.second, pair.first)]
        if pair.differences:
            parts.append(f"<h3>{names[0]} above {names[1]}</h3>\n{opened(pair.differences, partial(_table, pair))}")
        else:
            parts.append(f"<p>{names[0]} is not compared with {names[1]}: {escaped(pair.why_none or '')}.</p>\n")
    return "".join(parts)


def _table(pair: Pair, differences: Sequence[Difference]) -> str:
    heads = "".join(f'<th scope="col" class="r">{escaped(word)}</th>' for word in headings(pair))
    head = f'<thead><tr><th scope="col">hypothesis</th>{heads}</tr></thead>'
    rows = "".join(map(_row, differences))
    return scrolled(f"{escaped(pair.second)} above {escaped(pair.first)}", f"{head}<tbody>{rows}</tbody>")


def _row(difference: Difference) -> str:
    words = cells(difference)
    if difference.decided:
        words[2] = f"<b>{words[2]}</b>"
    numbers = "".join(f'<td class="r">{word}</td>' for word in words)
    return f'<tr><th scope="row">{name_html(difference.hypothesis)}</th>{numbers}</tr>\n'
