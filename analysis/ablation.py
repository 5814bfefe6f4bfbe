"""Whether the network uses what predicts a hypothesis: its loss with units held or a direction erased, against random.

A ranking of units shows which of them predict a hypothesis, but not what the network does with them. Here the
recurrence is run again over held-out sequences while the first units of a ranking are held at values that carry no
information about the text (`gatescope.analysis.clamping`). The loss of each next character is compared with the
undisturbed one, where the hypothesis holds and elsewhere. Random sets of as many units in the same layers show what
holding any units does.

The rankings are that of the results (by default the AUROC of each unit alone), that of the probe's largest weights on
standardised states and, with `--sparse`, the order in which units were selected. A probe reads all units at once, along
one direction: that direction is erased as well, in all layers, and compared with random directions
(`gatescope.analysis.erasure`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.ablation_records import ablation_records, corrected, tested_sets
from gatescope.analysis.asked import planned
from gatescope.analysis.erasure import erased_directions
from gatescope.analysis.label_table import read_labels
from gatescope.analysis.labels import Labels, label_dump, side_by_side
from gatescope.analysis.probe_config import ProbeConfig, sha256_of
from gatescope.analysis.read_results import read_records
from gatescope.analysis.rereading import Rereading
from gatescope.analysis.results import ABLATION, Record, Verdict, leading_records, verdict
from gatescope.analysis.split import groups_of, split_sequences
from gatescope.engine.counted import counted
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove_partial_of, write_json
from gatescope.engine.folder_lock import locked
from gatescope.engine.stage_folder import CONFIG, read_config
from gatescope.engine.trained_model import TrainedModel


def ablate_results(
    results: Path,
    trained: TrainedModel,
    states: Path,
    out: Path,
    config: AblationConfig,
    *,
    labels: Path | None = None,
    functions: Path | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Hold the units that the results name, erase the direction of each hypothesis, and write how the loss changes.

    Args:
        results: a folder that `gatescope probe` or `gatescope run` wrote.
        trained: the model whose states were probed.
        states: the dump of these states, with the recurrent states of every layer.
        out: the folder to write into.
        config: units, values, text.
        labels: the file of labels that the probe had, if a hypothesis is one of its columns.
        functions: the file of functions that the probe had, if it has moved.
        seed: of the random sets and directions.

    Returns:
        The records of `ablation.json`: one for each hypothesis, ranking and number of units, and one for
            the direction of each hypothesis; each has the loss and its changes, in nats per character.

    Raises:
        InputError: results, model and states do not belong together, or a hypothesis cannot be tested.
    """
    made, records = read_config(results), list(_chosen(results, config.hypothesis).values())
    settings = made["settings"]
    asked, split_seed = _asked(results, settings)
    asked = replace(asked, functions=functions or asked.functions)
    dump = _dump_of(states, trained, made)
    sets = [tested_sets(record, asked.ranking, config.units, trained.model.architecture) for record in records]
    chosen = _labels(dump, [record["hypothesis"] for record in records], asked, settings, labels)
    groups = groups_of(dump)
    # With several folds, use the first: its training sequences chose the units.
    train, test = split_sequences(groups, asked.test_share, split_seed, asked.folds)
    test = test[np.linspace(0, len(test) - 1, min(config.sequences, len(test))).round().astype(int)]
    if config.method == "resample" and len(test) < 2:
        raise InputError("--method resample needs a second test sequence, but there is only one: use --method mean")
    reading = Rereading(trained, dump, chosen, asked.alignment, test, config.length)
    for record, n_holds in zip(records, reading.counts[1:].sum(axis=1), strict=False):
        if not n_holds:
            read = counted(int(reading.counts[0].sum()), "character that is", "characters that are")
            raise InputError(
                f"{record['hypothesis']} holds at none of the {read} read: give more --sequences or --length, or "
                "choose other hypotheses"
            )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        directions = erased_directions(
            dump, trained.model, chosen, asked.alignment, train, n_random=config.random_sets, seed=seed
        )
        found = corrected(list(ablation_records(reading, records, sets, directions, groups[test], config, seed)))
        remove_partial_of(out / ABLATION)
        write_json(out / ABLATION, found)
    return found


