"""What probing reads: recorded states in rows, the sequences that they form, and their text where it is known.

A state dump is one (`gatescope.engine.dump`), files of other programs are another (`gatescope.engine.other_dumps`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch

from gatescope.engine.blocked_array import BlockedArray
from gatescope.engine.counted import counted
from gatescope.engine.device_memory import require_cupy
from gatescope.engine.errors import InputError
from gatescope.engine.other_sequences import Cube
from gatescope.engine.read_ahead import read_ahead
from gatescope.engine.sequence_rows import SequenceRows
from gatescope.engine.state_columns import StateColumns

# Rows that `blocks` reads at once.
BLOCK_ROWS = 8192


class StateSource:
    """Recorded states; nothing of them is read before it is asked for.

    Attributes:
        name: what messages call it: its path or URL.
        n_rows: N.
        names: of the arrays [N, H], in order.
        sequence_starts: int64 [S + 1], the first row of each sequence, then N.
        document_starts: int64 [D + 1], the rows where the text begins anew, then N.
        words: the word of each token, which may be a character or a piece of a word, or None where it is not known.
        attributes: what is known of the origin.
        dtype: of `features`.
        cube: how the sequences lie in arrays of three dimensions, if the states are such.
    """

    name: str
    n_rows: int
    names: list[str]
    sequence_starts: np.ndarray
    document_starts: np.ndarray
    words: list[str] | None
    attributes: dict[str, Any]
    dtype: np.dtype
    cube: Cube | None = None
    _arrays: dict[str, BlockedArray]

    def array(self, name: str) -> BlockedArray:
        """Return one array [N, H] by its full name, such as "layer0/h".

        Raises:
            InputError: there is no such array.
        """
        if name not in self.names:
            raise self._unknown(name)
        return self._arrays[name]

    def __getitem__(self, name: str) -> Any:
        """Return one array [N, H], or the arrays of one state in the order of their layers.

        Args:
            name: the array's full name, such as "layer0/h"; or the state's, such as "h" or "gates/f", for a tuple.

        Raises:
            InputError: there is no such array, or the state was not recorded in all layers.
        """
        if name in self.names:
            return self._arrays[name]
        layers = self._layers(name)
        if not layers:
            raise self._unknown(name)
        if sorted(layers) != list(range(len(layers))):
            first = next(iter(layers.values()))
            raise InputError(f"{self.name} has {name!r} only as {', '.join(layers.values())}: use array({first!r})")
        return tuple(self._arrays[layers[number]] for number in range(len(layers)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Raise InputError: a dump has several arrays, and is none."""
        raise InputError(f"{self.name} is a state dump: choose its arrays, such as dump.states([{self.names[0]!r}])")

    def __contains__(self, name: object) -> bool:
        """Whether `[name]` returns something."""
        layers = self._layers(name)
        return name in self.names or (bool(layers) and sorted(layers) == list(range(len(layers))))

    @cached_property
    def vocabulary(self) -> list[str] | None:
        """The character of each token, or None where the text is not known: words are no characters."""
        words = self.words
        return words if words is not None and all(len(word) == 1 for word in words) else None

    @property
    def of_each_row(self) -> str:
        """What was read at each row, as far as it is known: "character", "token" or "row"."""
        return "character" if self.vocabulary is not None else "row" if self.tokens is None else "token"

    @property
    def tokens(self) -> np.ndarray | None:
        """What was read, as unsigned integers [N], or None where that is not known."""
        raise NotImplementedError

    def initial(self, name: str) -> np.ndarray:
        """Return the states before the first row of each sequence: [S, H].

        Raises:
            InputError: the array has none.
        """
        raise InputError(f"{name} has no state before a sequence's first character: use alignment 'post'")

    def verify(self) -> list[str]:
        """Return what is wrong, one line for each fault; an empty list if everything is whole."""
        raise NotImplementedError

    def require_whole(self) -> None:
        """Read everything once, and refuse states of which something is missing or altered.

        Raises:
            InputError: there is a fault; all are named.
        """
        problems = self.verify()
        if problems:
            raise InputError(f"{self.name} is damaged: {'; '.join(problems)}; record the states again")

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes these states from others, as JSON values."""
        raise NotImplementedError

    @cached_property
    def sequence_ids(self) -> np.ndarray:
        """The sequence of each row: int32 [N], from 0 to S - 1."""
        lengths = np.diff(self.sequence_starts)
        return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)

    def text(self, start: int = 0, stop: int | None = None) -> str:
        """Return the characters of the rows from `start` up to `stop`.

        Raises:
            InputError: the text is not known, or a token is outside the vocabulary.
        """
        if self.vocabulary is None and self.words is not None:
            raise InputError(f"{self.name} is of words: a text is of characters")
        if self.vocabulary is None:
            raise InputError(f"{self.name} has no text: give one of {counted(self.n_rows, 'character')} with --text")
        codes = np.array([ord(character) for character in self.vocabulary], dtype="<u4")
        return codes[self._known_tokens(start, stop)].tobytes().decode("utf-32-le", "surrogatepass")

    def pieces(self, start: int, stop: int) -> Sequence[str] | None:
        """Return what was read at each row, which make the text when they are joined, or None where it is not known.

        It is a character, or a word and a space; of a token without a word its number.

        Raises:
            InputError: a token is outside the vocabulary.
        """
        if self.vocabulary is not None:
            return self.text(start, stop)
        if self.tokens is None:
            return None
        return [f"{self.word(token)} " for token in self._known_tokens(start, stop).tolist()]

    def word(self, token: int) -> str:
        """Return the character or word of a token, or its number where that is not known."""
        return str(token) if self.words is None else self.words[token]

    def _known_tokens(self, start: int, stop: int | None) -> np.ndarray:
        """Return the tokens of some rows; those outside the vocabulary are refused."""
        tokens = self.tokens_of(start, stop)
        if self.words is not None and tokens.size and tokens.max() >= len(self.words):
            raise InputError(
                f"{self.name} is damaged: token {tokens.max()} in a vocabulary of {len(self.words)} entries"
            )
        return tokens

    def documents(self) -> Iterator[tuple[int, int, str]]:
        """Yield each document as its first row, the row after its last, and its text."""
        for start, stop in zip(self.document_starts[:-1].tolist(), self.document_starts[1:].tolist(), strict=True):
            yield start, stop, self.text(start, stop)

    def features(self, names: Iterable[str], alignment: Literal["post", "pre"] = "post") -> np.ndarray:
        """Return arrays side by side in memory.

        Args:
            names: arrays such as "layer0/h", in the order of the columns.
            alignment: "post": row n holds the states after reading character n, as stored. "pre": those before it:
                the states of the row before in the same sequence, and the initial states at its first row.

        Returns:
            [N, sum of H], of the source's dtype: N x sum of H x 2 bytes in float16.

        Raises:
            InputError: an array is not there, or has no initial states and the alignment is "pre".
        """
        _require_alignment(alignment)
        arrays = [self.array(name) for name in _listed(names)]
        edges = np.cumsum([0, *(array.shape[1] for array in arrays)])
        values = np.empty((self.n_rows, int(edges[-1])), self.dtype)
        for array, left, right in zip(arrays, edges[:-1], edges[1:], strict=True):
            columns = values[:, left:right]
            if alignment == "post":
                array.read_into(columns, 0)
            else:
                initial = self.initial(array.name)
                array.read_into(columns[1:], 0)
                columns[self.sequence_starts[:-1]] = initial
        return values

    def states(self, names: Sequence[str], units: Any = None) -> StateColumns:
        """Return arrays side by side, still on disk: an X for probes that is larger than memory.

        >>> LogisticProbes(memory_limit="2GB").fit(dump.states(["layer0/h", "layer0/c"]), Y)

        Args:
            names: arrays such as "layer0/h", in the order of the columns.
            units: the units of each array to take, a slice, integers [C] or a mask. Default: all.

        Returns:
            A lazy array [N, columns] of the source's dtype; its `rows(start, stop)` are lazy too.

        Raises:
            InputError: an array is not there, or none is named.
        """
        names = _listed(names)
        if not names:
            raise InputError(f"no array of {self.name} is chosen: it has {', '.join(self.names)}")
        return StateColumns([self.array(name) for name in names], units, self.dtype, range(self.n_rows))

    def of_sequences(
        self, names: Sequence[str], sequences: Sequence[int] | np.ndarray, alignment: Literal["post", "pre"] = "post"
    ) -> SequenceRows:
        """Return arrays side by side in the rows of chosen sequences, still on disk.

        Args:
            names: arrays such as "layer0/h", in the order of the columns.
            sequences: their numbers, from 0 to S - 1 in the order in which their rows are to come, or a mask [S].
            alignment: as `features` has it.

        Returns:
            A lazy array of the source's dtype.

        Raises:
            InputError: an array is not there, none is named, or has no initial states and the alignment is "pre"; or
                there are no such sequences.
        """
        states, sequences, before = self.states(names), self._sequence_numbers(sequences), None
        _require_alignment(alignment)
        if alignment == "pre":
            before = np.concatenate([self.initial(name)[sequences] for name in _listed(names)], axis=1)
        starts, stops = self.sequence_starts[sequences], self.sequence_starts[sequences + 1]
        return SequenceRows(states, starts, stops, before)

    def blocks(
        self,
        names: Sequence[str],
        units: Any = None,
        *,
        rows: int = BLOCK_ROWS,
        library: Literal["numpy", "torch", "cupy"] = "numpy",
    ) -> Iterator[Any]:
        """Iterate over row blocks of chosen arrays and units, the next one read while this one is worked on.

        Args:
            names: arrays such as "layer0/h", in the order of the columns.
            units: the units of each array to take, a slice, integers [C] or a mask; only these are copied. Default:
                all.
            rows: in each block but the last.
            library: what the blocks are: NumPy arrays, torch tensors that share their memory, or CuPy arrays on the
                current GPU.

        Yields:
            [rows, columns] of the source's dtype, in order. A block stays as it is while the next one is worked on; its
            memory is used again once the one after the next is asked for, so that what is kept longer must be copied.

        Raises:
            InputError: an array is not there, a block is missing or not whole, or there is no such library.
        """
        rows, convert = _block_size(rows), _conversion(library)
        for _, block in read_ahead(self.states(names, units), rows, kept=2):
            yield convert(block)

    def tokens_of(self, start: int, stop: int | None) -> np.ndarray:
        """Return the tokens of some rows, without reading those of others where that is possible."""
        assert self.tokens is not None
        return self.tokens[start:stop]

    def _layers(self, state: object) -> dict[int, str]:
        """Return the names of a state's arrays by the numbers of their layers."""
        found = [re.fullmatch(r"layer(\d+)/(.+)", name) for name in self.names]
        return {int(each[1]): each[0] for each in found if each and each[2] == state}

    def _sequence_numbers(self, sequences: Any) -> np.ndarray:
        """Return chosen sequences as numbers, int64."""
        chosen, n_sequences = np.asarray(sequences), len(self.sequence_starts) - 1
        if chosen.dtype == bool and chosen.shape == (n_sequences,):
            return np.flatnonzero(chosen)
        if chosen.ndim != 1 or chosen.dtype.kind not in ("iu" if chosen.size else "iuf"):
            raise InputError(
                f"sequences of {chosen.dtype} {list(chosen.shape)}: expected integers from 0 to {n_sequences - 1}, or "
                f"a mask [{n_sequences}]"
            )
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < n_sequences:
            raise InputError(f"{self.name} has sequences 0 to {n_sequences - 1}, not {chosen.min()} to {chosen.max()}")
        return chosen.astype(np.int64)

    def _unknown(self, name: str) -> InputError:
        return InputError(f"{self.name} has no {name!r}: it has {', '.join(self.names)}")


def _listed(names: Iterable[str]) -> list[str]:
    """Return names as a list; one name by itself is a list of one, and not of its letters."""
    return [names] if isinstance(names, str) else list(names)


def _require_alignment(alignment: str) -> None:
    if alignment not in ("post", "pre"):
        raise InputError(f"alignment {alignment!r} is unknown: expected 'post' or 'pre'")


def _block_size(rows: Any) -> int:
    """Return how many rows a block is to have.

    Raises:
        InputError: it is no whole number of at least 1.
    """
    if not isinstance(rows, Integral) or isinstance(rows, bool) or rows < 1:
        raise InputError(f"blocks of {rows} rows: expected a whole number of at least 1")
    return int(rows)


def _conversion(library: str) -> Any:
    """Return the function that hands a NumPy array to a library."""
    if library == "numpy":
        return lambda block: block
    if library == "torch":
        return torch.from_numpy
    if library != "cupy":
        raise InputError(f"library {library!r} is unknown: expected 'numpy', 'torch' or 'cupy'")
    require_cupy()
    import cupy

    return cupy.asarray
