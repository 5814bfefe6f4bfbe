"""The rows and columns that all fits of one dump share.

Sequences, not characters, are divided into training and test; those of one document stay together if there are enough
documents. All variants see the same rows. With folds every row is a test row once.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Hashable
from dataclasses import astuple
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.split import folds_of, groups_of, sequence_ids_of
from gatescope.analysis.state_sets import state_sets
from gatescope.engine.device_memory import copied_to_gpu
from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import free_bytes
from gatescope.engine.sequence_rows import SequenceRows
from gatescope.engine.state_source import StateSource


class Study:
    """The rows and columns that all fits of one dump share.

    Args:
        dump: the states.
        config: the settings of the probe.
        seed: seed of the split and the bootstrap.
        untrained: states of an untrained network at the same rows, for a control.
    """

    def __init__(self, dump: StateSource, config: ProbeConfig, seed: int, untrained: StateSource | None = None):
        self.dump, self.config, self.seed, self.untrained = dump, config, seed, untrained
        starts = dump.sequence_starts
        # The group of each sequence: sequences of one group are not independent, and never divided.
        self.group_of = groups_of(dump)
        self.folds = folds_of(self.group_of, starts, config.test_share, config.folds, seed)
        # Coefficients, units and texts are those of the first fold.
        self.train, self.test, self.train_rows, self.test_rows = astuple(self.folds[0])
        self.tested_rows = np.concatenate([fold.test_rows for fold in self.folds])
        ends = np.cumsum([len(fold.test_rows) for fold in self.folds])
        parts = [slice(end - len(fold.test_rows), end) for fold, end in zip(self.folds, ends.tolist(), strict=True)]
        # The group of each tested row, from 0.
        groups, self._tested = np.unique(self.group_of[sequence_ids_of(self.tested_rows, starts)], return_inverse=True)
        self.n_tested = len(groups)
        self.scorer = Scorer(self._tested, config.bootstrap, seed, parts)
        self.state_sets = state_sets(dump.names, config.alignment)
        if not self.state_sets:
            raise InputError(
                f"{dump.name} has {', '.join(dump.names)}, but no states for probes with alignment "
                f"{config.alignment!r}: record h too (--capture)"
            )
        self._gpu_bytes = free_bytes(torch.device("cuda"), sys.maxsize) or 0 if config.device == "cuda" else 0
        self._hypotheses: tuple[Hypothesis, ...] = ()
        self._shared: dict[Hashable, Any] = {}
        self.main_set = "all" if "all" in self.state_sets else next(iter(self.state_sets))

    @property
    def fold_that_tests(self) -> np.ndarray:
        """The index of the fold that tests each sequence, -1 if none does; int32 [S]."""
        numbers = np.full(len(self.group_of), -1, np.int32)
        for number, fold in enumerate(self.folds):
            numbers[fold.test] = number
        return numbers

    def tested_sha256(self, labels: Labels) -> list[str]:
        """Return, for each hypothesis, a digest of its test data: characters, their sequences and labels.

        If two digests are equal, the scores are of the same characters, whichever network read them.
        """
        digests = []
        for k in range(len(labels.hypotheses)):
            digest = self._tested_text.copy()
            for column in (labels.values, labels.defined):
                digest.update(column[self.tested_rows, k].tobytes())
            digests.append(digest.hexdigest())
        return digests

    @cached_property
    def _tested_text(self) -> Any:
        """The digest of the tested characters themselves, not their token ids, and of their sequences."""
        digest = hashlib.sha256(self._tested.astype(np.int64).tobytes())
        tokens, vocabulary = self.dump.tokens, self.dump.vocabulary
        if tokens is not None:
            read = tokens[self.tested_rows].astype(np.int64)
            digest.update((read if vocabulary is None else np.array(list(map(ord, vocabulary)))[read]).tobytes())
        return digest

    def columns(self, name: str) -> list[tuple[str, int]]:
        """Return (array, unit) of each column of a state set."""
        return [(array, unit) for array in self.state_sets[name] for unit in range(self.dump.array(array).shape[1])]

    def activation(self, unit: dict[str, Any], start: int, stop: int) -> np.ndarray:
        """Return one unit's activation, float64, at rows from the start of a sequence, aligned like the fits."""
        name, column = unit["states"], unit["unit"]
        if self.config.alignment == "post":
            return self.dump.array(name)[start:stop][:, column].astype(np.float64)
        sequence = int(np.searchsorted(self.dump.sequence_starts, start))
        before = self.dump.initial(name)[sequence, column]
        return np.append(before, self.dump.array(name)[start : stop - 1][:, column]).astype(np.float64)

    def shared(self, labels: Labels, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a value that fits of the same hypotheses share; the first makes it, other hypotheses discard it."""
        if labels.hypotheses != self._hypotheses:
            self._hypotheses, self._shared = labels.hypotheses, {}
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def ranking(self, weighting: str) -> str:
        """The ranking of units: for a continuous hypothesis, which has no classes, correlation instead of AUROC."""
        return "correlation" if weighting == "none" and self.config.ranking == "auroc" else self.config.ranking

    def states(
        self, name: str, sequences: np.ndarray, of: StateSource | None = None
    ) -> np.ndarray | Tensor | SequenceRows:
        """Return a state set at the rows of some sequences: an array in memory, a tensor on the GPU, or still on disk.

        Args:
            name: the state set.
            sequences: their indices.
            of: states at the same rows as the dump's; default: the dump.
        """
        states = (of or self.dump).of_sequences(self.state_sets[name], sequences, self.config.alignment)
        place = self.place(name, of)
        if place == "gpu":
            return copied_to_gpu(states)
        return states if place == "disk" else np.asarray(states)

    def place(self, name: str, of: StateSource | None = None) -> Literal["gpu", "memory", "disk"]:
        """Where a state set lies while it is probed.

        All its rows go to the GPU if they take at most a quarter of its free memory: those of the untrained network are
        there as well, and a fit takes another quarter. In memory they take at most half of the memory limit.
        """
        n_bytes = self.dump.n_rows * len(self.columns(name)) * (of or self.dump).dtype.itemsize
        if n_bytes <= self._gpu_bytes // 4:
            return "gpu"
        return "memory" if n_bytes <= self.config.memory_bytes // 2 else "disk"

    def memory_limit(self, name: str) -> str | int | None:
        """What a fit of a state set may take beside the states: None for as much as is useful."""
        limits = {"gpu": self._gpu_bytes // 4, "memory": None, "disk": self.config.memory_limit}
        return limits[self.place(name)]
