"""Where a training stands, in one file: weights, Adam's moments, the carried state and the best loss so far."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic
from gatescope.engine.model import CharacterModel


@dataclass
class Progress:
    """Where training stands: everything but the weights and Adam's moments."""

    step: int  # steps done
    state: tuple[Tensor, ...]  # carried hidden state of all lanes, each [L, B, H]
    best: float = math.inf  # lowest validation loss so far, nats
    scale: dict[str, Any] = field(default_factory=dict)  # of the loss, where float16 needs one


def save_checkpoint(path: Path, model: CharacterModel, optimizer: torch.optim.Adam, progress: Progress) -> None:
    """Write everything that the next step depends on, in one step."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach()
        for moment, value in optimizer.state[parameter].items():
            tensors[f"adam.{moment}.{name}"] = value
    for index, value in enumerate(progress.state):
        tensors[f"state.{index}"] = value
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    about = {"step": progress.step, "best": progress.best, "scale": progress.scale}
    write_atomic(path, save(tensors, {"gatescope": json.dumps(about)}))


def load_checkpoint(path: Path, model: CharacterModel, optimizer: torch.optim.Adam) -> Progress:
    """Put model and optimizer where the last checkpoint left them; at the beginning where there is none.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return Progress(0, ())
    device = model.output.weight.device
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(file.metadata()["gatescope"])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"weight.{name}"])
                moments = ("step", "exp_avg", "exp_avg_sq")
                optimizer.state[parameter] = {moment: tensors[f"adam.{moment}.{name}"] for moment in moments}
        state = tuple(tensors[f"state.{index}"] for index in range(len(model.architecture.states)))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged ({error}): train anew with --overwrite") from None
    return Progress(about["step"], state, about["best"], about["scale"])
