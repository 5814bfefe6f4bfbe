"""A whole iteration of training a character model, from reading the window to Adam, as `gatescope train` runs it.

It includes recurrent layers with dropout between and after them, the output layer, loss, backward, clipping and Adam.
On a GPU the iteration is the CUDA graph that training replays. The peer has torch.nn.LSTM in place of our layers, with
its own dropout between them. Before it is timed, its logits in float32 without dropout must equal ours.
"""

import numpy as np
import pytest
import torch
from recurrent_rows import row_name

from gatescope.engine.model import CharacterModel
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.training_step import WARM_UP, TrainingStep, cut_lanes

V = 96  # characters
WINDOWS = 10
ON_CPU = (128, 200, 128, 2)
ON_GPU = (128, 200, 512, 3)
ROWS = [
    pytest.param("cpu", ON_CPU, "float32", impl, id=f"cpu-{row_name(ON_CPU)}-{impl}") for impl in ("gatescope", "torch")
]
ROWS += [
    pytest.param("cuda", ON_GPU, dtype, impl, marks=pytest.mark.cuda, id=f"cuda-{row_name(ON_GPU)}-{dtype}-{impl}")
    for dtype in ("bfloat16", "float16")
    for impl in ("gatescope", "cudnn")
]


def taker_of(device, shape, dtype, impl):
    """A training step for a model of this shape, and one with our own layers and the same weights."""
    b, t, h, layers = shape
    config = TrainConfig(hidden=h, layers=layers, dropout=0.3, batch=b, length=t, precision=dtype)
    torch.manual_seed(0)
    ours = CharacterModel(config.architecture, V).to(device)
    torch.manual_seed(0)
    model = CharacterModel(config.architecture, V).to(device)
    if impl != "gatescope":
        theirs = torch.nn.LSTM(V, h, layers, dropout=0.3, device=device)
        theirs.load_state_dict(model.rnn.state_dict())
        model.rnn = theirs
    tokens = np.random.default_rng(0).integers(0, V, b * (WINDOWS * t + 1)).astype(np.uint16)
    return TrainingStep(model.train(), cut_lanes(tokens, b), t, config.clip, dtype, model.zero_state(b)), ours


@torch.no_grad()
def assert_same_logits(model, ours, device):
    tokens, tf32 = torch.randint(V, (20, 8), device=device), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    logits = [each.eval()(tokens, each.zero_state(8))[0] for each in (model, ours)]
    torch.backends.cudnn.allow_tf32 = tf32
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    model.train()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("device", "shape", "dtype", "impl"), ROWS)
def test_iteration(benchmark, device, shape, dtype, impl):
    taker, ours = taker_of(device, shape, dtype, impl)
    assert_same_logits(taker.model, ours, device)
    per_round, rounds = (50, 10) if device == "cuda" else (1, 7)
    steps = iter(range(10**9))

    def iterations():
        for _ in range(per_round):
            taker.take(next(steps), 1e-3)
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP + 1 if device == "cuda" else 1):
        taker.take(next(steps), 1e-3)
    if benchmark.disabled:
        # Its kernels are compiled.
        benchmark.pedantic(iterations)
        return
    benchmark.group = f"training iteration {row_name(shape).replace('-', ' ')} {device}"
    benchmark.pedantic(iterations, rounds=rounds, warmup_rounds=1)
    assert taker.loss.isfinite()
    b, t, h, layers = shape
    seconds = benchmark.stats["median"] / per_round
    benchmark.extra_info.update(
        impl=impl, device=device, dtype=dtype, graph=device == "cuda", B=b, T=t, H=h, L=layers,
        iterations=per_round,
        milliseconds_per_iteration=round(seconds * 1e3, 3),
        characters_per_second=round(b * t / seconds),
    )  # fmt: skip
