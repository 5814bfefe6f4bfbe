"""Reading 200 sequences of 500 characters with states kept in memory, compared with a loop over torch.nn.LSTM.

The peer takes one step at a time with all sequences side by side, keeps h and c, and does not run the output layer.
"""

import numpy as np
import pytest
import torch
from bench_sample import CAPTURE, ON_GPU, SHAPES, assert_same_states, gpu_model, measure, measure_on_gpu
from stepwise import LENGTH, SEQUENCES, V, graphed_loop, loop, random_model

from gatescope.engine.extract import ExtractConfig, extract_in_memory


@pytest.mark.parametrize("impl", [*CAPTURE, "torch-loop"])
@pytest.mark.parametrize(("H", "L"), SHAPES)
def test_extract_to_memory(benchmark, tmp_path, H, L, impl):
    trained, lstm = random_model(H, L)
    tokens = np.random.default_rng(0).integers(0, V, (SEQUENCES, LENGTH))
    if impl == "torch-loop":
        given = torch.from_numpy(tokens.T.copy())
        run = lambda: loop(trained.model, lstm, lambda step, y: given[step])  # noqa: E731
    else:
        text = tmp_path / "text.txt"
        text.write_text("".join(trained.vocabulary.characters[token] for token in tokens.flat), newline="")
        config = ExtractConfig(length=LENGTH, context=0, capture=CAPTURE[impl])
        run = lambda: extract_in_memory(trained, str(text), config)  # noqa: E731
        assert_same_states(run(), lstm, trained.model)
    measure(benchmark, run, f"extract {L}x{H}, states in memory", impl, H=H, L=L)


@pytest.mark.cuda
@pytest.mark.parametrize("impl", [*CAPTURE, "torch-graph"])
@pytest.mark.parametrize("shape", ON_GPU, ids=lambda shape: "B{}-H{}-L{}".format(*shape))
def test_extract_on_gpu(benchmark, peak, tmp_path, shape, impl):
    b, h, layers = shape
    trained, lstm = gpu_model(h, layers)
    tokens = np.random.default_rng(0).integers(0, V, (b, LENGTH))
    if impl == "torch-graph":
        # One column of the text repeated: the time does not depend on which characters are read.
        given = torch.from_numpy(tokens[:, 0]).cuda()
        run = graphed_loop(trained.model, lstm, lambda y: given, b, LENGTH)
    else:
        text = tmp_path / "text.txt"
        text.write_text("".join(trained.vocabulary.characters[token] for token in tokens.flat), newline="")
        config = ExtractConfig(length=LENGTH, context=0, capture=CAPTURE[impl])

        def run():
            extract_in_memory(trained, str(text), config)
            torch.cuda.synchronize()

    measure_on_gpu(benchmark, run, f"extract {layers}x{h} B={b} cuda", impl, shape, peak)
