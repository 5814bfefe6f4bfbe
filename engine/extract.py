"""Reading a given text with a model (teacher forcing) while every state is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.corpus import read_pieces
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.model import TrainedModel
from gatescope.engine.record import (
    Capture,
    States,
    at_precision,
    captured_arrays,
    collect,
    dump_attributes,
    record,
    require_storable,
    settings_of,
)
from gatescope.engine.sample import default_prime
from gatescope.engine.walk import DTYPES
from gatescope.kernels.sample import Draw, Recurrence


@dataclass(frozen=True)
class ExtractConfig:
    """How a text is read and which states to keep."""

    length: int = 500  # characters in each sequence; the last may be shorter
    context: int = 100  # characters of the text read before each sequence, not recorded
    prime: str | None = None  # read before the context; default: a newline, if the model knows it
    capture: tuple[Capture, ...] = ("h", "c")  # c only where the cell has it
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"  # of the recorded states; bfloat16: in memory only
    compression: Literal["none", "zstd"] = "none"  # of the dump's files; zstd: smaller, but they cannot be mapped
    precision: Literal["float32", "float16", "bfloat16"] = "float32"  # of weights and products; 16 bits: on a GPU only
    errors: Literal["strict", "replace"] = "strict"  # replace: undecodable bytes and unknown characters as U+FFFD

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"--length {self.length} is too small: expected at least 1")
        if self.context < 0:
            raise InputError(f"--context {self.context} is negative: expected a number of characters")


def extract_states(
    trained: TrainedModel,
    source: str,
    path: Path,
    config: ExtractConfig,
    *,
    overwrite: bool = False,
    log_path: Path | None = None,
) -> int:
    """Cut a text into sequences, read them side by side and write a state dump, or go on with one that was interrupted.

    Each sequence starts from the zero state and reads the prime and the `context` characters that stand before it, so
    that its states do not depend on what else is read. Row t of the dump is the state after reading character t. The
    text is one document: hypotheses are evaluated on the whole of it.

    Args:
        trained: the model.
        source: the path of a UTF-8 text, or "stdlib".
        path: the dump to write.
        config: how the text is read, and which states.
        overwrite: start anew if the dump is there.
        log_path: the JSONL log, if any.

    Returns:
        The number of rows: characters in the text.

    Raises:
        InputError: an unreadable or empty text, a character that the vocabulary lacks, a dump of other settings, or a
            state beyond the range of the dtype.
    """
    require_storable(config.dtype)
    trained = at_precision(trained, config.precision)
    spec, reader = _planned(trained, source, config)
    return record(trained, path, spec, reader, overwrite=overwrite, log_path=log_path)


def extract_in_memory(trained: TrainedModel, source: str, config: ExtractConfig) -> States:
    """Read as `extract_states` does and keep the states in memory, on the model's device.

    Raises:
        InputError: an unreadable or empty text, a character that the vocabulary lacks, a capture that the cell lacks.
    """
    trained = at_precision(trained, config.precision)
    spec, reader = _planned(trained, source, config)
    return collect(trained, spec, reader, DTYPES[config.dtype])


def _planned(trained: TrainedModel, source: str, config: ExtractConfig) -> tuple[DumpSpec, _TextReader]:
    vocabulary = trained.vocabulary
    pieces, n_read = [np.empty(0, dtype=vocabulary.dtype)], 0
    for piece in read_pieces(source, config.errors):
        pieces.append(vocabulary.encode(piece, config.errors, offset=n_read))
        n_read += len(piece)
    tokens = np.concatenate(pieces)
    if not len(tokens):
        raise InputError(f"text {source!r} is empty: give a text of at least one character")
    prime = default_prime(trained, config.prime)
    starts = np.append(np.arange(0, len(tokens), config.length), len(tokens)).astype(np.int64)
    spec = DumpSpec(
        arrays=captured_arrays(trained, config.capture),
        sequence_starts=starts,
        document_starts=np.array([0, len(tokens)], dtype=np.int64),
        initial=trained.model.architecture.states,
        token_dtype=vocabulary.dtype,
        dtype=np.dtype("float32" if config.dtype == "bfloat16" else config.dtype),
        compression=config.compression,
        attributes=dump_attributes(trained, "extract", prime, settings_of(config, text=source)),
    )
    device = trained.model.output.weight.device
    return spec, _TextReader(tokens, starts, vocabulary.encode(prime), config.context, device)


class _TextReader:
    """Lets every sequence read the prime, its context and its own part of the text."""

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, prime: np.ndarray, context: int, device: torch.device):
        self._tokens, self._starts, self._prime, self._context, self._device = tokens, starts, prime, context, device

    def warm_up(self, numbers: np.ndarray) -> Tensor:
        ids = np.full((len(self._prime) + self._context, len(numbers)), -1, dtype=np.int64)
        for row, start in enumerate(self._starts[numbers[numbers < len(self._starts) - 1]]):
            before = np.concatenate([self._prime, self._tokens[max(0, start - self._context) : start]])
            ids[len(ids) - len(before) :, row] = before
        return torch.from_numpy(ids).to(self._device)

    def characters(self, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        ids = np.zeros((stop - start, len(numbers)), dtype=np.int64)
        for row, number in enumerate(numbers[numbers < len(self._starts) - 1]):
            first, behind = self._starts[number : number + 2]
            given = self._tokens[first + start : min(first + stop, behind)]
            ids[: len(given), row] = given
        return torch.from_numpy(ids).to(self._device)

    def draw(self, first: int) -> Draw:
        raise NotImplementedError("a text that is read is not drawn")

    def run(self, recurrence: Recurrence, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        tokens = self.characters(numbers, start, stop)
        recurrence.read(tokens)
        return tokens
