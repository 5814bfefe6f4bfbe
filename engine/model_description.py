"""The description of a model on the disk, `model.json`: architecture, vocabulary, and the corpus it was made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatescope.engine.errors import InputError
from gatescope.engine.files import write_json
from gatescope.engine.model import Architecture
from gatescope.engine.vocabulary import Vocabulary

VERSION = 1
DESCRIPTION = "model.json"
EXPECTED = "expected a folder that `gatescope train` or save_model wrote, such as the model/ of a run"


def write_description(folder: Path, architecture: Architecture, vocabulary: Vocabulary, corpus: dict[str, Any]) -> None:
    """Write `model.json`."""
    description = {
        "format": "gatescope model",
        "version": VERSION,
        "architecture": asdict(architecture),
        "vocabulary": list(vocabulary.characters),
        "corpus": corpus,
    }
    description["sha256"] = description_digest(description)
    write_json(folder / DESCRIPTION, description)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the contents of `model.json`.

    Raises:
        InputError: there is none, it is damaged, or of a version that this gatescope does not read.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = f"is not a model: it has no {DESCRIPTION}" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; {EXPECTED}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged: it is not JSON; train the model again") from None
    if not isinstance(description, dict) or description.get("format") != "gatescope model":
        raise InputError(f"{path} is not a model description of gatescope: expected format 'gatescope model'")
    if description.get("version") != VERSION:
        raise InputError(
            f"{path} has model version {description.get('version')!r}, but this gatescope reads {VERSION}: "
            "use the gatescope that wrote it, or train again"
        )
    try:
        Architecture(**description["architecture"])
        corpus, characters = description["corpus"], description["vocabulary"]
    except (KeyError, TypeError):
        raise InputError(
            f"{path} is damaged: entries are missing or have the wrong type; train the model again"
        ) from None
    except InputError as error:
        raise InputError(f"{path} does not fit this gatescope: {error}") from None
    if not isinstance(corpus, dict) or type(corpus.get("characters")) is not int or "name" not in corpus:
        raise InputError(f"{path} is damaged: it does not name its corpus; train the model again")
    listed = isinstance(characters, list) and 0 < len(characters) == len(set(map(str, characters)))
    if not listed or not all(
        isinstance(each, str) and len(each) == 1 and not "\ud800" <= each <= "\udfff" for each in characters
    ):
        raise InputError(
            f"{path} is damaged: its vocabulary is not a list of different characters; train the model again"
        )
    if description.pop("sha256", None) != description_digest(description):
        raise InputError(f"{path} does not match its checksum, so it was altered: copy it again, or train again")
    return description


def description_digest(description: Mapping[str, Any]) -> str:
    """Return the sha256 of what `model.json` says beside it."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
