"""Reading given texts with a model (teacher forcing) while every state is recorded."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.config_values import require_kind, require_values
from gatescope.engine.corpus import read_pieces
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.journey import DTYPES
from gatescope.engine.location import path_text
from gatescope.engine.record import Capture, at_precision, record, recording_spec
from gatescope.engine.sample import prime_of
from gatescope.engine.source_tree import file_lengths
from gatescope.engine.states_in_memory import States, collect
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.choice import Draw
from gatescope.kernels.sample import Recurrence

# Steps read at a time before sequences are recorded: enough for a launch of a kernel.
WARM_UP_STEPS = 1024

# The path of a text or "stdlib", or several of them.
Texts = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class ExtractConfig:
    """How texts are read and which states to keep."""

    length: int = 500  # characters in each sequence; the last of a document may be shorter
    context: int = 100  # characters of the document read before each sequence, not recorded
    prime: str | None = None  # read before the context; default: a newline, if the model knows it
    capture: tuple[Capture, ...] = ("h", "c")  # what is recorded; c where the cell has it
    dtype: Literal["float16", "float32"] = "float16"  # of the recorded states
    compression: Literal["none", "zstd"] = "none"  # of the dump's files; zstd: smaller, but they cannot be mapped
    precision: Literal["float32", "float16", "bfloat16"] = "float32"  # of weights and products; 16 bits: on a GPU only
    errors: Literal["strict", "replace"] = "strict"  # replace: undecodable bytes and unknown characters as U+FFFD

    def __post_init__(self) -> None:
        require_values(self)
        if self.length < 1:
            raise InputError(f"--length {self.length} is too small: expected at least 1")
        if self.context < 0:
            raise InputError(f"--context {self.context} is negative: expected a number of characters")


def extract_states(
    trained: TrainedModel,
    source: Texts,
    path: str | os.PathLike[str],
    config: ExtractConfig,
    *,
    overwrite: bool = False,
) -> int:
    """Cut texts into sequences, read them side by side and write a state dump, or go on with one that was interrupted.

    Each sequence starts from the zero state and reads the prime and the `context` characters that stand before it in
    its document, so that its states do not depend on what else is read. Row t of the dump is the state after reading
    character t; documents stand in the order in which they are given. Each text is a document, and of a text that
    `gatescope.engine.source_tree.write_corpus` made each file: hypotheses are evaluated on the whole of it and know
    nothing of the others.

    Sequences are read in tiles of a fixed height (`gatescope.kernels.sample.TILE` on a CPU), in the order of the
    documents, and a tile takes as many steps as its longest: documents of similar length side by side, or a `length`
    near that of most, cost the fewest steps. Only the ids of all texts are held in memory, one to four bytes a
    character; states are written as they come.

    Args:
        trained: the model.
        source: the path of a UTF-8 text or "stdlib", or several of them, each a document.
        path: the dump to write.
        config: how the texts are read, and which states.
        overwrite: start anew if the dump is there.

    Returns:
        The number of rows: characters in the texts.

    Raises:
        InputError: an unreadable or empty text, a character that the vocabulary lacks, a path that is a URL, a dump of
            other settings, or a state beyond the range of the dtype.
    """
    trained, spec, reader = _planned(trained, source, config)
    return record(trained, path, spec, reader, overwrite=overwrite, log_path=None)


def extract_in_memory(
    trained: TrainedModel, source: Texts, config: ExtractConfig, *, dtype: torch.dtype | None = None
) -> States:
    """Read as `extract_states` does and keep the states in memory, on the model's device.

    Args:
        trained, source, config: as for `extract_states`.
        dtype: of the states, such as bfloat16, which a dump does not hold; default: that of the configuration.

    Raises:
        InputError: an unreadable or empty text, a character that the vocabulary lacks, a capture that the cell lacks,
            or states that do not fit into the memory of the device.
    """
    trained, spec, reader = _planned(trained, source, config)
    return collect(trained, spec, reader, dtype or DTYPES[config.dtype])


def _planned(
    trained: TrainedModel, source: Texts, config: ExtractConfig
) -> tuple[TrainedModel, DumpSpec, DocumentReader]:
    """Return the model in the precision that is asked for, what its dump holds, and what it reads."""
    require_kind("trained", trained, TrainedModel, "load_model('model')")
    require_kind("config", config, ExtractConfig)
    trained = at_precision(trained, config.precision)
    several = isinstance(source, Iterable) and not isinstance(source, str | bytes)
    places: Any = source if several else [source]
    sources = [path_text(each) for each in places]
    if not sources:
        raise InputError("no text to read: give at least one")
    texts = [_ids(trained, each, config.errors) for each in sources]
    lengths = [n for each, ids in zip(sources, texts, strict=True) for n in file_lengths(each, len(ids))]
    ends = np.cumsum(lengths, dtype=np.int64)
    document_starts = np.append(0, ends)
    starts = [np.arange(*bounds, config.length) for bounds in itertools.pairwise(document_starts)]
    sequence_starts = np.concatenate([*starts, ends[-1:]]).astype(np.int64)
    prime, prime_ids = prime_of(trained.vocabulary, config.prime)
    tokens = np.concatenate(texts)
    read = {
        "text": sources[0] if len(sources) == 1 else sources,
        "tokens_sha256": hashlib.sha256(tokens.data).hexdigest(),
    }
    spec = recording_spec(trained, config, "extract", prime, sequence_starts, document_starts, read)
    context = min(config.context, len(tokens))
    return trained, spec, DocumentReader(tokens, sequence_starts, document_starts, prime_ids, context)


def _ids(trained: TrainedModel, source: str, errors: str) -> np.ndarray:
    """Return the ids of one text, [n] in the vocabulary's type."""
    vocabulary, n_read = trained.vocabulary, 0
    pieces = [np.empty(0, dtype=vocabulary.dtype)]
    for piece in read_pieces(source, errors):
        try:
            pieces.append(vocabulary.encode(piece, errors, offset=n_read))
        except InputError as error:
            raise InputError(f"text {source!r}: {error}") from None
        n_read += len(piece)
    if not n_read:
        raise InputError(f"text {source!r} is empty: give a text of at least one character")
    return np.concatenate(pieces)


