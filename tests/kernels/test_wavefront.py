"""wavefront.py: layers side by side give what layers one after another give."""

import importlib

import pytest
import torch

from gatescope.kernels import dropout, wavefront
from gatescope.kernels.grid import Plan
from gatescope.kernels.rnn import RNN

pytest.importorskip("triton")

T, B, I, H, L = 5, 2, 3, 9, 3


@pytest.fixture
def in_waves(monkeypatch):
    """Let wavefronts run here, in chunks that do not divide T, and count them."""
    runs = []
    monkeypatch.setattr(wavefront, "CHUNK", 2)
    monkeypatch.setattr(wavefront, "pays", lambda cell, layers, x, hidden: runs.append(cell) or layers > 1)
    monkeypatch.setattr(wavefront, "_waves", lambda *args: True)
    return runs


def pair(cell, monkeypatch, steps=T, rows=B, layers=L, **options):
    """A module's results as a wavefront and layer after layer, from the same random numbers."""
    torch.manual_seed(0)
    module = cell.module(I, H, layers, backend="triton", **options, **cell.options)
    # Laid out batch by batch, as batch_first gives it.
    x = torch.randn(rows, steps, I).transpose(0, 1).requires_grad_()
    states = [torch.randn(layers, rows, H, requires_grad=True) for _ in cell.states]
    reset = torch.rand(steps, rows, generator=torch.Generator().manual_seed(1)) < 0.2

    def run():
        torch.manual_seed(4)
        y, state, captures = module(
            x,
            tuple(states) if len(states) > 1 else states[0],
            capture=(*cell.outputs, *["preactivations"] * cell.gated),
            reset=reset,
        )
        outputs = [y, *(state if isinstance(state, tuple) else (state,)), *captures.values()]
        generator = torch.Generator().manual_seed(2)
        weights = [torch.randn(o.shape, generator=generator) for o in outputs]
        leaves = [x, *states, *module.parameters()]
        return [*outputs, *torch.autograd.grad(outputs, leaves, weights)]

    waves = run()
    with monkeypatch.context() as patch:
        patch.setattr(wavefront, "pays", lambda *args: False)
        alone = run()
    return waves, alone


@pytest.mark.parametrize("options", [{"bias": False}, {"dropout": 0.4}], ids=["no-bias", "dropout"])
def test_every_output_and_gradient(cell, options, in_waves, monkeypatch, equal_but_for_rounding):
    waves, layers = pair(cell, monkeypatch, **options)
    assert in_waves
    for k, (mine, expected) in enumerate(zip(waves, layers, strict=True)):
        equal_but_for_rounding(k, mine, expected, T * B)


@pytest.mark.parametrize(("p", "columns"), [(0.4, 2), (0.0, 1)])
def test_persistent_kernels_drop_by_themselves(cell, p, columns, in_waves, monkeypatch, equal_but_for_rounding):
    from gatescope.kernels.dropout_kernel import drop

    # Two columns have two groups of rows, too: what a program drops depends on where its rows begin.
    layout = Plan("persistent", 16, 16, 16, 1, 1, 1) if columns == 1 else Plan("persistent", 16, 8, 16, 1, 2, 2, 1)
    rows, steps = (2, 3) if columns == 1 else (18, 2)
    monkeypatch.setattr(wavefront, "CHUNK", steps - 1)
    module = importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
    monkeypatch.setattr(module, "layer_plan", lambda *args, **options: layout)

    def kept(shape, seed, p, layer, first_row):
        return drop(torch.ones(shape), torch.tensor([seed]), p, layer, first_row) != 0

    # Layers one after another drop in an operator of their own, which draws other numbers on a CPU.
    monkeypatch.setattr(dropout, "_kept", kept)
    waves, layers = pair(cell, monkeypatch, steps=steps, rows=rows, layers=2, dropout=p)
    assert in_waves
    for k, (mine, expected) in enumerate(zip(waves, layers, strict=True)):
        equal_but_for_rounding(k, mine, expected, steps * rows)


