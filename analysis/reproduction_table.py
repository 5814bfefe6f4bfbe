"""The paper's tables with our numbers beside its own: their wording, and their layout for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from gatescope.analysis.reproduction import METRICS
from gatescope.analysis.results import WEIGHTINGS, score
from gatescope.analysis.table import ruled_table

COLUMNS = {"paper": "the paper", "legacy": "its labels", "corrected": "correct labels"}
HEADS = ("accuracy", "precision", "recall", "F1", "holds")
LEGEND = (
    "pairs are plain/balanced fits on the states before each character, on unseen sequences; the paper: its scores as "
    "printed; its labels: our scores, with labels as its parsers made them; correct labels: our scores, with labels as "
    "its text describes them; holds: the share of tested characters where the hypothesis holds"
)


def reproduction_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the result of `reproduction.compared` for one cell: three lines per hypothesis, pairs plain/balanced.

    Returns:
        A table for `rich.print`, readable at 80 columns or more.
    """
    table = ruled_table(title=title(rows))
    for heading in ("hypothesis", "scores"):
        table.add_column(heading, no_wrap=True)
    for heading in HEADS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for place, (key, name) in enumerate(COLUMNS.items()):
            table.add_row(*map(Text, [row["name"] if place == 0 else "", name, *cells(row, key)]))
    return table


def title(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the title of a cell's table: its figure in the paper, and the losses of both models."""
    cell, figure, nats = (rows[0][key] for key in ("cell", "figure", "validation_nats"))
    losses = f"{nats['ours']:.3f} nats per character; the paper on its corpus: {nats['paper']:.3f}"
    return f"{cell.upper()}, {figure}: {losses}"


def cells(row: Mapping[str, Any], key: str) -> list[str]:
    """Return the cells under `HEADS` in the line of the paper, of its labels or of the correct labels."""
    scores = row[key]
    if scores is None:
        cannot = key == "legacy" and row["hypotheses"]["legacy"] is None
        return ["not reproducible" if cannot else "not evaluated", "", "", "", ""]
    holds = scores.get("prevalence", {}).get("plain")
    pairs = ["/".join(score(scores[metric].get(name)) for name in WEIGHTINGS["boolean"]) for metric in METRICS]
    return [*pairs, "" if holds is None else f"{holds:.1%}"]
