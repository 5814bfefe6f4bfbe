"""The report's gates: how often each is open or shut, in numbers and as a dot for each unit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from gatescope.analysis.report_html import escaped, result_title, scrolled
from gatescope.analysis.results import Record, Result, score
from gatescope.analysis.saturation import OPEN, SHUT

# A unit whose gate is open, or shut, for more than this share of the time hardly ever moves that gate.
ALWAYS = 0.9
# How many units of a gate are named; `gates.json` has all.
MOST_NAMED = 50
SIDE = 150
HEADS = ("open", "shut", "in between", "units always open", "units always shut")


def gates_section(results: Sequence[Result]) -> str:
    """How often gates are saturated, for results whose states have gates."""
    parts = []
    for result in results:
        if not result.gates:
            continue
        heads = "".join(f'<th scope="col" class="r">{word}</th>' for word in HEADS)
        rows = "".join(map(_row, result.gates))
        table = f'<thead><tr><th scope="col">gate</th>{heads}</tr></thead><tbody>{rows}</tbody>'
        layers = groupby(result.gates, key=lambda record: record["layer"])
        plots = "".join(f'<div class="gates">{"".join(map(_plot, gates))}</div>\n' for _, gates in layers)
        table = scrolled("How often gates are open and shut", table)
        parts.append(result_title(result, results) + table + _names(result.gates) + plots)
    if not parts:
        return ""
    note = (
        f"A gate is open above {_bound(OPEN)} and shut below {_bound(SHUT)}. Shares are over all characters and units; "
        f"a unit counts as always open (or shut) if its gate is so for more than {_bound(ALWAYS)} of the characters. "
        "Below, each dot is a unit: further right the more often its gate is shut, further up the more often it is "
        "open. Dots on the diagonal are switches, hardly ever in between; a dot in the lower left corner is never "
        "saturated. An LSTM keeps its state while f is open, a GRU while z is."
    )
    return f'<h2>How far are the gates open?</h2>\n<p class="muted">{note}</p>\n{"".join(parts)}'


def _row(record: Record) -> str:
    is_open, is_shut = (np.array(record[word], dtype=np.float64) for word in ("open", "shut"))
    shares = is_open.mean(), is_shut.mean(), 1 - is_open.mean() - is_shut.mean()
    cells = [*map(score, shares), *(f"{(each > ALWAYS).sum()} of {len(each)}" for each in (is_open, is_shut))]
    numbers = "".join(f'<td class="r">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{_name(record)}</th>{numbers}</tr>\n'


def _names(records: Sequence[Record]) -> str:
    """The units that are always open, and those always shut."""
    items = []
    for record in records:
        for word in ("open", "shut"):
            units = np.flatnonzero(np.array(record[word]) > ALWAYS).tolist()
            if units:
                more = "&nbsp;…" * (len(units) > MOST_NAMED)
                items.append(f"<li>{_name(record)} {word}: {', '.join(map(str, units[:MOST_NAMED]))}{more}</li>\n")
    listed = f"<details><summary>Units always open or shut</summary><ul>{''.join(items)}</ul></details>\n"
    return listed if items else ""


def _plot(record: Record) -> str:
    """A square with a dot for each unit."""
    pairs = zip(record["shut"], record["open"], strict=True)
    dots = "".join(f"M{SIDE * shut:.1f} {SIDE * (1 - is_open):.1f}h0" for shut, is_open in pairs)
    words = f"{_name(record)}: share of characters at which each unit is shut, to the right, and open, upwards"
    return (
        f'<figure><figcaption>{_name(record)}</figcaption><svg viewBox="-4 -4 {SIDE + 8} {SIDE + 20}" role="img" '
        f'aria-label="{words}"><path class="grid" fill="none" d="M0 0V{SIDE}H{SIDE}L0 0"/>'
        f'<text x="7" y="5">open</text><text x="{SIDE}" y="{SIDE + 13}" text-anchor="end">shut</text>'
        f'<path class="units" d="{dots}"/></svg></figure>'
    )


def _bound(value: float) -> str:
    return f"{value:g}".removeprefix("0")


def _name(record: Record) -> str:
    return f"layer{record['layer']}\u00a0{escaped(record['gate'])}"
