"""Sampling 200 sequences of 500 characters with states kept in memory, beside a loop over torch.nn.LSTM.

Ours keeps the gates, too, where its name says so. Peer: one step at a time, all sequences side by side, h and c kept.
"""

import os
import shutil
import time

import numpy as np
import pytest
import torch
from stepwise import LENGTH, SEQUENCES, loop, random_model

from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states

CAPTURE = {"gatescope": ("h", "c"), "gatescope-gates": ("h", "c", "gates")}
SHAPES = [pytest.param(128, 2, id="2x128"), pytest.param(512, 3, id="3x512", marks=pytest.mark.slow)]


def draw(model):
    return lambda step, y: torch.softmax(model.output(y[0]) / 0.8, dim=-1).multinomial(1)[:, 0]


def assert_same_states(states, lstm, model):
    """Let torch.nn.LSTM read the text that was sampled: its states must be those that were kept."""
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


@pytest.mark.parametrize("impl", ["gatescope-gates", "plain-write"])
def test_sample_to_disk(benchmark, tmp_path, impl):
    trained, _ = random_model(128, 2)
    config = SampleConfig(sequences=SEQUENCES, length=LENGTH, capture=("h", "c", "gates"))
    n_bytes = SEQUENCES * LENGTH * 2 * 6 * 128 * 2
    if impl == "gatescope-gates":
        run = lambda: sample_states(trained, tmp_path / "s.zarr", config)  # noqa: E731
    else:
        run = lambda: write_plainly(tmp_path / "plain", n_bytes)  # noqa: E731

    def setup():
        shutil.rmtree(tmp_path / "s.zarr", ignore_errors=True)
        (tmp_path / "plain").unlink(missing_ok=True)
        os.sync()

    measure(benchmark, run, "sample 2x128 to disk", impl, setup=setup, H=128, L=2, bytes=n_bytes)


def write_plainly(path, n_bytes, piece=2 << 20):
    """Write as many bytes as the dump has states, and wait for the disk: what the disk alone would take."""
    values = np.random.default_rng(0).integers(0, 256, piece, dtype=np.uint8)
    with path.open("wb", buffering=0) as file:
        for start in range(0, n_bytes, piece):
            file.write(values[: n_bytes - start])
        os.fsync(file.fileno())


def measure(benchmark, run, group, impl, rounds=7, setup=None, **facts):
    benchmark.group = group
    seconds = []

    def timed():
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)

    benchmark.pedantic(timed, setup=setup, rounds=rounds if facts["H"] == 128 else 2, warmup_rounds=1)
    rate = SEQUENCES * LENGTH / benchmark.stats["median"]
    best = SEQUENCES * LENGTH / benchmark.stats["min"]
    benchmark.extra_info.update(
        impl=impl,
        sequences=SEQUENCES,
        length=LENGTH,
        characters_per_second=round(rate),
        best_characters_per_second=round(best),
        cpu_seconds=round(min(seconds), 4),
        **facts,
    )
