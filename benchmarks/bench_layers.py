"""Forward and backward of recurrent layers beside torch.nn's, in the same dtype on the same threads.

B=128, T=200, input size H. torch.nn runs the LSTM on oneDNN's fused layer and the GRU step by step.
"""

import pytest
import torch

from gatescope.kernels.gru import GRU
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.rnn import RNN

B, T = 128, 200
CELLS = {"lstm": (LSTM, torch.nn.LSTM), "gru": (GRU, torch.nn.GRU), "rnn": (RNN, torch.nn.RNN)}
SHAPES = [pytest.param(128, 2, id="2x128"), pytest.param(512, 3, id="3x512")]


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def layers(cell, H, L, device):
    torch.manual_seed(0)
    ours, theirs = (kind(H, H, L, device=device) for kind in CELLS[cell])
    theirs.load_state_dict(ours.state_dict())
    return {"gatescope": ours, "torch": theirs}


def step(module, x, dy, options):
    module.zero_grad(set_to_none=True)
    module(x, **options)[0].backward(dy)
    if x.is_cuda:
        torch.cuda.synchronize()


@pytest.mark.parametrize("impl", ["gatescope", "gatescope-capture", "torch"])
@pytest.mark.parametrize(("H", "L"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("device", DEVICES)
def test_forward_backward(benchmark, device, cell, H, L, impl):
    if H == 512 and cell == "rnn":
        pytest.skip("the Elman layer is a baseline: 2x128 is enough")
    modules = layers(cell, H, L, device)
    x, dy = torch.randn(T, B, H, device=device), torch.randn(T, B, H, device=device)
    for module in modules.values():
        step(module, x, dy, {})
    for (name, ours), theirs in zip(
        modules["gatescope"].named_parameters(), modules["torch"].parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3, msg=name)
    benchmark.group = f"{cell} {L}x{H} forward+backward, {device}"
    capture = ("h", "c", "gates") if cell == "lstm" else ("h", "gates") if cell == "gru" else ("h",)
    options = {"capture": capture} if impl == "gatescope-capture" else {}
    module = modules[impl.removesuffix("-capture")]
    benchmark.pedantic(step, (module, x, dy, options), rounds=7 if H == 128 else 3, warmup_rounds=1)
    benchmark.extra_info.update(
        impl=impl, device=device, B=B, T=T, H=H, L=L, characters_per_second=round(B * T / benchmark.stats["median"])
    )
