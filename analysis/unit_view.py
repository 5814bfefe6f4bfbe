"""What one unit does: what it predicts, how long it remembers, and where in the text it is highest and lowest.

Probes lead from a hypothesis to units; this leads from a unit to the text. Nothing is fitted, and all rows count.
So a unit that was chosen for what it predicts in these rows also predicts it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.label_table import LabelTable
from gatescope.analysis.labels import Labels, label_dump, side_by_side
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.split import groups_of
from gatescope.analysis.units_alone import unit_correlations
from gatescope.engine.errors import InputError
from gatescope.engine.state_source import StateSource

# How many first rows are used.
MOST_ROWS = 1_000_000
# A sequence is cut into stretches of at most STRETCH characters. The highest places of N_PLACES stretches are shown,
# and the lowest of as many; one stretch is painted.
STRETCH, N_PLACES = 500, 8
LONGEST_MEMORY = 500
# A mean over fewer occurrences of a character is unreliable.
FEWEST_READ = 10
# Hypotheses that are scored at once.
AT_ONCE = 16
BEFORE, AFTER = 40, 20
N_BOOTSTRAP, SEED = 1000, 0


@dataclass(frozen=True)
class Told:
    """How well a unit predicts a hypothesis by its value alone.

    Args:
        hypothesis: its name.
        kind: "boolean" or "continuous".
        score: AUROC, which is at least 1/2, or the absolute value of Pearson's r.
        low, high: 95% interval of the AUROC over sequences; NaN if there is none, and for r.
        rises: whether the unit is higher where the hypothesis holds, or has higher values.
    """

    hypothesis: str
    kind: str
    score: float
    low: float
    high: float
    rises: bool


@dataclass(frozen=True)
class Place:
    """A place in the text: the unit's value after the end of `before`, before reading `after`.

    Where the text is not known, `before` says which row it is.
    """

    value: float
    before: str
    after: str


@dataclass(frozen=True)
class UnitView:
    """One unit on N rows of S sequences.

    Args:
        name: such as "layer0/c 18".
        of_each_row: what was read at each row, "character", "token" or "row".
        n_rows, n_sequences: N and S.
        mean, sd, least, greatest: of its values.
        memory: the number of rows after which its autocorrelation within sequences falls below 1/e; None if it is
            beyond 500 or beyond the length of all sequences, and for a constant.
        of_last_character: share of its variance that lies between the characters or tokens read last, 0 to 1.
        characters: those read at least ten times, from the highest mean to the lowest: character or word, mean, count.
        told: the hypotheses, the best predicted first.
        highest, lowest: places, at most one in 500 characters of a sequence, the most extreme first.
        text, values: the stretch of at most 500 characters or words in which it varies most; empty if not known.
        not_evaluated: hypotheses that could not be evaluated, with the reasons.
    """

    name: str
    of_each_row: str
    n_rows: int
    n_sequences: int
    mean: float
    sd: float
    least: float
    greatest: float
    memory: int | None
    of_last_character: float
    characters: list[tuple[str, float, int]]
    told: list[Told]
    highest: list[Place]
    lowest: list[Place]
    text: Sequence[str]
    values: np.ndarray
    not_evaluated: dict[str, str]


def view_unit(
    source: StateSource,
    array: str,
    unit: int,
    hypotheses: Sequence[Hypothesis] = (),
    table: LabelTable | None = None,
) -> UnitView:
    """Look at one unit of recorded states, on their first million rows.

    Args:
        source: the states.
        array: such as "layer0/c".
        unit: its number, from 0.
        hypotheses: hypotheses about the text that it may predict, boolean and continuous.
        table: labels of all rows that it may predict.

    Raises:
        InputError: no such array or unit, or a value that is not finite.
    """
    states, n = source.array(array), min(source.n_rows, MOST_ROWS)
    if not 0 <= unit < states.shape[1]:
        raise InputError(f"{array} of {source.name} has units 0 to {states.shape[1] - 1}, not {unit}")
    text, x = source.pieces(0, n), states[:n, [unit]][:, 0].astype(np.float64)
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x)))
        raise InputError(f"{array} {unit} of {source.name} is {x[row]} at row {row}: expected finite states")
    ids = source.sequence_ids[:n]
    stretches = [
        range(start, min(start + STRETCH, stop))
        for first, stop in pairwise(np.minimum(source.sequence_starts, n).tolist())
        for start in range(first, stop, STRETCH)
    ]
    shown = max(stretches, key=lambda rows: float(x[rows.start : rows.stop].std()))
    explained, characters = (float("nan"), []) if text is None else _by_character(x, source)
    told, not_evaluated = _told(source, x, hypotheses, table)
    return UnitView(
        name=f"{array} {unit}",
        of_each_row=source.of_each_row,
        n_rows=n,
        n_sequences=int(ids[-1]) + 1,
        mean=float(x.mean()),
        sd=float(x.std()),
        least=float(x.min()),
        greatest=float(x.max()),
        memory=_memory(x, ids),
        of_last_character=explained,
        characters=characters,
        told=told,
        highest=_places(x, text, stretches, source),
        lowest=_places(x, text, stretches, source, sign=-1),
        text="" if text is None else text[shown.start : shown.stop],
        values=x[shown.start : shown.stop],
        not_evaluated=not_evaluated,
    )


def _memory(x: np.ndarray, ids: np.ndarray) -> int | None:
    """The number of rows after which the autocorrelation within sequences falls below 1/e, or None."""
    centred = x - x.mean()
    variance = (centred**2).mean()
    for lag in range(1, min(LONGEST_MEMORY, len(x) - 1) + 1):
        together = ids[lag:] == ids[:-lag]
        if not together.any() or not variance:
            return None
        if (centred[lag:] * centred[:-lag])[together].mean() < variance / np.e:
            return lag
    return None


def _by_character(x: np.ndarray, source: StateSource) -> tuple[float, list[tuple[str, float, int]]]:
    """The share of variance between the tokens read last, and their means, from the highest to the lowest."""
    tokens, which, times = np.unique(source.tokens_of(0, len(x)), return_inverse=True, return_counts=True)
    means = np.bincount(which, x) / times
    total = x.var()
    explained = float(((means - x.mean()) ** 2 * times).sum() / len(x) / total) if total else float("nan")
    order = [i for i in np.argsort(-means).tolist() if times[i] >= FEWEST_READ]
    return explained, [(source.word(int(tokens[i])), float(means[i]), int(times[i])) for i in order]


def _told(
    source: StateSource, x: np.ndarray, hypotheses: Sequence[Hypothesis], table: LabelTable | None
) -> tuple[list[Told], dict[str, str]]:
    """How well the unit predicts each hypothesis that varies, the best first; and those that could not be evaluated."""
    boolean, continuous, not_evaluated = label_dump(source, hypotheses, len(x))
    if table:
        boolean, continuous = (
            side_by_side(own, given.first_rows(len(x)))
            for own, given in ((boolean, table.boolean), (continuous, table.continuous))
        )
    scorer = Scorer(groups_of(source)[source.sequence_ids[: len(x)]], N_BOOTSTRAP, SEED)
    told = [each for part in boolean.parts(AT_ONCE) for each in _told_boolean(x, part, scorer)]
    correlations = unit_correlations(x[:, None], continuous.values, continuous.defined)[:, 0].tolist()
    for each, r in zip(continuous.hypotheses, correlations, strict=True):
        told.append(Told(each.name, each.values, abs(r), float("nan"), float("nan"), r > 0))
    told.sort(key=lambda each: -(2 * each.score - 1 if each.kind == "boolean" else each.score))
    return [each for each in told if not np.isnan(each.score)], not_evaluated


def _told_boolean(x: np.ndarray, labels: Labels, scorer: Scorer) -> list[Told]:
    scored = labels.values, np.repeat(x[:, None], len(labels.hypotheses), axis=1), labels.defined
    area, (low, high) = scorer.auroc(*scored), scorer.auroc_interval(*scored)
    falls = area < 0.5
    area, low, high = np.where(falls, [1 - area, 1 - high, 1 - low], [area, low, high])
    columns = zip(labels.hypotheses, area.tolist(), low.tolist(), high.tolist(), (~falls).tolist(), strict=True)
    return [Told(each.name, each.values, *rest) for each, *rest in columns]


def _places(
    x: np.ndarray, text: Sequence[str] | None, stretches: Sequence[range], source: StateSource, sign: int = 1
) -> list[Place]:
    """The most extreme of the stretches' highest places, in order; of their lowest if the sign is -1."""
    rows = [each.start + int(np.argmax(sign * x[each.start : each.stop])) for each in stretches]
    rows.sort(key=lambda row: -sign * x[row])
    places = []
    for row in rows[:N_PLACES]:
        if text is None:
            sequence = int(source.sequence_ids[row])
            step = row - int(source.sequence_starts[sequence])
            places.append(Place(float(x[row]), f"row {row:,}, step {step:,} of sequence {sequence:,}", ""))
            continue
        document = int(np.searchsorted(source.document_starts, row, side="right"))
        first, last = source.document_starts[document - 1 : document + 1].tolist()
        before = "".join(text[max(first, row + 1 - BEFORE) : row + 1])[-BEFORE:]
        after = "".join(text[row + 1 : min(last, row + 1 + AFTER)])[:AFTER]
        places.append(Place(float(x[row]), before, after))
    return places
