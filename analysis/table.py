"""The paper's table for the terminal: one line per hypothesis, plain and balanced side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import (
    CONVERGED,
    WEIGHTINGS,
    Record,
    Verdict,
    best_unit,
    headline,
    interval,
    lacks_text,
    leading,
    number,
    score,
    verdict,
    why_unscored,
)


def ruled_table(padding: int = 0, **words: Any) -> Table:
    """An empty table with a line below its head and no frame; title and caption are left-aligned.

    Args:
        padding: columns left free on both sides of a cell.
        words: title and caption.
    """
    left: dict[str, Any] = {"title_justify": "left", "caption_justify": "left"}
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, padding), **left, **words)


def paper_table(records: Sequence[Record]) -> Table:
    """Lay out results of a probe as in Figures 3-6 of van der Ouderaa, Quantitatively understanding recurrent networks.

    A pair `.98/.97` is plain/balanced. AUROC of the plain fit is shown with its 95% interval and that of the text
    baseline; a star follows the name of a hypothesis that is known by these (`results.verdict`). Continuous hypotheses
    come last, with Pearson's r, and R2 in place of AUROC. A status other than converged is shown below the hypothesis.
    A hypothesis that was not probed on all states together is shown for its first state set, which is named: below the
    table if all rows share it.

    Args:
        records: records of probes.json, one per hypothesis x state set x weighting.

    Returns:
        A table for `rich.print`, readable at 80 columns or more; names are plain text, never markup. Hypotheses keep
        the order of the records.
    """
    chosen = headline(records)
    sets = {leading(weightings)["states"] for weightings in chosen.values()}
    shared = next(iter(sets)) if len(sets) == 1 else "all"
    table = ruled_table(caption=Text(_caption(chosen, shared)))
    table.add_column("hypothesis", overflow="fold", min_width=12)
    for heading in ("acc.", "prec.", "recall", "F1", "AUROC", "95%", "text"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("best unit", overflow="fold", min_width=8)
    for kind, cells in (("boolean", _boolean), ("continuous", _continuous)):
        for name, weightings in chosen.items():
            record = leading(weightings)
            if record["kind"] == kind:
                words = [*cells(weightings), visible(best_unit(record) or "–")]
                table.add_row(_label(name, weightings, shared), *map(Text, words))
        table.add_section()
    return table


def _caption(chosen: Mapping[str, Mapping[str, Record]], shared: str) -> str:
    """The meaning of the star and the pairs, and the state set that all rows share, unless that is all states."""
    scored = [record for each in chosen.values() if verdict(record := leading(each)) != Verdict.UNSCORED]
    words = "* known: AUROC (or R²) above chance and the text baseline"
    if lacks_text(scored):
        words = "the text is unknown: without a text baseline nothing counts as known"
    return f"{words}; pairs are plain/balanced" + ("" if shared == "all" else f"; states: {visible(shared)}")


def _label(name: str, weightings: Mapping[str, Record], states: str) -> Text:
    """The hypothesis, its state set if not shared, why it has no score, and the status of a fit that went wrong."""
    label = Text(visible(name))
    if verdict(leading(weightings)) == Verdict.KNOWN:
        label.append("*")
    shown = leading(weightings)["states"]
    if shown != states:
        label.append(f"\n {visible(shown)}", style="dim")
    if why := why_unscored(leading(weightings)):
        label.append(f"\n {why}", style="yellow")
    statuses = {key: record["status"] for key, record in weightings.items() if record["status"] != CONVERGED}
    if len(statuses) == len(weightings) and len(set(statuses.values())) == 1:
        label.append(f"\n {visible(next(iter(statuses.values())))}", style="yellow")
    else:
        for key, status in statuses.items():
            label.append(f"\n {key}: {visible(status)}", style="yellow")
    return label


def _boolean(weightings: Mapping[str, Record]) -> list[str]:
    def pair(key: str) -> str:
        return "/".join(score(weightings[name].get(key)) for name in WEIGHTINGS["boolean"] if name in weightings)

    return [*map(pair, ("accuracy", "precision", "recall", "f1")), *_judged(weightings, "auroc")]


def _continuous(weightings: Mapping[str, Record]) -> list[str]:
    r = score(leading(weightings).get("pearson"))
    value, *others = _judged(weightings, "r2")
    return ["", "", "", f"r {r}", f"R² {value}", *others]


def _judged(weightings: Mapping[str, Record], measure: str) -> list[str]:
    """The score by the measure that judges a hypothesis, its interval, and the score of the text baseline."""
    record = leading(weightings)
    table = score(number(record, f"baseline_text_{measure}"))
    return [score(number(record, measure)), interval(record, measure) or "–", table]