class DocumentReader:
    """Lets every sequence read the prime, its context and its own part of a document.

    Args:
        tokens: ids of all documents, one after another, [N].
        starts, document_starts: as `DumpSpec` has them.
        prime: ids read before the context.
        context: how many characters of the document are read before a sequence, at most; or of each, [S + 1].
    """

    def __init__(
        self,
        tokens: np.ndarray,
        starts: np.ndarray,
        document_starts: np.ndarray,
        prime: np.ndarray,
        context: int | np.ndarray,
    ):
        self._tokens, self._starts = tokens, starts
        begins = document_starts[np.searchsorted(document_starts, starts, side="right") - 1]
        self._n_context = np.minimum(starts - begins, context)
        # Backwards, and before its first character there is none.
        self._prime = np.append(prime[::-1].astype(np.int64), -1)

    def warm_up(self, numbers: np.ndarray) -> Iterator[Tensor]:
        """Yield the prime and the text before the sequences, ids [T, S] at a time; -1 where there is none."""
        absent = numbers >= len(self._starts) - 1
        numbers = np.minimum(numbers, len(self._starts) - 1)
        starts, n_context = self._starts[numbers], np.where(absent, 0, self._n_context[numbers])
        n_steps = len(self._prime) - 1 + int(n_context.max())
        for first in range(n_steps, 0, -WARM_UP_STEPS):
            # How far before the sequence, and how far before its context: 1 is the character just before.
            before = np.arange(first, max(first - WARM_UP_STEPS, 0), -1)[:, None]
            before_context = before - n_context
            ids = self._prime[np.clip(before_context - 1, 0, len(self._prime) - 1)]
            ids = np.where(before_context > 0, ids, self._tokens[np.maximum(starts - before, 0)])
            ids[:, absent] = -1
            yield torch.from_numpy(ids)

    def characters(self, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        """Return what the sequences read in these steps, ids [T, S]; 0 after their ends."""
        first, behind = (self._starts[np.minimum(numbers + more, len(self._starts) - 1)] for more in (0, 1))
        rows = first + np.arange(start, stop)[:, None]
        ids = np.where(rows < behind, self._tokens[np.minimum(rows, len(self._tokens) - 1)], 0)
        return torch.from_numpy(ids.astype(np.int64))

    def draw(self, first: int) -> Draw:
        """Raise NotImplementedError: a text has its characters already."""
        raise NotImplementedError("extract reads its text and draws no characters")

    def run(self, recurrence: Recurrence, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        """Let a recurrence read these steps, and return what it read, ids [T, S]."""
        tokens = self.characters(numbers, start, stop).to(recurrence.h[0].device)
        recurrence.read(tokens)
        return tokens
