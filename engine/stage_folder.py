"""The folder of a stage: its settings lie beside its output, so that a repeated command resumes and never mixes two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatescope.engine.config_values import plain
from gatescope.engine.differences import first_difference, shortened
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove, remove_partial, remove_partial_of, write_json
from gatescope.engine.folder_lock import locked
from gatescope.engine.location import behind_link

CONFIG = "config.json"
# The settings under this name are not the user's choice but follow from the version that made the results.
KINDS = "kinds"


@contextmanager
def claimed(
    folder: Path, stage: str, settings: dict[str, Any], outputs: Sequence[str], overwrite: bool
) -> Iterator[None]:
    """Make a folder this stage's own, or find that it is already, and keep other programs from it in the block.

    Args:
        folder: where the stage writes; made if it is absent.
        stage: the command's name.
        settings: everything that decides the result, JSON values and dataclasses.
        outputs: the names in the folder that the stage writes.
        overwrite: remove them first.

    Raises:
        InputError: the folder is a state dump, has a config.json that is not gatescope's, holds another stage's output,
            or, without `overwrite`, this one's with other settings (the first is named); or another program has it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file: give a folder")
    if (folder / "zarr.json").exists():
        raise InputError(f"--out {folder} holds a state dump: choose another folder")
    behind_link(folder).mkdir(parents=True, exist_ok=True)
    with locked(folder):
        # Other programs may be writing the other files that lie there or below.
        for name in (CONFIG, *outputs):
            remove_partial_of(folder / name)
            remove_partial(folder / name)
        _take(folder, stage, plain(settings), outputs, overwrite)
        yield


def _take(folder: Path, stage: str, settings: dict[str, Any], outputs: Sequence[str], overwrite: bool) -> None:
    """Write the settings of a stage into its folder, or compare them with those that are there."""
    path = folder / CONFIG
    if overwrite:
        if path.exists():
            # What another stage wrote there would pass for a part of the new.
            _refuse_other_stage(folder, stage)
        for name in (CONFIG, *outputs):
            remove(folder / name)
    if not path.exists():
        present = [name for name in outputs if (folder / name).exists()]
        if present:
            raise InputError(
                f"{folder} holds {present[0]} but no {CONFIG}, so its settings are unknown: choose another --out, or "
                "start over with --overwrite"
            )
        write_json(path, {"stage": stage, "settings": settings})
        return
    earlier = _refuse_other_stage(folder, stage)
    before = earlier["settings"]
    if "decided" in earlier:
        before = {**settings, **{name: before.get(name) for name in earlier["decided"]}}
    difference = first_difference(before, settings)
    if difference:
        name, before, now = difference
        if name.partition(".")[0] == KINDS:
            raise InputError(
                f"{folder} was made by another version of gatescope, whose results differ in kind: choose another "
                "--out, or start over with --overwrite"
            )
        raise InputError(
            f"{folder} was made with {name} = {shortened(before)}, not {shortened(now)}: repeat the command with the "
            "same settings to continue, choose another --out, or start over with --overwrite"
        )
    if "decided" in earlier:
        write_json(path, {"stage": stage, "settings": settings})


def keep_only(folder: Path, decided: Sequence[str]) -> None:
    """Let the next command change all settings but these, which decided what the folder holds."""
    write_json(folder / CONFIG, {**read_config(folder), "decided": list(decided)})


def _refuse_other_stage(folder: Path, stage: str) -> dict[str, Any]:
    """Return the settings of a folder that is a stage's."""
    earlier = read_config(folder)
    if earlier["stage"] != stage:
        raise InputError(
            f"{folder} holds the output of `gatescope {earlier['stage']}`: choose another --out, or remove it"
        )
    return earlier


def record_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Add what the report shows of a stage's input to its settings: model, corpus, dump, versions."""
    write_json(folder / CONFIG, {**read_config(folder), "facts": plain(facts)})


def read_config(folder: Path) -> dict[str, Any]:
    """Return {"stage", "settings"[, "facts"]} of a stage's folder.

    Raises:
        InputError: there is none, or it is not gatescope's.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} has no {CONFIG}: it is not a folder that gatescope wrote") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged, or not gatescope's: choose another folder, or remove it") from None
    if not isinstance(config, dict) or not {"stage", "settings"} <= config.keys():
        raise InputError(f"{path} was not written by gatescope: choose another folder")
    return config
