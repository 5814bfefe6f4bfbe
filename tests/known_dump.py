"""A dump whose every value is known."""

import numpy as np
import zarr

from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter

N, H, BLOCK = 1000, 5, 128
NAMES = ["layer0/h", "layer0/c", "layer0/gates/i", "layer1/h", "layer1/c", "layer1/gates/i"]
VOCABULARY = ["\n", " ", "a", "ä", "\0", "€", "𝄞", "\u2028", "z"]
STARTS = np.array([0, 100, 101, 300, 384, 700, 999, 1000], dtype=np.int64)
DOCUMENTS = np.array([0, 300, 999, 1000], dtype=np.int64)
RANDOM = np.random.default_rng(0)
STATES = {name: RANDOM.normal(size=(N, H)).astype(np.float32) for name in NAMES}
INITIAL = {name: RANDOM.normal(size=(len(STARTS) - 1, H)).astype(np.float32) for name in NAMES if "gates" not in name}
TOKENS = RANDOM.integers(0, len(VOCABULARY), N)
ATTRIBUTES = {"vocabulary": VOCABULARY, "alignment": "post", "temperature": 0.8, "cell": "lstm", "config": {"seed": 1}}


def write(path, dtype="float16", rows=N):
    spec = DumpSpec(
        arrays=dict.fromkeys(NAMES, H),
        sequence_starts=STARTS,
        document_starts=DOCUMENTS,
        initial=("h", "c"),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(dtype),
        attributes=ATTRIBUTES,
        block_rows=BLOCK,
    )
    writer = DumpWriter(path, spec)
    writer.write_initial(0, INITIAL)
    writer.append(0, TOKENS[:rows], {name: values[:rows] for name, values in STATES.items()})
    if rows == N:
        writer.close()
    else:
        writer.__exit__(KeyboardInterrupt)
    return path


def rewritten(original, path):
    """A copy written by zarr-python with other codecs and without consolidated metadata."""
    theirs = zarr.open_group(original, mode="r")
    copy = zarr.create_group(path, attributes=theirs.attrs.asdict())
    for name, member in theirs.members(max_depth=None):
        if isinstance(member, zarr.Array):
            codec = zarr.codecs.ZstdCodec()
            copy.create_array(name, data=np.asarray(member[:]), chunks=member.chunks, compressors=codec)
    return path
