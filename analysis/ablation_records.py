"""What a model loses with the first units of a ranking held, beside random ones: the records of an ablation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.clamped_reading import ClampedReading
from gatescope.analysis.clamping import Unit, mask_of, p_value, random_sets
from gatescope.analysis.intervals import mean_interval
from gatescope.analysis.results import Record, unit_name
from gatescope.analysis.scorer import FEWEST_GROUPS
from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture
from gatescope.engine.progress import progress_bar


def ablation_records(
    reading: ClampedReading,
    records: list[Record],
    groups: np.ndarray,
    ranking: str,
    config: AblationConfig,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield a record for each hypothesis and set of units.

    Args:
        reading: the sequences, with labels of the K hypotheses.
        records: K, of `probes.json`: they name the units.
        groups: [S] of each sequence: what belongs together is resampled together.
        ranking: what the records' own ranking is called.
        config: method and sizes.
        seed: of the random sets.

    Raises:
        InputError: a ranking names what is no unit of the model.
    """
    architecture = reading.architecture
    sets = [
        (k, *each) for k, record in enumerate(records) for each in _sets(record, ranking, config.units, architecture)
    ]
    # What units are held at, and so what random sets change, is the same for all hypotheses, unless it moves them.
    of_hypothesis = config.method == "translate"

    def random_key(k: int, units: list[Unit]) -> tuple[int, tuple[int, ...]]:
        counts = Counter(layer for layer, _ in units)
        return k * of_hypothesis, tuple(counts[layer] for layer in range(architecture.layers))

    random: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
    n_random = len({random_key(k, units) for k, _, units in sets})
    total = (len(sets) + n_random * config.random_sets) * reading.n_characters
    last, values = None, {}
    with progress_bar("ablate", total, "characters") as advance:
        for k, by, units in sets:
            advance(0, records[k]["hypothesis"])
            if k * of_hypothesis != last:
                last = k * of_hypothesis
                values = reading.held(config.method, k, seed)
            key = random_key(k, units)
            if key not in random:
                drawn = random_sets(key[1], architecture.hidden, config.random_sets, seed)
                random[key] = reading.changes(values, drawn)
                advance(config.random_sets * reading.n_characters)
            change = reading.changes(values, mask_of(units, architecture.layers, architecture.hidden)[None])[0]
            advance(reading.n_characters)
            yield {
                **{name: records[k][name] for name in ("hypothesis", "states")},
                "alignment": reading.alignment,
                "ranking": by,
                "method": config.method,
                "units": [{"layer": layer, "unit": unit} for layer, unit in units],
                **_numbers(reading, k, change, random[key], groups, seed),
            }


def _sets(
    record: Record, ranking: str, sizes: tuple[int, ...], architecture: Architecture
) -> list[tuple[str, list[Unit]]]:
    """Return the first units of each ranking in each size, and the rankings that begin with just these.

    A unit whose h and c both stand in a ranking counts once.
    """
    rankings = {ranking: record["top_units"], "weight_sd": record.get("largest_weights") or []}
    found: dict[frozenset[Unit], tuple[list[str], list[Unit]]] = {}
    for name, listed in rankings.items():
        units = list(dict.fromkeys(_unit(each, architecture) for each in listed))
        for size in sorted({min(size, len(units)) for size in sizes} - {0}):
            found.setdefault(frozenset(units[:size]), ([], units[:size]))[0].append(name)
    return [(", ".join(names), units) for names, units in found.values()]


def _unit(named: Record, architecture: Architecture) -> Unit:
    found = re.fullmatch(r"layer(\d+)/([a-z]+)", named["states"])
    if not found or found[2] not in architecture.states:
        held = " and ".join(architecture.states)
        raise InputError(f"{unit_name(named)} is no recurrent state: only units of {held} can be held")
    layer, unit = int(found[1]), named["unit"]
    if not (layer < architecture.layers and 0 <= unit < architecture.hidden):
        raise InputError(
            f"{unit_name(named)} is no unit of the model: it has {architecture.layers} layers of {architecture.hidden}"
        )
    return layer, unit


def _numbers(
    reading: ClampedReading, k: int, change: np.ndarray, random: np.ndarray, groups: np.ndarray, seed: int
) -> dict[str, float | int | None]:
    """Return what one set of units does, beside random ones.

    Args:
        change: [1 + 2 K, S], nats summed over characters.
        random: [R, 1 + 2 K, S], the same of random sets.
    """
    n_hypotheses = len(reading.counts) // 2
    places = {"": 0, "_holds": 1 + k, "_elsewhere": 1 + n_hypotheses + k}
    n = {name: reading.counts[place].sum() for name, place in places.items()}
    with np.errstate(invalid="ignore"):
        loss, found, others = (
            {name: each[..., place, :].sum(axis=-1) / n[name] for name, place in places.items()}
            for each in (reading.losses, change, random)
        )
    low, high = _interval(change[1 + k], reading.counts[1 + k], groups, seed)
    return {
        "n_sequences": len(groups),
        "n_characters": int(n[""]),
        "n_holds": int(n["_holds"]),
        **{f"loss{name}": _json_number(value) for name, value in loss.items()},
        **{f"change{name}": _json_number(value) for name, value in found.items()},
        "change_holds_low": _json_number(low),
        "change_holds_high": _json_number(high),
        "random_sets": len(random),
        **{f"random_change{name}": _json_number(value.mean()) for name, value in others.items()},
        "p_holds": _json_number(p_value(found["_holds"], others["_holds"])),
        "p_difference": _json_number(
            p_value(found["_holds"] - found["_elsewhere"], others["_holds"] - others["_elsewhere"])
        ),
    }


def _interval(change: np.ndarray, counts: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95% interval, over groups of sequences, of a mean change; [S] sums of it, and of characters."""
    number = np.unique(groups, return_inverse=True)[1]
    if number.max() + 1 < FEWEST_GROUPS:
        return np.nan, np.nan
    return mean_interval(np.bincount(number, change), np.bincount(number, counts), seed=seed)


def _json_number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