def test_packed_frozen_and_without_gradients(cell, in_waves, monkeypatch):
    module = cell.module(I, H, L, backend="triton", **cell.options)
    x = torch.randn(T, B, I)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [T, 2])
    module.get_parameter("weight_hh_l1").requires_grad_(False)
    module(packed)[0].data.sum().backward()
    assert module.weight_hh_l1.grad is None and module.weight_hh_l0.grad is not None
    with torch.no_grad():
        y = module(packed)[0].data
    with monkeypatch.context() as patch:
        patch.setattr(wavefront, "pays", lambda *args: False)
        torch.testing.assert_close(y, module(packed)[0].data, rtol=1e-5, atol=1e-6)


def test_diagonals_visit_every_chunk_once_and_in_order():
    wavefront_chunks = list(wavefront._diagonals(3, 60, 25))
    assert len(wavefront_chunks) == 9 and len({(place, chunk) for place, chunk, *_ in wavefront_chunks}) == 9
    seen = set()
    for place, chunk, start, stop in wavefront_chunks:
        assert place == 0 or (place - 1, chunk) in seen
        assert chunk == 0 or (place, chunk - 1) in seen
        assert (start, stop) == (chunk * 25, min(chunk * 25 + 25, 60))
        seen.add((place, chunk))


def test_opcheck(cell, resets, in_waves):
    options = {"lstm": "", "gru": "after" if cell.options.get("reset_after", True) else "before"}
    option = options.get(cell.name, cell.options.get("nonlinearity", "tanh"))
    module = cell.module(2, 4, 2, **cell.options)
    x, states = (
        torch.randn(4, 2, 2, requires_grad=True),
        [torch.randn(2, 2, 4, requires_grad=True) for _ in cell.states],
    )
    weights = [p.detach().requires_grad_() for p in module.parameters()]
    given = (cell.name, option, x, states, weights, resets(2, 4), [torch.tensor([3])], 0.3, True)
    torch.library.opcheck(torch.ops.gatescope.wavefront, given)


def test_compiles_without_a_graph_break(cell, in_waves):
    module = cell.module(I, H, 2, backend="triton", **cell.options)
    x = torch.randn(4, B, I, requires_grad=True)
    y, _ = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, module(x)[0])


def test_one_operator_runs_layers_one_after_another_too(in_waves, monkeypatch):
    """Forward side by side and backward one after another, and the other way round."""
    module, results = RNN(I, H, L, backend="triton"), []
    x = torch.randn(T, B, I, requires_grad=True)
    for ahead in (False, True, None):
        monkeypatch.setattr(wavefront, "_waves", lambda *args, ahead=ahead: args[-1] == ahead)
        if ahead is None:
            monkeypatch.setattr(wavefront, "pays", lambda *args: False)
        y = module(x)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])])
    assert len(in_waves) == 2
    for waves in results[:2]:
        for mine, expected in zip(waves, results[2], strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("backward", [False, True], ids=["as-estimated", "side-by-side"])
def test_streams_give_what_layers_give(cell, dropout, backward, monkeypatch):
    torch.manual_seed(0)
    module = cell.module(64, 512, 3, dropout=dropout, device="cuda", dtype=torch.bfloat16, **cell.options)
    x = torch.randn(200, 128, 64, device="cuda", dtype=torch.bfloat16)
    assert wavefront.pays(cell.name, 3, x, 512)
    real, runs, results = wavefront._Streams, [], []
    monkeypatch.setattr(wavefront, "_Streams", lambda layers, device: runs.append(layers) or real(layers, device))
    if backward:
        monkeypatch.setattr(wavefront, "_waves", lambda *args: True)
    for pays in (wavefront.pays, lambda *args: False):
        monkeypatch.setattr(wavefront, "pays", pays)
        torch.manual_seed(5)
        y, _ = module(x)
        results.append([y, *torch.autograd.grad(y.float().square().sum(), list(module.parameters()))])
    assert len(runs) == 2 and runs.count(3) >= (2 if backward else 1)
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())
