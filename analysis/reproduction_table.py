"""The paper's tables in the terminal, our numbers beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from gatescope.analysis.reproduction import METRICS, WEIGHTINGS
from gatescope.analysis.results import score

COLUMNS = {"paper": "the paper", "legacy": "its labels", "corrected": "correct labels"}
LEGEND = (
    "pairs are plain/balanced fits on the states before each character, on unseen sequences; its labels: what the "
    "paper's parsers made, correct labels: what its words say; holds: at this share of the tested characters"
)


def reproduction_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out what `reproduction.compared` returns of one cell: three lines for each hypothesis, pairs plain/balanced.

    Returns:
        A table for `rich.print`, readable from 80 columns on.
    """
    cell, figure, nats = (rows[0][key] for key in ("cell", "figure", "validation_nats"))
    table = Table(
        title=f"{cell.upper()}, {figure}: {nats['ours']:.3f} nats per character; the paper on its corpus: "
        f"{nats['paper']:.3f}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for heading in ("hypothesis", "scores"):
        table.add_column(heading, no_wrap=True)
    for heading in ("accuracy", "precision", "recall", "F1", "holds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for place, (key, name) in enumerate(COLUMNS.items()):
            table.add_row(*map(Text, [row["name"] if place == 0 else "", name, *_cells(row, key)]))
    return table


def _cells(row: Mapping[str, Any], key: str) -> list[str]:
    scores = row[key]
    if scores is None:
        cannot = key == "legacy" and row["hypotheses"]["legacy"] is None
        return ["not reproducible" if cannot else "not evaluated", "", "", "", ""]
    holds = scores.get("prevalence", {}).get(WEIGHTINGS[0])
    pairs = ["/".join(score(scores[metric].get(name)) for name in WEIGHTINGS) for metric in METRICS]
    return [*pairs, "" if holds is None else f"{holds:.1%}"]
