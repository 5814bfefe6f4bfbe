"""Scores of few units: a panel for each hypothesis, with selected and random units (Gurnee et al. 2023)."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gatescope.analysis.palette import LIGHT
from gatescope.analysis.panels import figure_of_panels
from gatescope.analysis.results import Record, Result, all_ordered, measure_of, number

TICKS = (1, 4, 16, 64)


def drawn(result: Result) -> dict[str, Record]:
    """The records that have scores of few units, by hypothesis."""
    asked = [record for record in result.records if record.get("sparse")]
    return {
        each["hypothesis"]: each for each in asked if any(value is not None for value in each["sparse"]["selected"])
    }


def sparse_figure(result: Result) -> Figure:
    """Draw AUROC (R2) against the number of units, of the hypotheses in `drawn`, best known first."""
    records = drawn(result)
    names = [name for name in all_ordered([result]) if name in records]
    hypotheses = [(name, measure_of(records[name])) for name in names]
    return figure_of_panels(
        hypotheses, lambda axes, place: _draw(axes, records[names[place]], hypotheses[place][1]), "units", bottom=0.45
    )


def _draw(axes: Axes, record: Record, measure: str) -> None:
    """Draw the scores of selected units, of as many random ones, and of all units."""
    sparse, of_all = record["sparse"], number(record, measure)
    if of_all is not None:
        axes.axhline(of_all, color=LIGHT["behind"], linewidth=2.5, label="all units")
    for key, colour, marker in (("random", "muted", "."), ("selected", "plain", "o")):
        # A line has a gap where a probe has no score.
        values = [math.nan if value is None else value for value in sparse[key]]
        axes.plot(sparse["units"], values, marker, ls="-", color=LIGHT[colour], ms=3, lw=0.9, label=f"{key} units")
    axes.set_xscale("log", base=2)
    axes.set(xlim=(0.8, 80), xticks=TICKS, xticklabels=map(str, TICKS))
    axes.minorticks_off()
