"""How the loss of a model changes with the first units of a ranking held, or a direction erased: ablation records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.clamping import Unit, mask_of, random_sets
from gatescope.analysis.intervals import mean_interval
from gatescope.analysis.refitted_probe import refitted_auroc
from gatescope.analysis.rereading import Rereading
from gatescope.analysis.results import ERASE, Record, json_number, unit_name
from gatescope.analysis.scorer import FEWEST_GROUPS
from gatescope.analysis.significance import benjamini_hochberg, p_value
from gatescope.engine.errors import InputError
from gatescope.engine.interventions import Erased, Held
from gatescope.engine.model import Architecture
from gatescope.engine.progress import progress_bar

# The names of the rankings that begin with these units, and the units.
TestedSet = tuple[str, list[Unit]]
# The hypothesis, if it decides the values that units are held at, and the number of units in each layer.
Others = tuple[int, tuple[int, ...]]
# The fields of a record that describe an intervention, the loss that it adds, [1 + 2 K, S], and the loss that R random
# ones add, [R, 1 + 2 K, S].
Line = tuple[dict[str, Any], np.ndarray, np.ndarray]


def tested_sets(record: Record, ranking: str, sizes: tuple[int, ...], architecture: Architecture) -> list[TestedSet]:
    """Return the sets of first units in each size, each with the names of the rankings that begin with it.

    A unit whose h and c are both in a ranking counts once.

    Args:
        record: one of `probes.json`.
        ranking: the name of the ranking of the results.
        sizes: numbers of units; a shorter ranking is taken whole.
        architecture: the model's.

    Raises:
        InputError: a ranking names a unit that the model lacks, or every ranking is shorter than requested.
    """
    layers = {f"layer{layer}/{state}": layer for layer in range(architecture.layers) for state in architecture.states}

    def unit_of(named: Record) -> Unit:
        if named["states"] not in layers or not 0 <= named["unit"] < architecture.hidden:
            raise InputError(
                f"{unit_name(named)} cannot be held: the model has units 0 to {architecture.hidden - 1} of "
                + ", ".join(layers)
            )
        return layers[named["states"]], named["unit"]

    rankings = {ranking: record["top_units"]}
    rankings.setdefault("weight_sd", record.get("largest_weights") or [])
    rankings["selected"] = record.get("selected_units") or []
    longest = max(map(len, rankings.values()))
    if longest < min(max(sizes), architecture.layers * architecture.hidden):
        raise InputError(
            f"--units {max(sizes)}: the results name only the first {longest} of "
            f"{architecture.layers * architecture.hidden} units for {record['hypothesis']}: give at most {longest}"
        )
    found: dict[frozenset[Unit], tuple[list[str], list[Unit]]] = {}
    for name, listed in rankings.items():
        units = list(dict.fromkeys(map(unit_of, listed)))
        for size in sorted({min(size, len(units)) for size in sizes} - {0}):
            found.setdefault(frozenset(units[:size]), ([], units[:size]))[0].append(name)
    return [(", ".join(names), units) for names, units in found.values()]


def ablation_records(
    reading: Rereading,
    records: list[Record],
    sets: list[list[TestedSet]],
    directions: tuple[list[Erased], Erased],
    groups: np.ndarray,
    config: AblationConfig,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield a record for each hypothesis and set of units, then one for the hypothesis's direction.

    Args:
        reading: the sequences, with the labels of the K hypotheses.
        records: K records of `probes.json`.
        sets: the sets to test for each of the K.
        directions: the erasure of each of the K, and the random ones.
        groups: [S], the group of each sequence: sequences of one group are resampled together.
        config: method and number of random sets.
        seed: of the random sets.
    """
    architecture = reading.architecture
    # One more than requested, if there are so many: a set that equals the tested one is left out.
    drawn = {
        key: random_sets(key[1], architecture.hidden, config.random_sets + 1, seed)
        for key in {_others(k, units, config, architecture) for k, of_one in enumerate(sets) for _, units in of_one}
    }
    n_held = sum(map(len, sets)) + sum(map(len, drawn.values()))
    # Each direction is run twice: for the loss, and for the states that it leaves.
    n_erased = 2 * len(directions[0]) + len(directions[1])
    with progress_bar("ablate", (n_held + n_erased) * reading.n_characters, "characters") as advance:
        lines = zip(
            _held_lines(reading, sets, drawn, config, seed, advance),
            _erased_lines(reading, directions, groups, seed, advance),
            strict=True,
        )
        for k, record in enumerate(records):
            advance(0, record["hypothesis"])
            of_units, of_direction = next(lines)
            for words, change, random in (*of_units, of_direction):
                yield {
                    **{name: record[name] for name in ("hypothesis", "states")},
                    "alignment": reading.alignment,
                    **words,
                    "seed": seed,
                    **_numbers(reading, k, change, random, groups, seed),
                }


