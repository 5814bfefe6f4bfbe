"""The settings of a stage, kept beside what it wrote, so that repeating a command resumes and never mixes two."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gatescope.engine.differences import first_difference, shortened
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove_partial, remove_partial_of, write_json
from gatescope.engine.folder_lock import locked
from gatescope.engine.location import behind_link

CONFIG = "config.json"
# Where settings say what is no choice of the user's, but of the version that made the results.
KINDS = "kinds"
# What a field of settings takes, by its annotation, and how a message says so.
EXPECTED: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
    Path: (str | os.PathLike, "a path"),
}


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
        # What else lies there, or below, may be what other programs are writing.
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
                f"{folder} holds {present[0]} but no {CONFIG}, so its settings are unknown: "
                "choose another --out, or start anew with --overwrite"
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
                f"{folder} was made by another version of gatescope, whose results are of another kind: "
                "choose another --out, or start anew with --overwrite"
            )
        raise InputError(
            f"{folder} was made with {name} = {shortened(before)}, not {shortened(now)}: repeat the command with the "
            "same settings to go on, choose another --out, or start anew with --overwrite"
        )
    if "decided" in earlier:
        write_json(path, {"stage": stage, "settings": settings})


def keep_only(folder: Path, decided: Sequence[str]) -> None:
    """Let the next command that claims the folder change all settings but these, which decided what is in it."""
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
    """Add to a stage's settings what the report says of its input: model, corpus, dump, versions."""
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


def plain(value: Any) -> Any:
    """Return dataclasses, tuples, paths, NumPy's numbers and infinities as the JSON values that they come back as."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        value = float(value)
    infinite = isinstance(value, float) and not math.isfinite(value)
    return str(value) if infinite or isinstance(value, Path) else value


def whole_seed(seed: int, bits: int) -> int:
    """Return a seed, which may be NumPy's, as an int.

    Raises:
        InputError: it is no whole number of at least 0 that takes so many bits at most.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**bits:
        raise InputError(f"--seed {seed}: expected a whole number from 0 to 2^{bits} - 1")
    return int(seed)


def require_kind(name: str, given: Any, kind: type, returned_by: str = "") -> None:
    """Check that an argument is what a function takes, and not a path or a dictionary in its place.

    Args:
        name: of the argument.
        given: what the caller gave.
        kind: what it should be.
        returned_by: how a caller gets one, unless it is made by its name.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(given, kind):
        how = f", as {returned_by} returns it" if returned_by else ""
        raise InputError(f"{name} is of type {type(given).__name__}: expected {kind.__name__}{how}")


def require_values(config: Any) -> None:
    """Check that the fields of a dataclass are what their annotations say.

    Raises:
        InputError: a field has another value.
    """
    for name, hint in get_type_hints(type(config)).items():
        _require_value(f"--{name.replace('_', '-')}", getattr(config, name), hint)


def _require_value(flag: str, given: Any, hint: Any) -> None:
    """Check one value: of a kind that `EXPECTED` has, one of a few words, None or one of these, or a tuple of them."""
    inner, shown = get_args(hint), shortened(given)
    if get_origin(hint) is tuple:
        if not isinstance(given, tuple | list):
            what = "one word" if isinstance(given, str) else "no tuple"
            raise InputError(f"{flag} {shown} is {what}: expected several, such as ({shown},)")
        for each in given:
            _require_value(flag, each, inner[0])
    elif get_origin(hint) is Literal:
        if not isinstance(given, str) or given not in inner:
            raise InputError(f"{flag} {shown} is unknown: expected {' or '.join(map(str, inner))}")
    elif NoneType in inner:
        if given is not None:
            _require_value(flag, given, inner[0])
    elif not isinstance(given, EXPECTED[hint][0]) or isinstance(given, bool) != (hint is bool):
        raise InputError(f"{flag} {shown}: expected {EXPECTED[hint][1]}")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
