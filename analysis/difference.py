"""How far one result's scores lie above another's, on the characters that both were tested on.

Two networks that read the same text tend to err in the same places, so the interval of the difference is far narrower
than those of the two scores. It is computed from the influence of each test sequence on either score (`influence`),
which results contain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from gatescope.analysis.intervals import paired_interval
from gatescope.analysis.results import (
    COEFFICIENTS,
    Record,
    Result,
    all_ordered,
    interval,
    leading_records,
    measure_of,
    number,
)
from gatescope.analysis.significance import benjamini_hochberg
from gatescope.engine.errors import InputError


@dataclass(frozen=True)
class Difference:
    """How far the score of a hypothesis in one result lies above that in another.

    Args:
        hypothesis: its name.
        states: the state set of each result.
        measure: the score that judges it, `auroc` or `r2`.
        first, second: the score of each result.
        low, high: 95% interval of `second - first`; NaN if one of the scores has no interval.
        p: two-sided p of the hypothesis that there is no difference.
        q: p corrected for all hypotheses of the pair (Benjamini & Hochberg, 1995).
    """

    hypothesis: str
    states: tuple[str, str]
    measure: str
    first: float
    second: float
    low: float
    high: float
    p: float
    q: float

    @property
    def decided(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Pair:
    """The names of two results, and their differences, or the reason why there are none."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    why_none: str | None = None


def pairs_of(results: Sequence[Result]) -> list[Pair]:
    """Compare every further result with the first, on the hypotheses that both tested on the same characters.

    Args:
        results: as returned by `read_results`.

    Returns:
        A pair for each result but the first.

    Raises:
        InputError: a file of coefficients is damaged.
    """
    # All pairs list their hypotheses in one order.
    names = all_ordered(results)
    return [_pair(results[0], second, names) for second in results[1:]]


def _pair(first: Result, second: Result, names: Sequence[str]) -> Pair:
    records = [leading_records(result.records) for result in (first, second)]
    both = [(records[0][name], records[1][name]) for name in names if all(name in each for each in records)]
    both = [pair for pair in both if None not in map(_score, pair)]
    same = [(one, other) for one, other in both if _tested(one) == _tested(other)]
    if not both:
        why = "they have no scored hypothesis in common"
    elif not all(any(map(_tested, each)) for each in zip(*both, strict=True)):
        why = "one is from an earlier gatescope: probe again with --overwrite"
    elif not same:
        why = (
            "they were tested on different characters: read the same texts with both models (`gatescope extract`), and "
            "probe with the same --seed, --test-share and --folds"
        )
    elif lacking := [each.folder for each in (first, second) if not (each.folder / COEFFICIENTS).exists()]:
        why = f"{lacking[0] / COEFFICIENTS} is missing"
    else:
        on_first = _influences(first.folder, [one for one, _ in same])
        on_second = _influences(second.folder, [other for _, other in same])
        if on_first.shape != on_second.shape:
            raise InputError(
                f"{first.folder / COEFFICIENTS} has influences of {on_first.shape[1]} sequences, but "
                f"{second.folder / COEFFICIENTS} of {on_second.shape[1]}, on the same text: probe again with "
                "--overwrite"
            )
        return Pair(first.name, second.name, _differences(same, on_second - on_first))
    return Pair(first.name, second.name, (), why)


def unexceeded_sets(result: Result) -> set[tuple[str, str]]:
    """Return the pairs of hypothesis and state set whose score no other set exceeds by the whole interval.

    Hypotheses with fewer than two sets that have an interval are left out; so are all if the influences are missing.

    Raises:
        InputError: the file of coefficients is damaged.
    """
    if not (result.folder / COEFFICIENTS).exists():
        return set()
    compared = [record for record in result.records if _tested(record) and _has_interval(record)]
    sets: dict[str, list[tuple[Record, np.ndarray]]] = {}
    for record, influence in zip(compared, _influences(result.folder, compared), strict=True):
        sets.setdefault(record["hypothesis"], []).append((record, influence))
    return {
        (name, one["states"])
        for name, of_one in sets.items()
        for one, on_one in of_one
        if len(of_one) > 1 and not any(_interval(one, other, on_other - on_one)[0] > 0 for other, on_other in of_one)
    }


def _differences(pairs: Sequence[tuple[Record, Record]], influence: np.ndarray) -> tuple[Difference, ...]:
    """Compare the records of K hypotheses; influence [K, S] is that on the second score minus that on the first."""
    measures = [measure_of(one) for one, _ in pairs]
    found = [_interval(*pair, of_sequences) for pair, of_sequences in zip(pairs, influence, strict=True)]
    q = benjamini_hochberg(np.array([p for *_, p in found]))
    return tuple(
        Difference(
            one["hypothesis"], (one["states"], other["states"]), measure, one[measure], other[measure], *ends, each
        )
        for (one, other), measure, ends, each in zip(pairs, measures, found, q.tolist(), strict=True)
    )


def _interval(one: Record, other: Record, influence: np.ndarray) -> tuple[float, float, float]:
    """The interval of the second score minus the first, and p; influence [S] as for `_differences`."""
    measure = measure_of(one)
    n_sequences = number(one, "n_sequences") if _has_interval(one) and _has_interval(other) else None
    return paired_interval(other[measure] - one[measure], influence, n_sequences or 0.0)


def _has_interval(record: Record) -> bool:
    return _score(record) is not None and interval(record, measure_of(record)) is not None


def _tested(record: Record) -> str:
    """The digest of the test rows and labels; empty if an earlier gatescope made the record."""
    return str(record.get("tested_sha256", ""))


def _score(record: Record) -> float | None:
    """The score that judges the hypothesis; None for a balanced fit, which judges none."""
    return None if record["weighting"] == "balanced" else number(record, measure_of(record))


def _influences(folder: Path, records: Iterable[Record]) -> np.ndarray:
    """Read the influence of each tested sequence on the scores of K records, float64 [K, S]."""
    path = folder / COEFFICIENTS
    try:
        with safe_open(path, framework="numpy") as file:
            rows = json.loads(file.metadata()["gatescope"])["hypotheses"]
            found = []
            for record in records:
                name, solver = record["hypothesis"], "boolean" if record["kind"] == "boolean" else "ridge"
                of_all = file.get_slice(f"{record['states']}/{record['weighting']}/influence")
                place = rows[solver].index(name)
                found.append(of_all[place : place + 1][0, :])
            return np.array(found, dtype=np.float64)
    except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): probe again with --overwrite") from None
