"""States in HDF5 files of other programs: LSTMVis's, NeuroX's, or any datasets of two or three dimensions.

LSTMVis (github.com/HendrikStrobelt/LSTMVis, model/get_states.lua): one dataset [N, H] for each layer and kind,
`states1` the state of the first layer's cells and `output1` their output, and `word_ids` [N], there or in another file.

NeuroX (github.com/fdalvi/NeuroX, neurox/data/writer.py): one dataset [layers, tokens, units] for each sentence, named
"0", "1", ..., and `sentence_to_index`, a JSON object from the sentence, its tokens joined by spaces, to that name; the
second and later times that a sentence occurs are written with " (Occurrence 2)" after it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.file_arrays import Unreadable
from gatescope.engine.other_sequences import steps_of_rows

OCCURRENCE = re.compile(r" \(Occurrence \d+\)$")
SENTENCES = ("sentence_to_index", "sentence_to_idx")
# Bytes of chunks that HDF5 keeps uncompressed: its own default of 1 MiB is less than one chunk of many a file.
CHUNK_CACHE = 2**26


def h5py_module() -> ModuleType:
    """Return h5py, or say how to get it."""
    try:
        import h5py
    except ImportError:
        raise InputError("HDF5 files need h5py: pip install 'gatescope[files]'") from None
    return h5py


def hdf5_arrays(path: Path) -> dict[str, Any]:
    """The datasets of an HDF5 file; those of NeuroX's layout as one array for each layer, with sequences and tokens."""
    h5py = h5py_module()
    file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE)
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        # A dataset without a shape is HDF5's null.
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found[name] = _readable(item)

    file.visititems(visit)
    numbered = sorted((name for name in found if name.isdecimal() and len(found[name].shape) == 3), key=int)
    if numbered and any(name in found for name in SENTENCES):
        return _sentences(found, numbered)
    return found


def _readable(dataset: Any) -> Any:
    """Return a dataset, or what stands for one of a type that NumPy lacks, such as a time."""
    try:
        np.dtype(dataset.dtype)
    except (TypeError, ValueError) as error:
        return Unreadable(error)
    return dataset


def _sentences(found: dict[str, Any], numbered: list[str]) -> dict[str, Any]:
    """Return NeuroX's sentences as arrays [N, units], one for each layer, beside sequence_starts and tokens."""
    sets = [found[name] for name in numbered]
    n_layers, _, n_units = sets[0].shape
    for name, dataset in zip(numbered, sets, strict=True):
        if (dataset.shape[0], dataset.shape[2]) != (n_layers, n_units) or dataset.dtype != sets[0].dtype:
            raise ValueError(f"sentence {name} is {dataset.dtype} {dataset.shape}, unlike sentence {numbered[0]}")
    kept = [dataset for dataset in sets if dataset.shape[1]]
    starts = np.cumsum([0, *(dataset.shape[1] for dataset in kept)], dtype=np.int64)
    arrays: dict[str, Any] = {f"layer{layer}": _Layer(kept, starts, layer) for layer in range(n_layers)}
    arrays["sequence_starts"] = starts
    index = next(found[name] for name in SENTENCES if name in found)
    words = _words(index.asstr()[0], numbered)
    if words is not None and len(words) == starts[-1]:
        arrays["vocabulary"], arrays["tokens"] = np.unique(words, return_inverse=True)
    return arrays


class _Layer:
    """One layer of all sentences, in order: [N, units]."""

    def __init__(self, sets: list[Any], starts: np.ndarray, layer: int) -> None:
        self._sets, self._starts, self._layer = sets, starts, layer
        self.shape = (int(starts[-1]), sets[0].shape[2] if sets else 0)
        self.file = sets[0].file if sets else None
        self.dtype = sets[0].dtype if sets else np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> np.ndarray:
        values = np.empty((rows.stop - rows.start, self.shape[1]), self.dtype)
        for number, steps, places in steps_of_rows(self._starts, rows.start, rows.stop):
            values[places] = self._sets[number][self._layer, steps]
        return values


def _words(index: str, numbered: list[str]) -> np.ndarray | None:
    """Return the tokens of all sentences in order, or None where the index does not name each sentence once."""
    sentences = {str(number): sentence for sentence, number in json.loads(index).items()}
    if sentences.keys() != set(numbered):
        return None
    return np.array([word for name in numbered for word in OCCURRENCE.sub("", sentences[name]).split(" ")])
