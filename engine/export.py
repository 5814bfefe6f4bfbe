"""A state dump as an HDF5 file in the layout of LSTMVis (github.com/HendrikStrobelt/LSTMVis).

`output1` [N, H] holds h of the first layer, `states1` its c, as model/get_states.lua there names them; `input1`,
`forget1` and `hidden1` the gates i, f and g, as model/get_gates.lua does, and `gate_o1`, `gate_r1` ... those that it
has no name for. `word_ids` [N] are the tokens. Beside these, for programs that know more: `sequence_starts` [S + 1],
`document_starts`, `vocabulary` [V] (code points, or words) and `attributes` (JSON); gatescope reads the file again.

LSTMVis itself also needs the dictionary `FILE.dict` and the configuration `FILE.yml`, which it looks for as lstm.yml.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gatescope.engine.array_name import layer_and_state
from gatescope.engine.dump import BOUNDS, StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, remove_partial_of, settled_name, sync_folder, write_atomic
from gatescope.engine.hdf5 import h5py_module
from gatescope.engine.journey import SCORES
from gatescope.engine.location import local_path
from gatescope.engine.progress import progress_bar

NAMES = {"h": "output", "c": "states", "gates/i": "input", "gates/f": "forget", "gates/g": "hidden"}
SUFFIXES = (".h5", ".hdf5")
# LSTMVis reads a dictionary's lines as two words, so that white space needs another sign.
SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def export_lstmvis(
    states: str | os.PathLike[str], file: str | os.PathLike[str], *, overwrite: bool = False
) -> list[str]:
    """Write a dump as an HDF5 file, its dictionary and its configuration, block by block.

    Args:
        states: a whole state dump.
        file: the HDF5 file; it appears when it is complete.
        overwrite: replace a file that is there.

    Returns:
        The names of the datasets of states.

    Raises:
        InputError: a dump that is not whole, a file that is there or has another suffix, or no h5py.
    """
    h5py, file = h5py_module(), local_path(file)
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file} must end in .h5 or .hdf5: LSTMVis recognises HDF5 files by this ending")
    companions = [file, file.with_suffix(".dict"), file.with_suffix(".yml")]
    there = next((path for path in companions if path.exists()), None)
    if there is not None and (not overwrite or there.is_dir()):
        raise InputError(f"{there} already exists: choose another name, or replace it with --overwrite")
    dump = StateDump.open(states)
    dump.require_whole()
    named = {name: _lstmvis_name(name) for name in dump.names}
    file.parent.mkdir(parents=True, exist_ok=True)
    for path in companions:
        remove_partial_of(path)
    partial = partial_name(file)
    try:
        with _Disk(partial) as disk:
            _write_datasets(h5py, disk, dump, named)
            os.fsync(disk.fileno())
        write_atomic(companions[1], _dictionary(dump.words).encode())
        write_atomic(companions[2], _configuration(file, named).encode())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(file.parent)
    return list(named.values())


class _Disk(io.FileIO):
    """A new file for HDF5, which sees no failure of the disk: closing a file after one, HDF5 2.0 ends the program.

    Args:
        path: a `partial_name`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self._failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or remember why that failed."""
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._failure = self._failure or error
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or remember why that failed."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
        return size or 0

    def check(self) -> None:
        """Raise what failed first."""
        if self._failure is not None:
            error = self._failure
            raise OSError(error.errno, error.strerror, settled_name(str(self.name))) from error


def _write_datasets(h5py: ModuleType, disk: _Disk, dump: StateDump, named: dict[str, str]) -> None:
    """Write all that a dump holds, its arrays by their names in the file."""
    try:
        with h5py.File(disk, "w") as out:
            for bound in BOUNDS:
                out[bound] = getattr(dump, bound)
            out["vocabulary"] = _vocabulary(h5py, dump)
            out["attributes"] = json.dumps(dump.attributes)
            with progress_bar("export", dump.n_rows * (len(named) + 1), "rows") as advance:
                for name, target in {"tokens": "word_ids", **named}.items():
                    source = dump.stored(name)
                    dataset = out.create_dataset(target, source.shape, source.dtype)
                    for index, block in enumerate(source.blocks()):
                        dataset[index * source.block_rows : index * source.block_rows + len(block)] = block
                        disk.check()
                        advance(len(block))
    finally:
        # HDF5 may fail on what it does not find again: it is the disk's failure that says why.
        disk.check()


def _vocabulary(h5py: ModuleType, dump: StateDump) -> np.ndarray:
    """Return the code points of characters, or words in UTF-8, as a dataset has them."""
    if dump.vocabulary is not None:
        return np.array(list(map(ord, dump.vocabulary)), np.uint32)
    # Of one length, since strings of HDF5 that have lengths of their own end at a NUL.
    words = [word.encode("utf-8", "surrogatepass") for word in dump.words]
    return np.array(words, h5py.string_dtype("utf-8", max(map(len, words))))


def _lstmvis_name(name: str) -> str:
    """Return what LSTMVis calls an array: output1 for layer0/h."""
    layer, state = layer_and_state(name)
    return NAMES.get(state, state.replace("gates/", "gate_").replace("/", "_")) + str(layer + 1)


def _dictionary(vocabulary: list[str]) -> str:
    """Return the lines "word id" of a dictionary; characters that no word may have are written by a sign or code."""
    taken = set(vocabulary)
    lines = []
    for number, word in enumerate(vocabulary):
        codes = [f"U+{ord(each):04X}" for each in word]
        shown = [
            each if each.strip() and each.isprintable() else SIGNS.get(each, code)
            for each, code in zip(word, codes, strict=True)
        ]
        sign = "".join(shown)
        lines.append(f"{''.join(codes) if sign != word and sign in taken else sign} {number}\n")
    return "".join(lines)


def _configuration(file: Path, named: dict[str, str]) -> str:
    """Return an lstm.yml; h and gates are between -1 and 1 already, so that LSTMVis need not apply its tanh."""
    types = []
    for name, target in named.items():
        layer, state = layer_and_state(name)
        if state in SCORES:
            continue
        kind, transform = ("state", "tanh") if state == "c" else ("output", "none")
        types.append(f"    {{type: {kind}, layer: {layer + 1}, path: {target}, transform: {transform}}}")
    # In UTF-8: JSON escapes some characters in two halves, of which YAML makes two.
    name, states, words = (
        json.dumps(text, ensure_ascii=False) for text in (file.stem, file.name, file.with_suffix(".dict").name)
    )
    return (
        f"name: {name}\ndescription: {name}\n\n"
        f"files:\n  states: {states}\n  words_dict: {words}\n\n"
        "word_sequence:\n  file: states\n  path: word_ids\n  dict_file: words_dict\n\n"
        "states:\n  file: states\n  types: [\n" + ",\n".join(types) + "\n  ]\n"
    )
