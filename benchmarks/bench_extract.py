"""Reading 200 sequences of 500 characters with states kept in memory, beside a loop over torch.nn.LSTM.

Peer: one step at a time, all sequences side by side, h and c kept, and nothing of the output layer.
"""

import numpy as np
import pytest
import torch
from bench_sample import CAPTURE, SHAPES, assert_same_states, measure
from stepwise import LENGTH, SEQUENCES, V, loop, random_model

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
