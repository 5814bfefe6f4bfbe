"""Microseconds a step of the sampler's kernel by itself, in the tiles in use and in others: `sampler_tiles.py [rows]`.

Run on a GPU as `python -m benchmarks.sampler_tiles`. Every tile runs the same model in bfloat16 with the same random
numbers. For tiles that stream their weights it is reported whether characters and states equal those of the first such
tile to the bit. Times are medians of five blocks of 500 steps with h and c kept; compiling takes some seconds a tile.
"""

import sys

import torch

from benchmarks.stepwise import LENGTH, V, random_model
from gatescope.engine.journey import weights_of
from gatescope.kernels.choice import Draw
from gatescope.kernels.gpu import device_of
from gatescope.kernels.sample_fused import PLACES, Captured, FusedRecurrence
from gatescope.kernels.sample_plan import ModelShape, fitted, in_columns, plan, streaming

MODELS = [(512, 3), (128, 2)]  # H, L of LSTMs
ROWS = (1024, 128)
# Rows and units of a program, units that are multiplied at once, and parts of a product in flight.
TILES = {
    512: [(128, 32, 64, 3), (64, 64, 64, 3), (64, 32, 64, 4), (128, 16, 64, 3), (64, 16, 64, 4), (128, 8, 64, 4)],
    128: [(64, 16, 64, 3), (64, 32, 64, 3), (32, 32, 64, 3), (32, 16, 64, 3), (16, 64, 64, 2), (64, 8, 64, 3)],
}


def layouts(hidden, layers, n_rows, device):
    """The plan in use, the one for any number of sequences with streamed weights, and others of the latter kind."""
    model = ModelShape("lstm", hidden, layers, V, 2)
    yield "in use", fitted(plan(model, device), model, n_rows, device)
    anyhow = streaming(model, device)
    yield "for any number of sequences, weights streamed", anyhow
    for block_b, block_h, block_k, stages in TILES[hidden]:
        tile = {"block_b": block_b, "block_k": block_k, "stages": stages}
        # Parts of 128 units, so that no load goes through the first-level cache.
        output = {"output_k": 128, "output_stages": 2}
        name = f"{block_b} rows x {block_h} units, {stages} parts of {block_k}"
        yield name, in_columns(anyhow, block_h, device, **tile, **output)


def measure(trained, layout, n_rows, places):
    """Milliseconds of a block of steps, and its characters."""
    layers, vectors = weights_of(trained)
    output = trained.model.output
    given = (layers, vectors, (output.weight.detach(), output.bias.detach()), n_rows)
    times = []
    for _ in range(6):
        recurrence = FusedRecurrence("lstm", *given, layout=layout)
        tokens = torch.zeros(n_rows, LENGTH, dtype=torch.int32, device="cuda")
        lengths = torch.full((n_rows,), LENGTH, dtype=torch.int32, device="cuda")
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        recurrence.advance(tokens, lengths, Captured(places), Draw(0, 0, 0.8))
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times[1:])[2], tokens


def main():
    for hidden, layers in MODELS:
        trained, _ = random_model(hidden, layers)
        trained.model.to("cuda", torch.bfloat16)
        for n_rows in map(int, sys.argv[1:] or ROWS):
            first = None
            for name, layout in layouts(hidden, layers, n_rows, device_of(trained.model.output.weight)):
                kept = torch.empty(2 * layers, n_rows, LENGTH, hidden, dtype=torch.float16, device="cuda")
                places = tuple(kept[2 * (k // PLACES) + k % PLACES] if k % PLACES < 2 else None
                               for k in range(PLACES * layers))  # fmt: skip
                milliseconds, tokens = measure(trained, layout, n_rows, places)
                if layout.form != "resident":
                    first = first or (tokens, kept)
                    same = torch.equal(tokens, first[0]) and torch.equal(kept, first[1])
                    name += "" if same else ", OTHER BITS"
                step = f"{1e3 * milliseconds / LENGTH:6.2f} us a step"
                print(f"{layers}x{hidden}, {n_rows} sequences: {step}  {name}", flush=True)


if __name__ == "__main__":
    main()
