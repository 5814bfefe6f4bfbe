"""A dump of 2,100 rows in 700 sequences, and a writer that writes it group by group as a sampler does."""

import numpy as np

from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter

# 700 sequences of 3 rows, so that their initial states fill several blocks too; groups of 64 end inside row blocks.
N, H, BLOCK, GROUP = 2100, 6, 256, 64
STARTS = np.arange(0, N + 1, 3, dtype=np.int64)
NAMES = ["layer0/h", "layer0/gates/i", "layer1/h"]
RANDOM = np.random.default_rng(0)
STATES = {name: RANDOM.normal(size=(N, H)).astype(np.float32) for name in NAMES}
INITIAL = {name: RANDOM.normal(size=(len(STARTS) - 1, H)).astype(np.float32) for name in ("layer0/h", "layer1/h")}
TOKENS = RANDOM.integers(0, 3, N)
SPEC = DumpSpec(
    arrays=dict.fromkeys(NAMES, H),
    sequence_starts=STARTS,
    document_starts=STARTS[[0, 100, 700]],
    initial=("h", "c"),
    token_dtype=np.dtype(np.uint8),
    dtype=np.dtype(np.float16),
    attributes={"vocabulary": ["a", "b", "ü"], "seed": 3, "config": {"prime": "a", "lengths": [3, 4]}},
    block_rows=BLOCK,
)


def groups(begin=0):
    """Yield the groups of sequences from the one that holds a given row, as a sampler computes them."""
    for first in range(begin // 3 // GROUP * GROUP, len(STARTS) - 1, GROUP):
        rows = slice(first * 3, (first + GROUP) * 3)
        yield first, rows.start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()}


def fill(writer):
    for first, start, tokens, states in groups(writer.committed_rows):
        writer.write_initial(first, {name: values[first : first + GROUP] for name, values in INITIAL.items()})
        writer.append(start, tokens, states)


def write(path, overwrite=False):
    with DumpWriter(path, SPEC, overwrite=overwrite) as writer:
        fill(writer)
