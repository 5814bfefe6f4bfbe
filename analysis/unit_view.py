"""What one unit does: what it predicts, how long it remembers, and where in the text it is highest and lowest.

Probes lead from a hypothesis to units; this leads from a unit to the text. Nothing is fitted, and all characters count.
So a unit that was chosen for what it predicts in this text also predicts it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels, label_dump
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.split import groups_of
from gatescope.analysis.units_alone import unit_correlations
from gatescope.engine.errors import InputError
from gatescope.engine.state_source import StateSource
from gatescope.engine.vocabulary import code_points

# How many first characters are used.
MOST_ROWS = 1_000_000
# A sequence is cut into stretches of at most STRETCH characters. The highest places of N_PLACES stretches are shown,
# and the lowest of as many; one stretch is painted.
STRETCH, N_PLACES = 500, 8
LONGEST_MEMORY = 500
# A mean over fewer occurrences of a character is unreliable.
FEWEST_READ = 10
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
    """A place in the text: the unit's value after the last character of `before`, before reading `after`."""

    value: float
    before: str
    after: str


@dataclass(frozen=True)
class UnitView:
    """One unit on N characters of S sequences.

    Args:
        name: such as "layer0/c 18".
        n_rows, n_sequences: N and S.
        mean, sd, least, greatest: of its values.
        memory: the number of characters after which its autocorrelation within sequences falls below 1/e; None if it is
            beyond 500 or beyond the length of all sequences, and for a constant.
        of_last_character: share of its variance that lies between the characters read last, 0 to 1.
        characters: those read at least ten times, from the highest mean to the lowest: character, mean, count.
        told: the hypotheses, the best predicted first.
        highest, lowest: places, at most one in 500 characters of a sequence, the most extreme first.
        text, values: the stretch of at most 500 characters in which it varies most.
        not_evaluated: hypotheses that could not be evaluated, with the reasons.
    """

    name: str
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
    text: str
    values: np.ndarray
    not_evaluated: dict[str, str]


def view_unit(source: StateSource, array: str, unit: int, hypotheses: Sequence[Hypothesis] = ()) -> UnitView:
    """Look at one unit of recorded states, on their first million characters.

    Args:
        source: states whose text is known.
        array: such as "layer0/c".
        unit: its number, from 0.
        hypotheses: hypotheses that it may predict, boolean and continuous.

    Raises:
        InputError: no such array or unit, no text, or a value that is not finite.
    """
    states, n = source.array(array), min(source.n_rows, MOST_ROWS)
    if not 0 <= unit < states.shape[1]:
        raise InputError(f"{array} of {source.name} has units 0 to {states.shape[1] - 1}, not {unit}")
    text, x = source.text(0, n), states[:n, [unit]][:, 0].astype(np.float64)
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
    explained, characters = _by_character(x, text)
    told, not_evaluated = _told(source, x, hypotheses)
    return UnitView(
        name=f"{array} {unit}",
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
        highest=_places(x, text, stretches, source.document_starts),
        lowest=_places(x, text, stretches, source.document_starts, sign=-1),
        text=text[shown.start : shown.stop],
        values=x[shown.start : shown.stop],
        not_evaluated=not_evaluated,
    )


def _memory(x: np.ndarray, ids: np.ndarray) -> int | None:
    """The number of characters after which the autocorrelation within sequences falls below 1/e, or None."""
    centred = x - x.mean()
    variance = (centred**2).mean()
    for lag in range(1, min(LONGEST_MEMORY, len(x) - 1) + 1):
        together = ids[lag:] == ids[:-lag]
        if not together.any() or not variance:
            return None
        if (centred[lag:] * centred[:-lag])[together].mean() < variance / np.e:
            return lag
    return None


def _by_character(x: np.ndarray, text: str) -> tuple[float, list[tuple[str, float, int]]]:
    """The share of variance between the characters read last, and their means, from the highest to the lowest."""
    characters, which, times = np.unique(code_points(text), return_inverse=True, return_counts=True)
    means = np.bincount(which, x) / times
    total = x.var()
    explained = float(((means - x.mean()) ** 2 * times).sum() / len(x) / total) if total else float("nan")
    order = [i for i in np.argsort(-means).tolist() if times[i] >= FEWEST_READ]
    return explained, [(chr(characters[i]), float(means[i]), int(times[i])) for i in order]


def _told(source: StateSource, x: np.ndarray, hypotheses: Sequence[Hypothesis]) -> tuple[list[Told], dict[str, str]]:
    """How well the unit predicts each hypothesis that varies, the best first; and those that could not be evaluated."""
    boolean, continuous, not_evaluated = label_dump(source, hypotheses, len(x))
    scorer = Scorer(groups_of(source)[source.sequence_ids[: len(x)]], N_BOOTSTRAP, SEED)
    told = _told_boolean(x, boolean, scorer)
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
    x: np.ndarray, text: str, stretches: Sequence[range], document_starts: np.ndarray, sign: int = 1
) -> list[Place]:
    """The most extreme of the stretches' highest places, in order; of their lowest if the sign is -1."""
    rows = [each.start + int(np.argmax(sign * x[each.start : each.stop])) for each in stretches]
    rows.sort(key=lambda row: -sign * x[row])
    places = []
    for row in rows[:N_PLACES]:
        document = int(np.searchsorted(document_starts, row, side="right"))
        first, last = int(document_starts[document - 1]), int(document_starts[document])
        before, after = text[max(first, row + 1 - BEFORE) : row + 1], text[row + 1 : min(last, row + 1 + AFTER)]
        places.append(Place(float(x[row]), before, after))
    return places
