"""Recording what the modules of any torch model put out, into a state dump, while a loop of the user's own runs.

>>> with record_states(model, {"layer0/h": "rnn"}, "states.zarr", vocabulary=list("abc")) as recording:
...     for tokens in batches:  # [B, T]
...         model(tokens)
...         recording.add(tokens)

The number of sequences is not known before the loop ends. So rows are kept in files beside the dump, and the dump is
written when the loop has ended: a recording that fails, or is killed, leaves no dump.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gatescope.engine.dump_folder import clear_beside
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name
from gatescope.engine.staging import Staging

Chosen = str | nn.Module  # a module, or its name in the model
# Rows that are read back at once.
CHUNK_ROWS = 8192


def record_states(
    model: nn.Module,
    modules: Mapping[str, Chosen | tuple[Chosen, Callable[[Any], Any]]],
    path: str | os.PathLike[str],
    *,
    vocabulary: Sequence[str],
    layout: Literal["BTH", "TBH"] = "BTH",
    dtype: str = "float16",
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Recording:
    """Record the outputs of modules while the block runs; the hooks are gone behind it, whatever happens in it.

    An output is a tensor, the first element of a tuple or list (as of torch.nn.LSTM), or a `PackedSequence`. Its rows
    are the states after each token, so a dump's alignment is "post".

    Args:
        model: any module.
        modules: what to record: names such as "layer0/h" or "layer1/gates/i", and the modules or their names in the
            model, as `model.named_modules()` has them; of another part of an output the pair of module and function,
            such as {"layer0/h": "cell", "layer0/c": ("cell", lambda output: output[1])} of torch.nn.LSTMCell.
        path: the dump to write.
        vocabulary: the character of each token.
        layout: of outputs and tokens of three and two dimensions: batch first, or time first. An output [B, H] is one
            step.
        dtype: of the dump: float16 or float32.
        attributes: what the dump says of its origin, JSON values, such as {"weights_sha256": ..., "cell": "lstm"}.
        overwrite: replace a dump that is there.

    Raises:
        InputError: a module that the model lacks, an array of an impossible name, or a dump that is there.
    """
    chosen: dict[str, tuple[nn.Module, Callable[[Any], Any] | None]] = {}
    known = dict(model.named_modules())
    for array, given in modules.items():
        module, select = given if isinstance(given, tuple) else (given, None)
        if isinstance(module, str) and module not in known:
            names = ", ".join(name for name in known if name)
            raise InputError(f"the model has no module {module!r}: it has {names[:500] or 'none'}")
        chosen[array] = (known[module] if isinstance(module, str) else module), select
    if not chosen:
        raise InputError("no modules: name at least one, such as {'layer0/h': 'rnn'}")
    if layout not in ("BTH", "TBH"):
        raise InputError(f"layout {layout!r} is unknown: expected 'BTH' or 'TBH'")
    if dtype not in ("float16", "float32"):
        raise InputError(f"dtype {dtype!r} is none of a dump's: expected 'float16' or 'float32'")
    target = Path(path)
    if not overwrite and target.exists():
        raise InputError(f"{target} is there already: choose another path, or overwrite=True")
    return Recording(chosen, target, list(vocabulary), layout, np.dtype(dtype), dict(attributes or {}), overwrite)


class Recording:
    """What `record_states` opens: it collects the outputs of its modules; `add` says which tokens they belong to."""

    def __init__(
        self,
        modules: dict[str, tuple[nn.Module, Callable[[Any], Any] | None]],
        path: Path,
        vocabulary: list[str],
        layout: str,
        dtype: np.dtype,
        attributes: dict[str, Any],
        overwrite: bool,
    ) -> None:
        self._modules, self._path, self._vocabulary = modules, path, vocabulary
        self._layout, self._dtype, self._overwrite = layout, dtype, overwrite
        self._attributes = {"kind": "recorded", **attributes, "vocabulary": vocabulary, "alignment": "post"}
        self._outputs: dict[str, list[Tensor]] = {}
        self._packed_lengths: Tensor | None = None
        self._handles: list[Any] = []
        # The writer of the dump removes folders that begin with its name.
        self._waiting = path.with_name(f".{path.name}")
        self._folder = partial_name(self._waiting)
        self._staging: Staging | None = None
        self._widths: dict[str, int] = {}
        self._lengths: list[int] = []

    def __enter__(self) -> Recording:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for array, (module, select) in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(array, select)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        try:
            if kind is None:
                self._write()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, tokens: Any, lengths: Any = None) -> None:
        """Add sequences: what the modules put out since the last call, and the tokens that were read for it.

        Args:
            tokens: integers [B, T] or [T, B], as the layout says, or [T] for one sequence. Where the modules were
                called once for every step, T is the number of calls.
            lengths: [B], rows of each sequence that are no padding; default: T, or those of a `PackedSequence`.

        Raises:
            InputError: outputs are missing, of another shape than the tokens, or not finite; a token is outside the
                vocabulary.
        """
        read = np.asarray(tokens.cpu() if isinstance(tokens, Tensor) else tokens)
        if read.dtype.kind not in "iu" or read.ndim not in (1, 2) or not read.size:
            raise InputError(f"tokens are {read.dtype} {list(read.shape)}: expected integers [B, T], [T, B] or [T]")
        if not 0 <= read.min() <= read.max() < len(self._vocabulary):
            raise InputError(f"a token is outside the vocabulary: expected 0 to {len(self._vocabulary) - 1}")
        read = read[None] if read.ndim == 1 else read if self._layout == "BTH" else read.T
        outputs, packed, self._outputs, self._packed_lengths = self._outputs, self._packed_lengths, {}, None
        states = {array: self._states(array, outputs.get(array, []), read.shape) for array in self._modules}
        given = packed if lengths is None else lengths
        given = given.cpu() if isinstance(given, Tensor) else given
        ends = np.full(len(read), read.shape[1]) if given is None else np.asarray(given, dtype=np.int64)
        if ends.shape != (len(read),) or ends.min() < 1 or ends.max() > read.shape[1]:
            raise InputError(f"lengths are {ends.tolist()}: expected {len(read)} of them, from 1 to {read.shape[1]}")
        self._keep(read, states, ends)

    def _keep(self, tokens: np.ndarray, states: dict[str, Tensor], lengths: np.ndarray) -> None:
        """Put the rows of sequences [B, T] into files."""
        widths = {array: values.shape[2] for array, values in states.items()}
        if self._staging is None:
            self._widths = widths
            # Everything that the first rows can show to be wrong is said before the whole loop has run.
            self._spec(np.array([0, 1], np.int64))
            clear_beside(self._waiting)
            self._folder.mkdir()
            self._staging = Staging(self._folder / "rows", widths, self._dtype)
        if widths != self._widths:
            raise InputError(f"the modules put out {widths} units, and before {self._widths}")
        read = np.concatenate([row[:length] for row, length in zip(tokens, lengths, strict=True)])
        rows = {array: _joined(values, lengths) for array, values in states.items()}
        for array, values in rows.items():
            wrong = (~torch.isfinite(values)).nonzero()
            if len(wrong):
                row, unit = wrong[0].tolist()
                raise InputError(
                    f"{array}: {values[row, unit]:g} at row {sum(self._lengths) + row}, unit {unit}: expected finite "
                    f"states, within the range of {self._dtype}"
                )
        for first in range(0, len(read), CHUNK_ROWS):
            part = slice(first, first + CHUNK_ROWS)
            self._staging.put(read[part], {array: values[part] for array, values in rows.items()})
        self._lengths += lengths.tolist()

    def _hook(self, array: str, select: Callable[[Any], Any] | None) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            output = output if select is None else select(output)
            first = output[0] if isinstance(output, tuple | list) and not isinstance(output, PackedSequence) else output
            if isinstance(first, PackedSequence):
                first, self._packed_lengths = pad_packed_sequence(first, batch_first=self._layout == "BTH")
            if not isinstance(first, Tensor) or first.dim() not in (2, 3) or not first.is_floating_point():
                shape = f"{first.dtype} {list(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
                raise InputError(f"{array}: its module puts out {shape}, expected floats of two or three dimensions")
            # Rounded at once, so that a loop of many steps holds no more than the dump does.
            rounded = first.detach().to("cpu", torch.from_numpy(np.empty(0, self._dtype)).dtype, copy=True)
            self._outputs.setdefault(array, []).append(rounded)

        return keep

    def _states(self, array: str, outputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Return what one module put out, as [B, T, H]."""
        if not outputs:
            raise InputError(f"{array}: its module was not called since the last add")
        if outputs[0].dim() == 2 and shape[0] == 1 and len(outputs) == 1 and len(outputs[0]) == shape[1]:
            # One sequence without a batch: [T, H].
            return outputs[0][None]
        along_time = 1 if self._layout == "BTH" else 0
        pieces = [output.unsqueeze(along_time) if output.dim() == 2 else output for output in outputs]
        try:
            whole = torch.cat(pieces, dim=along_time)
        except RuntimeError as error:
            raise InputError(f"{array}: the calls of its module do not fit together: {error}") from None
        whole = whole if self._layout == "BTH" else whole.transpose(0, 1)
        if tuple(whole.shape[:2]) != tuple(shape):
            raise InputError(
                f"{array}: its module put out {whole.shape[0]} sequences of {whole.shape[1]} rows, and the tokens are "
                f"{shape[0]} of {shape[1]}: call add after every forward pass, or see layout"
            )
        return whole

    def _spec(self, starts: np.ndarray) -> DumpSpec:
        n_words = len(self._vocabulary)
        size = np.uint8 if n_words <= 2**8 else np.uint16 if n_words <= 2**16 else np.uint32
        return DumpSpec(self._widths, starts, starts, (), np.dtype(size), self._dtype, self._attributes)

    def _write(self) -> None:
        """Write the dump, once everything is known of it."""
        if self._staging is None and not self._outputs:
            raise InputError("no module was called: run the model, and call add(tokens), inside the with statement")
        if self._staging is None or any(self._outputs.values()):
            raise InputError("outputs were recorded without tokens: call add(tokens) after every forward pass")
        spec = self._spec(np.cumsum([0, *self._lengths], dtype=np.int64))
        with DumpWriter(self._path, spec, overwrite=self._overwrite) as writer:
            row = 0
            for tokens, states in self._staging.take():
                writer.append(row, tokens, states)
                row += len(tokens)


def _joined(values: Tensor, lengths: np.ndarray) -> Tensor:
    """Return the rows of sequences [B, T, H] that are no padding, one sequence after another."""
    return torch.cat([row[:length] for row, length in zip(values, lengths.tolist(), strict=True)])
