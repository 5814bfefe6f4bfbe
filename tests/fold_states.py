"""A dump and labels for folds: sequences differ, and so do folds, and a few of eight units predict a label."""

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter

S, T, H = 48, 25, 8
N = S * T


def fold_dump(path, seed=0):
    """Write states of 48 sequences of 25 characters; only they depend on the seed."""
    states = np.random.default_rng(seed).normal(size=(N, H)) * np.linspace(0.5, 2, H)
    tokens = np.random.default_rng(100).integers(4, size=N).astype(np.uint8)
    starts = np.arange(S + 1) * T
    about = {"vocabulary": list("ab(\n")}
    spec = DumpSpec({"layer0/h": H}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float32), about)
    with DumpWriter(path, spec) as writer:
        writer.append(0, tokens, {"layer0/h": states})
    return StateDump.open(path)


def fold_labels(dump, continuous=False):
    """Three hypotheses: predicted by units 1 and 5, by unit 2 where it is defined, and by none."""
    rng = np.random.default_rng(7)
    X = np.asarray(dump.array("layer0/h")[:], dtype=np.float64)
    of_sequence = np.repeat(rng.normal(size=(S, 1)), T, axis=0)[:, 0]
    value = np.stack(
        [X[:, 1] - X[:, 5] + 0.7 * of_sequence + rng.normal(size=N), X[:, 2] + rng.normal(size=N), rng.normal(size=N)],
        axis=1,
    )
    defined = np.stack([np.ones(N, bool), rng.random(N) < 0.8, np.ones(N, bool)], axis=1)
    kind = "continuous" if continuous else "boolean"
    named = tuple(Hypothesis(name, "any", kind, "past", "", list) for name in ("two", "one", "none"))
    return Labels(named, value.astype(np.float32) if continuous else value > 0.8, defined)
