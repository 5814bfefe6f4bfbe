"""A dump of smooth random states, in which one unit follows a label."""

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter

N_SEQUENCES, LENGTH, H = 40, 50, 12
N = N_SEQUENCES * LENGTH
PLANTED = ("layer0/c", 5)


def hypothesis(name, values="boolean"):
    return Hypothesis(name, "any", values, "past", "", lambda text: [])


def planted_states(path):
    """Write the dump; return it, the labels that a unit follows, and labels by chance."""
    rng = np.random.default_rng(0)
    label = np.repeat(rng.random((N_SEQUENCES, LENGTH // 5)) < 0.3, 5, axis=1).ravel()
    chance = np.repeat(rng.random((N_SEQUENCES, LENGTH // 5)) < 0.3, 5, axis=1).ravel()
    states = {name: 0.8 * np.tanh(rng.normal(size=(N, H))) for name in ("layer0/h", "layer0/c", "layer0/gates/f")}
    states["layer0/c"][:, PLANTED[1]] = np.where(label, 2.0, -2.0) + rng.normal(size=N)
    starts = np.arange(N_SEQUENCES + 1, dtype=np.int64) * LENGTH
    spec = DumpSpec(
        arrays=dict.fromkeys(states, H),
        sequence_starts=starts,
        document_starts=starts,
        initial=("h", "c"),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": list("abcd")},
        block_rows=300,
    )
    initial = {name: np.full((N_SEQUENCES, H), 0.25) for name in ("layer0/h", "layer0/c")}
    with DumpWriter(path, spec) as writer:
        writer.write_initial(0, initial)
        writer.append(0, rng.integers(4, size=N).astype(np.uint8), states)
    values = np.stack([label, chance], axis=1)
    labels = Labels((hypothesis("planted"), hypothesis("chance")), values, np.ones((N, 2), dtype=bool))
    return StateDump.open(path), labels
