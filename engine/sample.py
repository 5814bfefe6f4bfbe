"""Sampling text from a model while every state is recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.config_values import require_kind, require_values, whole_seed
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.journey import DTYPES
from gatescope.engine.model import Architecture
from gatescope.engine.record import Capture, at_precision, captured_arrays, record, recording_spec, require_precision
from gatescope.engine.states_in_memory import States, collect
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary
from gatescope.kernels.choice import Draw
from gatescope.kernels.sample import Recurrence


@dataclass(frozen=True)
class SampleConfig:
    """What to sample and which states to keep."""

    sequences: int = 200  # S, each from the zero state
    length: int = 500  # characters in each
    temperature: float = 0.8  # below 1 favours probable characters
    top_k: int = 0  # draw among the k most probable characters only; 0: among all
    top_p: float = 1.0  # draw among the fewest characters that have this probability together
    prime: str | None = None  # read before each sequence, not recorded; default: a newline, if the model knows it
    capture: tuple[Capture, ...] = ("h", "c")  # what is recorded; c where the cell has it
    dtype: Literal["float16", "float32"] = "float16"  # of the recorded states
    compression: Literal["none", "zstd"] = "none"  # of the dump's files; zstd: smaller, but they cannot be mapped
    precision: Literal["float32", "float16", "bfloat16"] = "float32"  # of weights and products; 16 bits: on a GPU only

    def __post_init__(self) -> None:
        require_values(self)
        for name in ("sequences", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)} is too small: expected at least 1")
            # The generator counts both in 32 bits.
            if getattr(self, name) >= 2**32:
                raise InputError(f"--{name} {getattr(self, name)} is too large: expected less than 2^32")
        if self.top_k < 0:
            raise InputError(f"--top-k {self.top_k} is negative: expected a number of characters, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top-p {self.top_p}: expected a probability above 0, at most 1")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature {self.temperature}: expected a positive number, such as 0.8")

    def require(self, architecture: Architecture, vocabulary: Vocabulary, device: str) -> None:
        """Check that a dump can be sampled from a model, which need not be trained yet.

        Args:
            architecture, vocabulary: of the model.
            device: where it runs, "cpu" or "cuda".

        Raises:
            InputError: `sample_states` would refuse a setting.
        """
        require_precision(self.precision, device)
        captured_arrays(architecture, self.capture)
        prime_of(vocabulary, self.prime)


def sample_states(
    trained: TrainedModel,
    path: str | os.PathLike[str],
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
        InputError: a prime that the vocabulary cannot spell, a capture that the cell lacks, 16 bits of precision on a
            CPU, a path that is a URL, a dump of other settings, or a state beyond the range of the dtype.
    """
    trained, spec, reader = _planned(trained, config, seed)
    return record(trained, path, spec, reader, overwrite=overwrite, log_path=log_path)


def sample_in_memory(
    trained: TrainedModel, config: SampleConfig, *, seed: int = 0, dtype: torch.dtype | None = None
) -> States:
    """Sample as `sample_states` does and keep the states in memory, on the model's device.

    Args:
        trained, config, seed: as for `sample_states`.
        dtype: of the states, such as bfloat16, which a dump does not hold; default: that of the configuration.

    Raises:
        InputError: a prime that the vocabulary cannot spell, a capture that the cell lacks, or states that do not fit
            into the memory of the device.
    """
    trained, spec, reader = _planned(trained, config, seed)
    return collect(trained, spec, reader, dtype or DTYPES[config.dtype])


def _planned(trained: TrainedModel, config: SampleConfig, seed: int) -> tuple[TrainedModel, DumpSpec, _Sampler]:
    """Return the model in the precision that is asked for, what its dump holds, and what it reads."""
    require_kind("trained", trained, TrainedModel, "load_model('model')")
    require_kind("config", config, SampleConfig)
    trained, seed = at_precision(trained, config.precision), whole_seed(seed, bits=64)
    prime, prime_ids = prime_of(trained.vocabulary, config.prime)
    starts = np.arange(config.sequences + 1, dtype=np.int64) * config.length
    drawn = {"temperature": float(config.temperature), "seed": seed}
    spec = recording_spec(trained, config, "sample", prime, starts, starts, {"seed": seed}, **drawn)
    return trained, spec, _Sampler(config, prime_ids, seed)


class _Sampler:
    """Lets every sequence read the prime and then what it draws."""

    def __init__(self, config: SampleConfig, prime: np.ndarray, seed: int):
        self._prime = torch.from_numpy(prime.astype(np.int64))
        self._config, self._seed = config, seed

    def warm_up(self, numbers: np.ndarray) -> Iterator[Tensor]:
        yield self._prime[:, None].expand(-1, len(numbers))

    def characters(self, numbers: np.ndarray, start: int, stop: int) -> Tensor | None:
        return None

    def draw(self, first: int) -> Draw:
        config = self._config
        return Draw(self._seed, first, config.temperature, config.top_k, config.top_p)

    def run(self, recurrence: Recurrence, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        return recurrence.draw(self.draw(int(numbers[0])), start, stop)


def prime_of(vocabulary: Vocabulary, prime: str | None) -> tuple[str, np.ndarray]:
    """Return the text read before each sequence, and its ids: as asked, else a newline where the model knows it.

    Raises:
        InputError: a character that the vocabulary lacks.
    """
    if prime is None:
        prime = "\n" if "\n" in vocabulary.characters else ""
    try:
        return prime, vocabulary.encode(prime)
    except InputError as error:
        raise InputError(f"--prime {prime!r}: {error}") from None