def _asked(results: Path, settings: dict[str, Any]) -> tuple[ProbeConfig, int]:
    """Return the probe's settings that decide labels, split and rankings, and the seed of the split."""
    try:
        probe, seed = settings["probe"], settings["seed"]
        if type(seed) is not int or seed < 0:
            raise ValueError(f"seed {seed!r}")
        asked = ProbeConfig(
            hypotheses=tuple(map(str, probe["hypotheses"])),
            pattern=tuple(map(str, probe["pattern"])),
            functions=Path(probe["functions"]) if probe["functions"] else None,
            alignment=probe["alignment"],
            test_share=probe["test_share"],
            folds=probe.get("folds", 1),
            ranking=probe["ranking"],
        )
        return asked, seed
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{results / CONFIG} is damaged, or not from a probe ({error}): probe again") from None


def _labels(
    dump: StateDump, names: list[str], asked: ProbeConfig, settings: dict[str, Any], labels: Path | None
) -> Labels:
    """Return the labels of the named hypotheses at the rows of the dump, the same as the probe's."""
    for path, digest in ((asked.functions, "functions_sha256"), (labels, "labels_sha256")):
        if path and sha256_of(path) != settings.get(digest):
            raise InputError(f"{path} is not the file that the probe read: give that file, or probe again")
    table = read_labels(labels, {*names, *asked.hypotheses}) if labels else None
    hypotheses, _ = planned(dump, asked, table)
    found, _, failed = label_dump(dump, [each for each in hypotheses if each.name in names])
    if table:
        found = side_by_side(found, table.boolean)
    places = {each.name: k for k, each in enumerate(found.hypotheses)}
    missing = next((name for name in names if name not in places), None)
    if missing:
        why = failed.get(
            missing, "it is neither a hypothesis about the text nor in --labels: give the labels of the probe"
        )
        raise InputError(f"{missing}: {why}")
    columns = [places[name] for name in names]
    return Labels(tuple(found.hypotheses[k] for k in columns), found.values[:, columns], found.defined[:, columns])


def _chosen(results: Path, names: tuple[str, ...]) -> dict[str, Record]:
    """Return the record of each requested hypothesis; its rankings name units of h or c."""
    of_all = leading_records(read_records(results))
    if not names:
        names = tuple(
            name for name, record in of_all.items() if record["kind"] == "boolean" and verdict(record) == Verdict.KNOWN
        )
        if not names:
            raise InputError(f"{results} has no known boolean hypothesis: choose one with --hypothesis")
    for name in names:
        if name not in of_all:
            raise InputError(f"--hypothesis {name!r} is not in {results}: it has {', '.join(of_all)}")
        if of_all[name]["kind"] != "boolean":
            raise InputError(f"--hypothesis {name!r} is continuous: choose a boolean one")
        if not of_all[name].get("top_units"):
            raise InputError(
                f"--hypothesis {name!r} has no ranking of units, because no probe was fitted: choose another"
            )
    return {name: of_all[name] for name in names}


def _dump_of(states: Path, trained: TrainedModel, made: dict[str, Any]) -> StateDump:
    """Return the dump that was probed, after checking that its states are the model's."""
    dump = StateDump.open(states)
    dump.require_whole()
    # The settings of a run do not name its dump, which lies in the same folder.
    if made["settings"].get("dump") != (dump.identity() if made["stage"] == "probe" else None):
        raise InputError(f"{states} is not the dump that was probed: give the states of these results")
    weights, expected = dump.attributes.get("weights_sha256", "unknown"), trained.weights_sha256
    if weights != expected and dump.attributes.get("kind") == "recorded":
        raise InputError(
            f"{states} was recorded from a module of another program: save its model with "
            "gatescope.engine.trained_model.save_model, record its states with `gatescope extract`, and probe these"
        )
    if weights != expected:
        raise InputError(
            f"{states} is of another model: its weights have sha256 {weights}, those of the model {expected}"
        )
    return dump
