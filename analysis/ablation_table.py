"""The loss with units held or directions erased, for the terminal: a line for each set or direction."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import Record, number, score, signed, signed_interval
from gatescope.analysis.table import ruled_table

CAPTION = (
    "nats per character lost while units are held, where the hypothesis holds and elsewhere; p: among these units and "
    "random sets of as many, the share that loses at least as much there, or whose difference is at least as large; q: "
    "the expected share of false findings (Benjamini and Hochberg) if all lines with this q or less count as findings; "
    "erased: the direction across all units that predicts the hypothesis is removed after every step, compared with "
    "random directions; AUROC of linear probes fitted anew: before, with the direction removed once from the "
    "undisturbed states, and removed after every step; the last minus the second: what the network recovered from "
    "later text"
)
# Two lines each, so that all columns fit.
HEADINGS = (
    *("\nhypothesis", "\nranking", "\nunits", "\nholds", "\n95%", "\nelsewhere"),
    *("random\nholds", "random\nelsewhere", "\np", "\nq", "difference\np", "\nq"),
)


def ablation_table(records: Sequence[Record]) -> Table:
    """Lay out `ablation.json`: changes of the loss in nats per character, beside those of random sets.

    Args:
        records: one per hypothesis, ranking and number of units, and one per erased direction.

    Returns:
        A table for `rich.print`, readable at 120 columns or more; names are plain text, never markup.
    """
    table = ruled_table(caption=CAPTION)
    for heading, width in zip(HEADINGS, (12, 7, 8), strict=False):
        table.add_column(heading, overflow="fold", min_width=width)
    for heading in HEADINGS[3:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        words = [record["hypothesis"], record["ranking"] + _refitted(record), held_units(record), *effects(record)]
        table.add_row(*(Text(visible(word)) for word in words))
    return table


def held_units(record: Record) -> str:
    """The layer and number of the unit that is held, or how many are held; if none, the direction is erased."""
    units = record["units"]
    if not units:
        return "direction"
    return f"layer{units[0]['layer']} {units[0]['unit']}" if len(units) == 1 else f"first {len(units)}"


def effects(record: Record) -> list[str]:
    """The cells after the units, in the order of the last `HEADINGS`."""
    return [
        signed(number(record, "change_holds")),
        signed_interval(number(record, "change_holds_low"), number(record, "change_holds_high")),
        *(
            signed(number(record, key))
            for key in ("change_elsewhere", "random_change_holds", "random_change_elsewhere")
        ),
        *(score(number(record, key)) for key in ("p_holds", "q_holds", "p_difference", "q_difference")),
    ]


def _refitted(record: Record) -> str:
    """The AUROC of probes fitted anew before and after erasing; empty if it is unknown, or if units are held."""
    aurocs = [number(record, f"auroc_{name}") for name in ("undisturbed", "once", "left")]
    return "" if aurocs[0] is None or aurocs[2] is None else f" {'→'.join(map(score, aurocs))}"
