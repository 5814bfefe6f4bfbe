"""Recording what the modules of any torch model put out, into a state dump, while a loop of the user's own runs.

>>> with record_states(model, {"layer0/h": "rnn"}, "states.zarr", vocabulary=list("abc")) as recording:
...     for tokens in batches:  # [B, T]
...         model(tokens)
...         recording.add(tokens)

The number of sequences is not known before the loop ends. So rows are kept in files beside the dump, and the dump is
written when the loop has ended, beside its place, which it takes when it is whole: a recording that fails or is killed
leaves no dump. What one that was killed leaves in a hidden folder is removed by the next recording to the same path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gatescope.engine.chosen_modules import Chosen, Module, chosen_modules, layout_of
from gatescope.engine.dump_folder import require_free, waiting_beside
from gatescope.engine.errors import InputError
from gatescope.engine.location import behind_link, local_path
from gatescope.engine.module_outputs import Call, ModuleOutputs, joined
from gatescope.engine.recorded_rows import RecordedRows
from gatescope.engine.trained_model import weights_digest


def record_states(
    model: nn.Module,
    modules: Mapping[str, Module | tuple[Module, Callable[[Any], Any]]],
    path: str | os.PathLike[str],
    *,
    vocabulary: Sequence[str],
    layout: Literal["BTH", "TBH"] | None = None,
    dtype: str = "float16",
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Recording:
    """Record the outputs of modules while the block runs; the hooks are gone after it, whatever happens in it.

    An output is a tensor, nested or not, the first element of a tuple or list (as of torch.nn.LSTM), or a
    `PackedSequence`. Its rows are the states after each token, so a dump's alignment is "post". Of a bidirectional
    module the second half of the units are states of the way back, which have read what follows and not what came
    before.

    Args:
        model: any module.
        modules: what to record: names such as "layer0/h" or "layer1/gates/i", and the modules or their names in the
            model, as `model.named_modules()` has them; of another part of an output the pair of module and function,
            such as {"layer0/h": "cell", "layer0/c": ("cell", lambda output: output[1])} of torch.nn.LSTMCell.
        path: the dump to write.
        vocabulary: the character of each token, in the order of their numbers, or the word or piece of a word. Built-in
            hypotheses are about characters; those about words are the user's own, labels with a row for each token.
        layout: of outputs and tokens of three and two dimensions: batch first, or time first. An output [B, H] is one
            step. Default: what `batch_first` of the modules says, and "BTH" where none has that, or with a function.
        dtype: of the dump: float16 or float32.
        attributes: what the dump says of its origin, JSON values, such as {"cell": "lstm"}. `weights_sha256` is made of
            the model's `state_dict()` at the first `add`, if it is not given; dumps are concatenated where it is equal.
        overwrite: replace a dump that is there.

    Raises:
        InputError: a module that the model lacks, a layout that is not the module's, a vocabulary that is no list of
            words, a path that is a URL, or a dump that is there.
    """
    chosen = chosen_modules(model, modules)
    # The order of a mapping's keys says nothing of the tokens, and a set has none.
    listed = isinstance(vocabulary, Iterable) and not isinstance(vocabulary, Mapping | set | frozenset)
    words = list(vocabulary) if listed else []
    if not words or not all(isinstance(each, str) and each for each in words):
        raise InputError(
            f"vocabulary {repr(vocabulary)[:60]}: expected the character or word of each token in the order of their "
            "numbers, such as list('abc') or ['the', 'dog']"
        )
    if layout not in (None, "BTH", "TBH"):
        raise InputError(f"layout {layout!r} is unknown: expected 'BTH' or 'TBH'")
    if dtype not in ("float16", "float32"):
        raise InputError(f"dtype {dtype!r} cannot be stored in a dump: expected 'float16' or 'float32'")
    # The program may go to another folder meanwhile.
    target = behind_link(local_path(path).absolute())
    require_free(target, overwrite=overwrite)
    about = {"kind": "recorded", **(attributes or {}), "vocabulary": words, "alignment": "post"}
    return Recording(model, chosen, target, layout_of(chosen, layout), np.dtype(dtype), about, overwrite)


class Recording:
    """What `record_states` opens: it collects the outputs of its modules; `add` says which tokens they belong to."""

    def __init__(
        self,
        model: nn.Module,
        modules: Chosen,
        path: Path,
        layout: str,
        dtype: np.dtype,
        attributes: dict[str, Any],
        overwrite: bool,
    ) -> None:
        self._model, self._modules, self._path, self._layout = model, modules, path, layout
        self._dtype, self._attributes, self._overwrite = dtype, attributes, overwrite
        self._outputs = ModuleOutputs(modules, layout, dtype)
        self._opened: ExitStack | None = None
        self._folder: Path | None = None
        self._rows: RecordedRows | None = None
        # The sequences of the add before, if the next may go on with them.
        self._last: np.ndarray | None = None

    def __enter__(self) -> Recording:
        if self._opened is not None:
            raise InputError("a recording can be used only once: call record_states again")
        require_free(self._path, overwrite=self._overwrite)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"folder {self._path.parent} cannot be made: {error.strerror}; choose another path"
            ) from None
        with ExitStack() as stack:
            self._folder = stack.enter_context(waiting_beside(self._path))
            stack.enter_context(self._outputs.collected())
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        with self._opened:
            self._folder = None
            if kind is None:
                self._write()

    def add(self, tokens: Any, lengths: Any = None, *, mask: Any = None, continues: bool = False) -> None:
        """Add sequences: what the modules put out since the last call, and the tokens that were read for it.

        Each row of a batch is a sequence: a text of its own that hypotheses are evaluated on, from its first token to
        its last. A loop that reads long texts piece by piece and keeps the state says so with `continues`. Where this
        fails, nothing is added, and what the modules put out is dropped.

        Args:
            tokens: integers [B, T] or [T, B], as the layout says, [T] for one sequence, or a `PackedSequence`. Where
                the modules were called once for every step, T is the number of calls.
            lengths: integers [B], rows of each sequence before its padding, which may be any tokens; default: T, or
                those of a `PackedSequence` or a nested tensor.
            mask: instead of lengths, for padding before the sequences: of the tokens' shape, 0 at padding, 1 elsewhere.
            continues: the sequences go on where those of the add before ended: as many, in the same order. The dump
                holds each as a whole. One that has ended has the length 0.

        Raises:
            InputError: outputs are missing, of another shape than the tokens, or not finite; a token is outside the
                vocabulary; or there are no such sequences to go on with.
        """
        calls, before = self._outputs.take(), self._last
        self._last = None
        if self._folder is None:
            raise InputError("add was called outside the with statement: call it inside, after a forward pass")
        # Products and sums in 16 bits are the model's business.
        with torch.autocast("cpu", enabled=False):
            read, states, real = self._batch(calls, tokens, lengths, mask, 0 if continues else 1)
            words, ends = read[real], real.sum(axis=1)
            rows = {array: values[torch.from_numpy(real[:, : values.shape[1]])] for array, values in states.items()}
        n_words = len(self._attributes["vocabulary"])
        if len(words) and not 0 <= words.min() <= words.max() < n_words:
            raise InputError(f"a token is outside the vocabulary: expected 0 to {n_words - 1}")
        if continues and (before is None or len(before) != len(ends)):
            there = (
                "there was no add before this, or it failed" if before is None else f"the last add had {len(before)}"
            )
            raise InputError(f"{len(ends)} sequences cannot continue: {there}; leave out continues to start new ones")
        if self._rows is None:
            if "weights_sha256" not in self._attributes:
                self._attributes["weights_sha256"] = weights_digest(self._model.state_dict())
            self._rows = RecordedRows(self._folder, self._dtype, self._attributes)
        numbers = np.arange(len(ends)) + self._rows.n_sequences if before is None or not continues else before
        self._rows.add(words, rows, ends, numbers)
        self._last = numbers

    def discard(self) -> None:
        """Drop what the modules put out since the last add: a pass that is not to be recorded, or one that failed.

        With checkpoints of activations a backward pass calls modules again: call it after each.
        """
        self._outputs.take()

    def _batch(
        self, calls: dict[str, list[Call]], tokens: Any, lengths: Any, mask: Any, least: int
    ) -> tuple[np.ndarray, dict[str, Tensor], np.ndarray]:
        """Return tokens [B, T], the states [B, T, H] of each array, and which are no padding, at least `least` each."""
        if isinstance(tokens, PackedSequence):
            tokens, packed = pad_packed_sequence(tokens, batch_first=self._layout == "BTH")
            lengths = packed if lengths is None else lengths
        read = _integers("tokens", tokens)
        if read.ndim not in (1, 2) or not read.size:
            raise InputError(f"tokens are {list(read.shape)}: expected integers [B, T], [T, B] or [T]")
        read = read[None] if read.ndim == 1 else read if self._layout == "BTH" else read.T
        states, most = {}, np.full(len(read), read.shape[1])
        for array in self._modules:
            states[array], rows = joined(array, calls.get(array, []), read.shape, self._layout)
            most = most if rows is None else np.minimum(most, rows)
        if mask is not None:
            if lengths is not None or (most < read.shape[1]).any():
                raise InputError("a mask is given beside lengths, or for a packed or nested batch: leave it out")
            real = _mask(mask, np.shape(tokens))
            real = real.reshape(read.shape) if real.ndim == 1 or self._layout == "BTH" else real.T
            if real.sum(axis=1).min() < least:
                raise InputError(f"mask: sequence {int(np.argmin(real.sum(axis=1)))} has no token: leave it out")
            return read, states, real
        ends = most if lengths is None else _integers("lengths", lengths).astype(np.int64)
        if ends.shape != most.shape or ends.min() < least or (ends > most).any():
            raise InputError(
                f"lengths are {ends.tolist()}: expected {len(read)} of them, from {least} to "
                f"{most.max() if (most == most[0]).all() else most.tolist()}"
            )
        return read, states, np.arange(read.shape[1]) < ends[:, None]

    def _write(self) -> None:
        """Write the dump, once everything is known of it."""
        waiting = any(self._outputs.take().values())
        if self._rows is None and not waiting:
            raise InputError("no module was called: run the model, and call add(tokens), inside the with statement")
        if self._rows is None or waiting:
            raise InputError("outputs were recorded without tokens: call add(tokens) after every pass, or discard()")
        self._rows.write(self._path, overwrite=self._overwrite)


def _integers(what: str, given: Any) -> np.ndarray:
    """Return integers as an array, whatever holds them.

    Raises:
        InputError: they are none.
    """
    given = given.detach().cpu() if isinstance(given, Tensor) else given
    if isinstance(given, Tensor) and given.is_floating_point():
        raise InputError(f"{what} are {given.dtype}: expected integers")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        raise InputError(f"{what} are ragged: pad them and give their lengths, or give a PackedSequence") from None
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} are {array.dtype} {list(array.shape)}: expected integers")
    return array


def _mask(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return which tokens are no padding, as an array of the shape of the tokens.

    Raises:
        InputError: it is of another shape, or holds something else than 0 and 1.
    """
    if isinstance(given, Tensor):
        # NumPy has no bfloat16, in which a model in 16 bits may have its mask.
        given = given.detach().cpu().float() if given.dtype == torch.bfloat16 else given.detach().cpu()
    expected = f"expected {list(shape)}, as the tokens are, 0 at padding and 1 elsewhere"
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"mask is ragged: {expected}") from None
    if array.shape != tuple(shape) or not np.isin(array, (0, 1)).all():
        raise InputError(f"mask is {array.dtype} {list(array.shape)}: {expected}")
    return array.astype(bool)