def _decides(k: int, config: AblationConfig) -> int:
    """Return the hypothesis that decides the held values: with `translate` each its own, otherwise the first."""
    return k if config.method == "translate" else 0


def _others(k: int, units: list[Unit], config: AblationConfig, architecture: Architecture) -> Others:
    """Return a key for the random sets that a set is compared with; equal keys share their sets and effects."""
    counts = Counter(layer for layer, _ in units)
    return _decides(k, config), tuple(counts[layer] for layer in range(architecture.layers))


def _held_lines(
    reading: Rereading,
    sets: list[list[TestedSet]],
    drawn: dict[Others, list[frozenset[Unit]]],
    config: AblationConfig,
    seed: int,
    advance: Callable[..., None],
) -> Iterator[list[Line]]:
    """Yield for each hypothesis the effects of its sets of units, and of random ones of the same size and layers."""
    architecture = reading.architecture

    def changes(several: Iterable[Iterable[Unit]]) -> np.ndarray:
        masks = [mask_of(units, architecture.layers, architecture.hidden) for units in several]
        advance(len(masks) * reading.n_characters)
        return reading.changes(Held(values, torch.stack(masks).to(reading.device)))

    effects: dict[Others, np.ndarray] = {}
    values: dict[str, torch.Tensor] = {}
    for k, of_one in enumerate(sets):
        if _decides(k, config) == k:
            values = reading.held(config.method, k, seed)
        lines = []
        for ranking, units in of_one:
            key = _others(k, units, config, architecture)
            if key not in effects:
                effects[key] = changes(drawn[key])
            is_other = [each != frozenset(units) for each in drawn[key]]
            listed = [{"layer": layer, "unit": unit} for layer, unit in units]
            words = {"ranking": ranking, "method": config.method, "units": listed}
            lines.append((words, changes([units])[0], effects[key][is_other][: config.random_sets]))
        yield lines


def _erased_lines(
    reading: Rereading,
    directions: tuple[list[Erased], Erased],
    groups: np.ndarray,
    seed: int,
    advance: Callable[..., None],
) -> Iterator[Line]:
    """Yield for each hypothesis the effect of erasing its direction, of random ones, and the AUROC of new probes."""
    erasures, random = directions
    advance(len(random) * reading.n_characters)
    of_random = reading.changes(random)
    for k, erased in enumerate(erasures):
        advance(2 * reading.n_characters)
        states = {
            "undisturbed": reading.undisturbed,
            "once": reading.states(erased, once=True),
            "left": reading.states(erased),
        }
        predicted = {
            f"auroc_{name}": json_number(refitted_auroc(*reading.labelled(k, each), groups, seed))
            for name, each in states.items()
        }
        words: dict[str, Any] = {"ranking": "erased", "method": ERASE, "units": [], **predicted}
        yield words, reading.changes(erased)[0], of_random


def corrected(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records with `q_holds` and `q_difference` added, their p values corrected over all records."""
    adjusted = {
        of: benjamini_hochberg(np.array([record[f"p_{of}"] for record in records], np.float64))
        for of in ("holds", "difference")
    }
    return [
        record | {f"q_{of}": json_number(q[number]) for of, q in adjusted.items()}
        for number, record in enumerate(records)
    ]


def _numbers(
    reading: Rereading, k: int, change: np.ndarray, random: np.ndarray, groups: np.ndarray, seed: int
) -> dict[str, float | int | None]:
    """Return the numbers of one record: the effect of an intervention, and of random ones.

    Args:
        change: [1 + 2 K, S], added nats, summed over characters.
        random: [R, 1 + 2 K, S], the same for the random ones.
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
        **{f"loss{name}": json_number(value) for name, value in loss.items()},
        **{f"change{name}": json_number(value) for name, value in found.items()},
        "change_holds_low": json_number(low),
        "change_holds_high": json_number(high),
        "random_sets": len(random),
        **{
            f"random_change{name}": json_number(value.mean() if len(value) else np.nan)
            for name, value in others.items()
        },
        "p_holds": json_number(p_value(found["_holds"], others["_holds"])),
        "p_difference": json_number(
            p_value(found["_holds"] - found["_elsewhere"], others["_holds"] - others["_elsewhere"])
        ),
    }


def _interval(change: np.ndarray, counts: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95% interval of a mean change over groups of sequences, from sums and numbers of characters, [S]."""
    number = np.unique(groups, return_inverse=True)[1]
    if number.max() + 1 < FEWEST_GROUPS:
        return np.nan, np.nan
    return mean_interval(np.bincount(number, change), np.bincount(number, counts), seed)
