"""Sampling with states kept in memory, compared with a loop over torch.nn.LSTM.

Ours keeps the gates, too, if its name says so. The peer takes one step at a time with all sequences side by side, and
keeps h and c. On a GPU the peer's step is a CUDA graph; weights and products are bfloat16 on both sides, and states
stay on the GPU.
"""

import os
import shutil
import time

import numpy as np
import pytest
import torch
from stepwise import LENGTH, SEQUENCES, graphed_loop, loop, random_model

from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states

CAPTURE = {"gatescope": ("h", "c"), "gatescope-gates": ("h", "c", "gates")}
SHAPES = [pytest.param(128, 2, id="2x128"), pytest.param(512, 3, id="3x512", marks=pytest.mark.slow)]


def draw(model):
    return lambda step, y: torch.softmax(model.output(y[0]) / 0.8, dim=-1).multinomial(1)[:, 0]


def assert_same_states(states, lstm, model):
    """Check the kept states against those of torch.nn.LSTM as it reads the sampled text."""
    text = torch.from_numpy(states.tokens).view(SEQUENCES, LENGTH).T
    _, h, c = loop(model, lstm, lambda step, y: text[step])
    for kept, name in ((h, "h"), (c, "c")):
        for layer in range(lstm.num_layers):
            found = states.arrays[f"layer{layer}/{name}"].view(SEQUENCES, LENGTH, -1)
            torch.testing.assert_close(found, kept[:, layer].transpose(0, 1), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("impl", [*CAPTURE, "torch-loop"])
@pytest.mark.parametrize(("H", "L"), SHAPES)
def test_sample_to_memory(benchmark, H, L, impl):
    trained, lstm = random_model(H, L)
    if impl == "torch-loop":
        run = lambda: loop(trained.model, lstm, draw(trained.model))  # noqa: E731
    else:
        config = SampleConfig(sequences=SEQUENCES, length=LENGTH, capture=CAPTURE[impl])
        run = lambda: sample_in_memory(trained, config)  # noqa: E731
        assert_same_states(run(), lstm, trained.model)
    measure(benchmark, run, f"sample {L}x{H}, states in memory", impl, H=H, L=L)


@pytest.mark.parametrize("impl", ["gatescope-gates", "in-memory", "plain-write"])
@pytest.mark.parametrize("sequences", [SEQUENCES, 4 * SEQUENCES])
def test_sample_to_disk(benchmark, tmp_path, sequences, impl):
    trained, _ = random_model(128, 2)
    config = SampleConfig(sequences=sequences, length=LENGTH, capture=("h", "c", "gates"))
    n_bytes = sequences * LENGTH * 2 * 6 * 128 * 2
    run = {
        "gatescope-gates": lambda: sample_states(trained, tmp_path / "s.zarr", config),
        "in-memory": lambda: sample_in_memory(trained, config),
        "plain-write": lambda: write_plainly(tmp_path / "plain", n_bytes),
    }[impl]

    def setup():
        shutil.rmtree(tmp_path / "s.zarr", ignore_errors=True)
        (tmp_path / "plain").unlink(missing_ok=True)
        os.sync()

    group = f"sample 2x128 to disk, {sequences} sequences"
    measure(benchmark, run, group, impl, sequences, setup, H=128, L=2, bytes=n_bytes)


def write_plainly(path, n_bytes, piece=2 << 20):
    """Write as many bytes as the dump's states have, and wait for the disk: the time of the disk alone."""
    values = np.random.default_rng(0).integers(0, 256, piece, dtype=np.uint8)
    with path.open("wb", buffering=0) as file:
        for start in range(0, n_bytes, piece):
            file.write(values[: n_bytes - start])
        os.fsync(file.fileno())


ON_GPU = [(1024, 512, 3), (128, 512, 3), (1024, 128, 2)]  # B, H, L


def gpu_model(hidden, layers):
    """The model of the CPU rows on a GPU in bfloat16, and the same model as a torch.nn.LSTM."""
    trained, lstm = random_model(hidden, layers)
    trained.model.to("cuda", torch.bfloat16)
    return trained, lstm.to("cuda", torch.bfloat16)


def measure_on_gpu(benchmark, run, group, impl, shape, peak):
    """Time a run that ends with a synchronisation; record its characters a second and its share of the card's peak.

    If the clock is off, it runs once, which compiles its kernels.
    """
    if benchmark.disabled:
        benchmark.pedantic(run)
        return
    b, h, layers = shape
    benchmark.group = group
    benchmark.pedantic(run, rounds=10, warmup_rounds=2)
    rate = b * LENGTH / benchmark.stats["median"]
    flop = 2 * 4 * h * h * (2 * layers - 1)
    facts = {"characters_per_second": round(rate), "share_of_peak": round(rate * flop / peak("cuda"), 4)}
    benchmark.extra_info.update(impl=impl, dtype="bfloat16", B=b, H=h, L=layers, length=LENGTH, **facts)


@pytest.mark.cuda
@pytest.mark.parametrize("impl", [*CAPTURE, "torch-graph"])
@pytest.mark.parametrize("shape", ON_GPU, ids=lambda shape: "B{}-H{}-L{}".format(*shape))
def test_sample_on_gpu(benchmark, peak, shape, impl):
    b, h, layers = shape
    trained, lstm = gpu_model(h, layers)
    if impl == "torch-graph":
        drawn = lambda y: torch.softmax(trained.model.output(y[0]) / 0.8, dim=-1).multinomial(1)[:, 0]  # noqa: E731
        run = graphed_loop(trained.model, lstm, drawn, b, LENGTH)
    else:
        config = SampleConfig(sequences=b, length=LENGTH, capture=CAPTURE[impl])

        def run():
            sample_in_memory(trained, config)
            torch.cuda.synchronize()

    measure_on_gpu(benchmark, run, f"sample {layers}x{h} B={b} cuda", impl, shape, peak)


def measure(benchmark, run, group, impl, sequences=SEQUENCES, setup=None, **facts):
    benchmark.group = group
    seconds = []

    def timed():
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)

    benchmark.pedantic(timed, setup=setup, rounds=7 if facts["H"] == 128 else 2, warmup_rounds=1)
    rate = sequences * LENGTH / benchmark.stats["median"]
    best = sequences * LENGTH / benchmark.stats["min"]
    benchmark.extra_info.update(
        impl=impl,
        sequences=sequences,
        length=LENGTH,
        characters_per_second=round(rate),
        best_characters_per_second=round(best),
        cpu_seconds=round(min(seconds), 4),
        **facts,
    )
