"""A model on the disk, with what is known of it.

Its folder holds `model.json` (`model_description`) and `model.safetensors` (the weights, float32, with the step and the
validation loss that they belong to), each with a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic
from gatescope.engine.location import local_path
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import DESCRIPTION, read_description, write_description
from gatescope.engine.vocabulary import Vocabulary

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """A model from disk with what is known of it."""

    model: CharacterModel
    vocabulary: Vocabulary
    weights_sha256: str
    corpus: dict[str, Any]
    training: dict[str, Any]  # step, validation_nats

    def facts(self) -> dict[str, Any]:
        """Return what a state dump and a report say about the model, as JSON values."""
        return {
            **asdict(self.model.architecture),
            "parameters": self.model.n_parameters,
            "vocabulary_size": len(self.vocabulary),
        }


def write_weights(folder: Path, model: CharacterModel, training: dict[str, Any]) -> None:
    """Write `model.safetensors` in one step: the weights and, in its header, the step and loss they belong to."""
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    # One entry: safetensors has no order of its own for several, and the file's bytes follow from the model alone.
    facts = json.dumps({**training, "sha256": weights_digest(weights, training)})
    write_atomic(folder / WEIGHTS, save(weights, {"gatescope": facts}))


def save_model(
    model: CharacterModel,
    folder: str | os.PathLike[str],
    characters: Sequence[str],
    *,
    corpus: str,
    n_characters: int,
    steps: int,
    validation_nats: float,
) -> None:
    """Write a model that another program trained, for every command that takes one.

    Args:
        model: in float32, with that program's weights loaded into its embedding, rnn and output.
        folder: a new one, or one without a model.
        characters: the vocabulary, each character at the place of its id.
        corpus: a name of the text that it was trained on.
        n_characters: characters of that text.
        steps: how many steps it was trained.
        validation_nats: its loss on text that it was not trained on, in nats per character.

    Raises:
        InputError: not a character of its own for each id, weights that are not float32, or a model is there.
    """
    folder = local_path(folder)
    single = all(isinstance(each, str) and len(each) == 1 for each in characters)
    if not (single and len(set(characters)) == len(characters) == model.n_characters):
        raise InputError(
            f"characters: expected {model.n_characters} different single characters in the order of their ids"
        )
    wrong = next((name for name, weight in model.named_parameters() if weight.dtype != torch.float32), None)
    if wrong:
        raise InputError(f"weight {wrong} is {model.get_parameter(wrong).dtype}, expected float32: save model.float()")
    if (folder / DESCRIPTION).exists():
        raise InputError(f"{folder} already holds a model: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    about = {"name": corpus, "characters": n_characters}
    write_weights(folder, model, {"step": steps, "validation_nats": validation_nats})
    write_description(folder, model.architecture, Vocabulary(tuple(characters)), about)


def load_model(folder: str | os.PathLike[str], device: str = "cpu") -> TrainedModel:
    """Read a model's folder.

    Args:
        folder: as `gatescope train --out` wrote it.
        device: where the weights go, "cpu" or "cuda".

    Raises:
        InputError: no model, one of another version, or a damaged one, or no such device.
    """
    folder = local_path(folder)
    require_device(device)
    description = read_description(folder)
    architecture = Architecture(**description["architecture"])
    vocabulary = Vocabulary(tuple(description["vocabulary"]))
    path = folder / WEIGHTS
    if not path.exists():
        raise InputError(
            f"{folder} has no {WEIGHTS}, because its training did not reach a validation: repeat the command that "
            "began it, or, if its loss was not finite, train again with --overwrite and a lower --learning-rate or "
            "--clip"
        )
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            training = json.loads(file.metadata()["gatescope"])
            digest = training.pop("sha256", None)
            known = type(training["step"]) is int and isinstance(training["validation_nats"], int | float)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{path} is not a complete weight file of gatescope ({error}): train the model again"
        ) from None
    if not known:
        raise InputError(f"{path} is not a weight file of gatescope: its step and loss are not numbers")
    _require_fitting(path, weights, architecture, len(vocabulary))
    if digest != weights_digest(weights, training):
        raise InputError(f"{path} is damaged: it does not match its checksum; copy it again, or train the model again")
    model = CharacterModel(architecture, len(vocabulary))
    model.load_state_dict(weights)
    file_digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TrainedModel(model.to(device).eval(), vocabulary, file_digest, description["corpus"], training)


def require_weights(folder: Path, nats: float) -> None:
    """Check that a folder has the weights that its training kept for this validation loss, or for a lower one.

    Raises:
        InputError: they are gone, or something altered them.
    """
    try:
        if load_model(folder).training["validation_nats"] <= nats:
            return
    except InputError:
        pass
    raise InputError(
        f"{folder} has lost the best weights of its training, of {nats:.4f} nats: copy {WEIGHTS} and {DESCRIPTION} "
        "back, or start over with --overwrite"
    )


def _require_fitting(path: Path, weights: dict[str, Tensor], architecture: Architecture, n_characters: int) -> None:
    """Refuse weights that are not those of a model, before memory is taken for one."""
    mixed = "the two files do not belong together"
    sizes = [len(weights), *(size for weight in weights.values() for size in weight.shape)]
    largest = max(architecture.hidden, architecture.layers, architecture.embedding)
    if largest > max(sizes):
        raise InputError(f"{path} has no weight as large as {largest}, which {DESCRIPTION} expects: {mixed}")
    with torch.device("meta"):
        model = CharacterModel(architecture, n_characters)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if expected != found:
        wrong = next(name for name in sorted(expected | found) if expected.get(name) != found.get(name))
        raise InputError(
            f"{path}: weight {wrong} has shape {found.get(wrong)}, but {DESCRIPTION} expects {expected.get(wrong)}: "
            f"{mixed}"
        )
    for name, weight in weights.items():
        if weight.dtype != torch.float32:
            dtype = str(weight.dtype).removeprefix("torch.")
            raise InputError(
                f"{path}: weight {name} is {dtype}, expected float32: convert it, or train the model again"
            )


def require_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        InputError: that is what is asked.
    """
    try:
        torch.empty(0, device=torch.device(device))
    # A torch without CUDA says so with an AssertionError.
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise InputError(f"device {device!r} cannot be used ({reason}): expected 'cpu', or 'cuda' with a GPU") from None


def weights_digest(weights: Mapping[str, Any], said: Mapping[str, Any] | None = None) -> str:
    """Return the sha256 of weights, such as a `state_dict()`, and of the facts about them."""
    digest = hashlib.sha256(json.dumps(said or {}, sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name]
        # A module may keep other things there.
        if not isinstance(weight, Tensor):
            continue
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        if not weight.is_meta:
            dense = weight.detach().to_dense() if weight.layout != torch.strided else weight.detach()
            # As bytes, since NumPy has no bfloat16.
            digest.update(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
