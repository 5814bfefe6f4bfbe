"""Scores of a probe beside those of its controls, for the terminal: a line for each hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import Record, leading_records, measure_of, number, score, signed, signed_interval
from gatescope.analysis.table import ruled_table

OF_RANDOM_WEIGHTS = (
    "random weights: the score on states of an untrained network reading the same text; above them: the difference and "
    "its 95% interval, * if the whole interval is above 0; "
)
NO_RANDOM_WEIGHTS = (
    "; random weights can be drawn only for gatescope's models: for others, probe the states of an untrained one, and "
    "compare both results by gatescope report"
)
CAPTION = (
    "AUROC, or R²; {}control task: the score on random labels determined by the last characters; selectivity: how far "
    "the score lies above that{}"
)


def controls_table(records: Sequence[Record]) -> Table | None:
    """Lay out scores beside those of an untrained network and of the control tasks.

    Args:
        records: records of probes.json, one per hypothesis x state set x weighting.

    Returns:
        A table for `rich.print`, readable at 80 columns or more; names are plain text, never markup. None if no record
        has either control.
    """
    compared = any(number(record, "untrained_score") is not None for record in leading_records(records).values())
    caption = CAPTION.format(OF_RANDOM_WEIGHTS, "") if compared else CAPTION.format("", NO_RANDOM_WEIGHTS)
    table = ruled_table(caption=Text(caption))
    table.add_column("hypothesis", overflow="fold", min_width=12)
    for heading in ("score", *["random weights", "above them"] * compared, "control task", "selectivity"):
        table.add_column(heading, justify="right")
    for name, record in leading_records(records).items():
        own, untrained, control = (
            number(record, key) for key in (measure_of(record), "untrained_score", "control_score")
        )
        if own is None or (untrained is None and control is None):
            continue
        low, high = number(record, "above_untrained_low"), number(record, "above_untrained_high")
        above = "" if untrained is None else f"{signed(own - untrained)}, {signed_interval(low, high)}"
        star = "*" if low is not None and low > 0 else ""
        of_untrained = [score(untrained), above] if compared else []
        cells = [score(own), *of_untrained, score(control), score(number(record, "selectivity"))]
        table.add_row(*map(Text, [visible(name) + star, *cells]))
    return table if table.row_count else None
