"""One unit for the terminal: what it predicts, where it is highest and lowest, and a text painted by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import SIGNS, activation_colouring, printable, runs, tint, visible
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import UNIT_LABELS, score
from gatescope.analysis.table import ruled_table
from gatescope.analysis.unit_view import Place, Told, UnitView
from gatescope.engine.counted import counted

# How many characters are named at each end of the list.
N_CHARACTERS = 6
HIGHER_WHERE = {
    ("boolean", True): "it holds",
    ("boolean", False): "it does not hold",
    ("continuous", True): "it is high",
    ("continuous", False): "it is low",
}


def unit_page(view: UnitView) -> Group:
    """Lay out a unit for `rich.print`, readable at 80 columns or more; texts are plain, never markup."""
    blank = Text()
    parts: list[RenderableType] = [Text(_summary(view)), blank]
    if view.told:
        parts += [_hypotheses(view.told), blank]
    if view.characters:
        parts += [Text(_characters(view.characters, view.of_each_row)), blank]
    if not view.text:
        return Group(*parts, _rows("highest at", view.highest), blank, _rows("lowest at", view.lowest))
    parts += [_places("highest, after reading", view.highest), blank]
    parts += [_places("lowest, after reading", view.lowest), blank]
    return Group(*parts, *_painted(view))


def _summary(view: UnitView) -> str:
    what, sequences = view.of_each_row, counted(view.n_sequences, "sequence")
    memory = f"after {counted(view.memory, what)}" if view.memory else "later than could be measured"
    explained = f"; {score(view.of_last_character)} of its variance is explained by the last {what} read"
    return (
        f"{visible(view.name)} on {counted(view.n_rows, what)} of {sequences}: mean "
        f"{view.mean:.2f}, standard deviation {view.sd:.2f}, from {view.least:.2f} to {view.greatest:.2f}.\n"
        f"Its autocorrelation falls below 1/e {memory}{explained * (what != 'row')}."
    )


def _hypotheses(told: Sequence[Told]) -> Table:
    table = ruled_table(padding=1)
    table.add_column("hypothesis", overflow="fold", min_width=12)
    for heading in ("predicts", "95%", "higher where"):
        table.add_column(heading, no_wrap=True)
    for each in told:
        tells = f"{UNIT_LABELS[each.kind]} {score(each.score)}"
        ends = "–" if np.isnan(each.low) else f"{score(each.low)}–{score(each.high)}"
        table.add_row(*map(Text, (visible(each.hypothesis), tells, ends, HIGHER_WHERE[each.kind, each.rises])))
    return table


def _characters(characters: Sequence[tuple[str, float, int]], of_each_row: str) -> str:
    def named(some: Sequence[tuple[str, float, int]]) -> str:
        return ", ".join(f"{SIGNS.get(character, repr(character))} {mean:.2f}" for character, mean, _ in some)

    n = min(N_CHARACTERS, (len(characters) + 1) // 2)
    lowest = named(characters[::-1][: min(n, len(characters) - n)])
    return f"mean by the last {of_each_row} read: {named(characters[:n])}" + (f"; lowest {lowest}" if lowest else "")


def _places(title: str, places: Sequence[Place]) -> Table:
    table = ruled_table(padding=1)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what came next", no_wrap=True)
    for place in places:
        table.add_row(f"{place.value:.2f}", *(Text("".join(map(_shown, text))) for text in (place.before, place.after)))
    return table


def _rows(title: str, places: Sequence[Place]) -> Table:
    table = ruled_table(padding=1)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column(title, no_wrap=True)
    for place in places:
        table.add_row(f"{place.value:.2f}", Text(place.before))
    return table


def _painted(view: UnitView) -> list[Text]:
    """The stretch in which the unit varies most, and the meaning of the colours."""
    colouring = activation_colouring(view.name, view.values)
    painted, legend = Text(), Text(f"where it varies most, from {colouring.low} ")
    for start, stop in runs(colouring):
        # A newline needs a sign to show its colour.
        shown = "".join(f"{SIGNS[c]}\n" if c == "\n" else _shown(c) for c in "".join(view.text[start:stop]))
        painted.append(shown, _style(int(colouring.step[start])))
    for step in colouring.scale():
        legend.append(" ", _style(step))
    return [legend.append(f" to {colouring.high}:"), painted]


def _style(step: int) -> str:
    return f"{LIGHT['ink']} on {tint(step, True, LIGHT)}"


def _shown(character: str) -> str:
    return SIGNS.get(character, printable(character))
