"""A network of random weights, built as the one that a dump is of and reading what that read.

What a probe finds in random weights is owed to the architecture: a recurrent network remembers some of what it has read
before it has learnt anything (Zhang & Bowman, Language Modeling Teaches You More than Translation Does, 2018).
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.extract import DocumentReader
from gatescope.engine.journey import SCORES
from gatescope.engine.model import CELLS, Architecture, CharacterModel
from gatescope.engine.record import captured_arrays, record
from gatescope.engine.state_source import StateSource
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary


def untrained_states(dump: StateSource, path: Path, *, seed: int, log_path: Path | None = None) -> StateDump | None:
    """Record the states that a network of random weights has while it reads the sequences of a dump.

    Its weights are those from which `gatescope train` starts with this seed, so that it is the network of the dump
    before training where that had the same seed, as in a run. Its states begin as those of the dump do: after the
    prime and, in texts that were read, after the characters before a sequence. A recording that was interrupted goes
    on.

    Args:
        dump: states of a model of gatescope.
        path: the dump to write, of the same sequences and arrays; scores such as the entropy are no states.
        seed: of the weights.
        log_path: the JSONL log, if any.

    Returns:
        The states; None where the dump is of another program, which does not say how its network is built.

    Raises:
        InputError: the path holds something else, or a dump of other settings.
    """
    architecture, arrays = _architecture(dump), {name: dump.array(name).shape[1] for name in dump.names}
    arrays = {name: width for name, width in arrays.items() if not name.endswith(SCORES)}
    if architecture is None or dump.tokens is None or dump.vocabulary is None or not arrays:
        return None
    if not arrays.items() <= captured_arrays(architecture, (*architecture.states, "gates")).items():
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel(architecture, len(dump.vocabulary)).eval()
    vocabulary, attributes = Vocabulary(tuple(dump.vocabulary)), dump.attributes
    spec = DumpSpec(
        arrays=arrays,
        sequence_starts=dump.sequence_starts,
        document_starts=dump.document_starts,
        initial=architecture.states,
        token_dtype=vocabulary.dtype,
        # Without a bound on its states a network may leave the range of float16.
        dtype=np.dtype(np.float32) if architecture.nonlinearity == "relu" else dump.dtype,
        attributes={"kind": "untrained", "vocabulary": list(vocabulary.characters), "seed": seed},
    )
    prime = vocabulary.encode(attributes.get("prime", ""))
    bounds = dump.sequence_starts, dump.document_starts
    reader = DocumentReader(np.asarray(dump.tokens), *bounds, prime, _contexts(dump))
    record(TrainedModel(model, vocabulary, "", {}, {}), path, spec, reader, overwrite=False, log_path=log_path)
    return StateDump.open(path)


def _contexts(dump: StateSource) -> np.ndarray:
    """Return how many characters before each sequence were read at most, int64 [S + 1], 0 after the last."""
    # In a concatenated dump the attributes that differ stand with its parts.
    parts = dump.attributes.get("parts") or [{"rows": dump.n_rows}]
    settings = [(dump.attributes | part).get("settings") or {} for part in parts]
    contexts = np.array([*(each.get("context", 0) for each in settings), 0], dtype=np.int64)
    ends = np.cumsum([part["rows"] for part in parts])
    return contexts[np.searchsorted(ends, dump.sequence_starts, side="right")]


def _architecture(dump: StateSource) -> Architecture | None:
    """Return how the network of a dump is built, or None where that is not said."""
    facts = dump.attributes.get("model")
    if not isinstance(facts, dict) or facts.get("cell") not in CELLS or "hidden" not in facts:
        return None
    return Architecture(**{each.name: facts[each.name] for each in fields(Architecture) if each.name in facts})
