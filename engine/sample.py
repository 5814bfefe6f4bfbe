"""Sampling text from a model while every state is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.model import TrainedModel
from gatescope.engine.record import Capture, captured_arrays, dump_attributes, record, settings_of
from gatescope.kernels.philox import uniform
from gatescope.kernels.sample import TILE, choose


@dataclass(frozen=True)
class SampleConfig:
    """What to sample and which states to keep."""

    sequences: int = 200  # S
    length: int = 500  # characters in each
    temperature: float = 0.8  # below 1 favours the probable
    prime: str | None = None  # read before each sequence, not recorded; default: a newline, if the model knows it
    capture: tuple[Capture, ...] = ("h", "c")  # c only where the cell has it
    dtype: Literal["float16", "float32"] = "float16"  # of the recorded states

    def __post_init__(self) -> None:
        for name in ("sequences", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)} is too small: expected at least 1")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature {self.temperature}: expected a positive number, such as 0.8")


def sample_states(
    trained: TrainedModel,
    path: Path,
    config: SampleConfig,
    *,
    seed: int = 0,
    overwrite: bool = False,
    log_path: Path | None = None,
) -> int:
    """Sample sequences side by side and write a state dump, or go on with one that was interrupted.

    Each sequence starts from the zero state, reads the prime, and then reads what it draws from
    softmax(logits / temperature). Row t of the dump is the state after reading character t. The random number of
    character t of sequence s depends on (seed, s, t) alone, and so do its text and states, on one type of device.

    Args:
        trained: the model.
        path: the dump to write.
        config: how much, how, and which states.
        seed: of the random numbers, 0 <= seed < 2^64.
        overwrite: start anew if the dump is there.
        log_path: the JSONL log, if any.

    Returns:
        The number of rows: sequences x length.

    Raises:
        InputError: a prime that the vocabulary cannot spell, a capture that the cell lacks, a dump of other settings,
            or a state beyond the range of the dtype.
    """
    prime = default_prime(trained, config.prime)
    prime_ids = trained.vocabulary.encode(prime).astype(np.int64)
    starts = np.arange(config.sequences + 1, dtype=np.int64) * config.length
    arrays = captured_arrays(trained, config.capture)
    spec = DumpSpec(
        arrays=arrays,
        sequence_starts=starts,
        document_starts=starts,
        initial=trained.model.architecture.states,
        token_dtype=trained.vocabulary.dtype,
        dtype=np.dtype(config.dtype),
        attributes=dump_attributes(trained, "sample", prime, settings_of(config, seed=seed))
        | {"temperature": config.temperature, "seed": seed},
    )
    device = trained.model.output.weight.device

    def warm_up(numbers: np.ndarray) -> np.ndarray:
        return np.broadcast_to(prime_ids, (TILE, len(prime_ids))).copy()

    def characters(numbers: np.ndarray, steps: int) -> Callable[[int, Tensor], Tensor]:
        random = uniform(seed, torch.from_numpy(numbers), torch.arange(steps)).to(device)  # [T, TILE]
        output = trained.model.output
        return lambda step, hidden: choose(output(hidden), random[step], config.temperature)

    return record(trained, path, spec, warm_up, characters, overwrite=overwrite, log_path=log_path)


def default_prime(trained: TrainedModel, prime: str | None) -> str:
    """Return the text read before each sequence: as asked, else a newline where the model knows it, else nothing."""
    if prime is not None:
        return prime
    return "\n" if "\n" in trained.vocabulary.characters else ""
