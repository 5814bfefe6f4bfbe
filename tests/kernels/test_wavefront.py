"""wavefront.py: layers side by side give the results of layers one after another."""

import importlib

import pytest
import torch

pytest.importorskip("triton")

from gatescope.kernels import dropout, rnn_fused, schedule, wavefront, wavefront_walk
from gatescope.kernels.gpu import H200
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.plan import Plan
from gatescope.kernels.rnn import RNN
from gatescope.kernels.stack import RecurrentStack

T, B, I, H, L = 5, 2, 3, 9, 3


@pytest.fixture
def in_waves(monkeypatch):
    """Make layers run side by side here, in chunks that do not divide T, and count how often."""
    runs = []
    # Step by step: persistent kernels apply dropout themselves, which on a CPU draws other numbers.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(wavefront_walk, "CHUNK", 2)
    monkeypatch.setattr(wavefront_walk, "waves", lambda cell, layers, *rest: runs.append(cell) or layers > 1)
    return runs


def apart(monkeypatch):
    """Make every layer a separate operator."""
    monkeypatch.setattr(RecurrentStack, "_runs_as_wavefront", lambda *args: False)


def pair(cell, monkeypatch, steps=T, rows=B, layers=L, **options):
    """A module's results as a wavefront and layer after layer, with the same random numbers."""
    torch.manual_seed(0)
    module = cell.module(I, H, layers, backend="triton", **options, **cell.options)
    # In batch-major layout, as batch_first gives it.
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
        apart(patch)
        alone = run()
    return waves, alone


@pytest.mark.parametrize("options", [{"bias": False}, {"dropout": 0.4}], ids=["no-bias", "dropout"])
def test_every_output_and_gradient_equals_layer_by_layer(cell, options, in_waves, monkeypatch, equal_but_for_rounding):
    waves, layers = pair(cell, monkeypatch, **options)
    assert in_waves
    for k, (mine, expected) in enumerate(zip(waves, layers, strict=True)):
        equal_but_for_rounding(k, mine, expected, T * B)


@pytest.mark.parametrize(("p", "columns"), [(0.4, 2), (0.0, 1)])
def test_persistent_kernels_apply_dropout_themselves(cell, p, columns, in_waves, monkeypatch, equal_but_for_rounding):
    from gatescope.kernels.dropout_kernel import drop

    # With two columns there are two groups of rows, too: what a program drops depends on where its rows begin.
    layout = Plan("persistent", 16, 16, 16, 1, 1, 1) if columns == 1 else Plan("persistent", 16, 8, 16, 1, 2, 2, 1)
    rows, steps = (2, 3) if columns == 1 else (18, 2)
    monkeypatch.setattr(wavefront_walk, "CHUNK", steps - 1)
    module = importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
    monkeypatch.setattr(module, "layer_plan", lambda *args, **options: layout)

    def kept(shape, seed, p, layer, first_row):
        return drop(torch.ones(shape), torch.tensor([seed]), p, layer, first_row) != 0

    # Layers one after another apply dropout in a separate operator, which draws other numbers on a CPU.
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
        apart(patch)
        torch.testing.assert_close(y, module(packed)[0].data, rtol=1e-5, atol=1e-6)


def test_diagonals_visit_every_chunk_once_and_in_order():
    wavefront_chunks = list(wavefront_walk._diagonals(3, 60, 25))
    assert len(wavefront_chunks) == 9 and len({(place, chunk) for place, chunk, *_ in wavefront_chunks}) == 9
    seen = set()
    for place, chunk, start, stop in wavefront_chunks:
        assert place == 0 or (place - 1, chunk) in seen
        assert chunk == 0 or (place, chunk - 1) in seen
        assert (start, stop) == (chunk * 25, min(chunk * 25 + 25, 60))
        seen.add((place, chunk))


def option_of(cell):
    options = {"lstm": "", "gru": "after" if cell.options.get("reset_after", True) else "before"}
    return options.get(cell.name, cell.options.get("nonlinearity", "tanh"))


def test_opcheck(cell, resets, in_waves):
    module = cell.module(2, 4, 2, **cell.options)
    x, states = (
        torch.randn(4, 2, 2, requires_grad=True),
        [torch.randn(2, 2, 4, requires_grad=True) for _ in cell.states],
    )
    weights = [p.detach().requires_grad_() for p in module.parameters()]
    given = (cell.name, option_of(cell), x, states, weights, resets(2, 4), [torch.tensor([3])], 0.3, True)
    torch.library.opcheck(torch.ops.gatescope.wavefront, given)


def test_compiles_without_a_graph_break(cell, monkeypatch, nothing_compiled):
    """The code that decides how layers run asks for the device's name and reads a file, which cannot be traced."""
    asked = []

    @torch.compiler.disable
    def name(device):
        asked.append(device)
        return "a GPU"

    def on_a_gpu(cell, layers, x, hidden, backward):
        return schedule.side_by_side(cell, layers, backward, (*x.shape[:2], hidden), x.dtype, H200, name(x.device))

    monkeypatch.setattr(wavefront_walk, "waves", on_a_gpu)
    module = cell.module(I, H, 2, backend="triton", **cell.options)
    x = torch.randn(4, B, I, requires_grad=True)
    y, _ = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    assert len(asked) == 1
    torch.testing.assert_close(y, module(x)[0])
    gradients = [torch.autograd.grad(o.sum(), [x, *module.parameters()]) for o in (y, module(x)[0])]
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.fixture
def nothing_compiled():
    """All modules share the code of `forward`, which torch compiles for at most eight of them."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.cuda
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_compiles_on_a_gpu_without_a_graph_break(cell, compiler, nothing_compiled):
    torch.manual_seed(0)
    module = cell.module(64, 512, 3, dropout=0.3, device="cuda", dtype=torch.bfloat16, **cell.options)
    x = torch.randn(60, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    results = []
    for run in (module, torch.compile(module, fullgraph=True, backend=compiler)):
        torch.manual_seed(1)
        y = run.eval()(x)[0]
        results.append([y, *torch.autograd.grad(y.float().square().sum(), [x, *module.parameters()])])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())
    module.train()
    assert torch.compile(module, fullgraph=True, backend=compiler)(x)[0].isfinite().all()


@pytest.mark.cuda
def test_opcheck_on_a_gpu(cell):
    module = cell.module(64, 128, 3, device="cuda", dtype=torch.bfloat16, **cell.options)
    x = torch.randn(60, 16, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    states = [torch.randn(3, 16, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in cell.states]
    weights, seeds = [p.detach().requires_grad_() for p in module.parameters()], [torch.tensor([k]) for k in (3, 4)]
    given = (cell.name, option_of(cell), x, states, weights, None, [seed.cuda() for seed in seeds], 0.3, True)
    torch.library.opcheck(torch.ops.gatescope.wavefront, given)


def test_second_derivative_error_recommends_the_reference(cell):
    """And the reference that is named runs."""
    x = torch.randn(2, B, I, requires_grad=True)

    def first(backend):
        module = cell.module(I, H, 2, backend=backend, **cell.options)
        return torch.autograd.grad(module(x)[0].pow(3).sum(), x, create_graph=True)[0]

    with pytest.raises(RuntimeError, match=r"gatescope::wavefront has no second derivative.*backend='reference'"):
        first("triton").sum().backward()
    first("reference").sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


FROZEN = {
    "everything": (lambda m, x: None, 3, 3),
    "input": (lambda m, x: x.requires_grad_(False), 3, 2),
    "lowest layer": (lambda m, x: [x.requires_grad_(False), *frozen(m, 1)], 2, 1),
    "lower layers": (lambda m, x: [x.requires_grad_(False), *frozen(m, 2)], 1, 0),
    "all weights": (lambda m, x: frozen(m, 3), 3, 3),
}


def frozen(module, layers):
    return [weight.requires_grad_(False) for weights in module.all_weights[:layers] for weight in weights]


@pytest.mark.parametrize("beside", [False, True], ids=["one-after-another", "side-by-side"])
@pytest.mark.parametrize("name", FROZEN)
def test_backward_stops_at_the_lowest_layer_that_needs_a_gradient(name, beside, monkeypatch):
    freeze, n_walks, n_inputs = FROZEN[name]
    monkeypatch.setattr(wavefront_walk, "waves", lambda cell, layers, *rest: beside and layers > 1)
    torch.manual_seed(0)
    module, x = RNN(I, H, L, backend="triton", dropout=0.3), torch.randn(T, B, I, requires_grad=True)

    def gradients():
        torch.manual_seed(1)
        leaves = [leaf for leaf in (x, *module.parameters()) if leaf.requires_grad]
        return dict(zip(map(id, leaves), torch.autograd.grad(module(x)[0].square().sum(), leaves), strict=True))

    expected = gradients()
    freeze(module, x)
    walks, products = [], []
    for method, calls in (("retreat", walks), ("input_gradient", products)):
        real = getattr(rnn_fused.Backward, method)
        monkeypatch.setattr(
            rnn_fused.Backward, method, lambda *args, real=real, calls=calls: calls.append(1) or real(*args)
        )
    found = gradients()
    assert (len(walks), len(products)) == (n_walks, n_inputs)
    assert found and all(torch.equal(gradient, expected[leaf]) for leaf, gradient in found.items())


def test_backward_reaches_initial_states_that_need_gradients(cell, in_waves):
    module = cell.module(I, H, L, backend="triton", **cell.options)
    frozen(module, L)
    states = [torch.randn(L, B, H, requires_grad=True) for _ in cell.states]
    y, _ = module(torch.randn(T, B, I), tuple(states) if len(states) > 1 else states[0])
    for gradient in torch.autograd.grad(y.sum(), states):
        assert all(layer.any() for layer in gradient)


def functional(**changed):
    """Arguments of the functional form, with some changed."""
    module, x = RNN(I, H, 2), torch.randn(T, B, I)
    given = {"cell": "rnn", "option": "tanh", "x": x, "states": [torch.zeros(2, B, H)]}
    given |= {"weights": [weight.detach() for weight in module.parameters()]}
    return given | {name: change(given.get(name)) for name, change in changed.items()}


BAD = {
    "cell": ({"cell": lambda c: "nn"}, "expected a cell and its option .*, got 'nn' and 'tanh'"),
    "option": ({"option": lambda o: "elu"}, "rnn: 'tanh' or 'relu'.*, got 'rnn' and 'elu'"),
    "states": ({"states": lambda s: [s[0][0]]}, r"states: expected h of shape \[L, B, H\] each, got \[\[2, 9\]\]"),
    "states of fewer layers": (
        {
            "cell": lambda c: "lstm",
            "option": lambda o: "",
            "states": lambda s: [s[0], s[0][:1]],
        },
        r"states: expected h and c of shape \[L, B, H\] each, got \[\[2, 2, 9\], \[1, 2, 9\]\]",
    ),
    "states too many": ({"states": lambda s: s * 2}, "states: expected h of shape"),
    "rows": ({"states": lambda s: [s[0][:, 1:]]}, r"state h of layer 0: expected shape \[2, 9\], got \[1, 9\]"),
    "weights": ({"weights": lambda w: w[1:]}, "weights: expected 4 or 8, got 7"),
    "upper weight": ({"weights": lambda w: [*w[:4], w[0], *w[5:]]}, r"weight_ih: expected shape \[9, 9\], got"),
    "seeds": ({"seeds": lambda s: [torch.tensor([1])] * 2}, "expected no seeds or 1 .*, got 2 seeds"),
    "share": ({"p": lambda p: 1.0}, "0 <= p < 1, got 0 seeds and p = 1.0"),
    "reset": ({"reset": lambda r: torch.zeros(B, T, dtype=torch.bool)}, r"reset: expected bool \[5, 2\]"),
    "dtype": ({"x": lambda x: x.double()}, "expected torch.float64 on cpu, as x, got torch.float32"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        wavefront.wavefront(**functional(**change))


@pytest.mark.parametrize("name", [name for name in BAD if name != "dtype"])
def test_the_operator_itself_checks_what_its_kernels_do_not(name):
    """A dtype may differ there: under autocast a state may stay wider than x."""
    change, message = BAD[name]
    given = {"reset": None, "seeds": [], "p": 0.0, "save": True}
    message = message.replace("state h of layer 0", "state 0")
    with pytest.raises(ValueError, match=message):
        torch.ops.gatescope.wavefront(**given | functional(**change))


def test_the_functional_form_equals_the_module(equal_but_for_rounding):
    given = functional()
    module = RNN(I, H, 2, backend="loop")
    for parameter, weight in zip(module.parameters(), given["weights"], strict=True):
        parameter.data.copy_(weight)
    layers = wavefront.wavefront(**given)
    expected = module(given["x"], capture=("h",))[2]["h"]
    for (y,), h in zip(layers, expected, strict=True):
        equal_but_for_rounding("h", y, h, T * H)


def test_one_operator_also_runs_layers_one_after_another(monkeypatch):
    """Forward side by side and backward one after another, the other way round, and both one after another."""
    module, results = RNN(I, H, L, backend="triton"), []
    x = torch.randn(T, B, I, requires_grad=True)
    for beside in ((False,), (True,), (), None):
        monkeypatch.setattr(wavefront_walk, "waves", lambda *args, beside=beside: args[-1] in beside)
        if beside is None:
            apart(monkeypatch)
        y = module(x)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])])
    for waves in results[:3]:
        for mine, expected in zip(waves, results[3], strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both"])
def test_streams_equal_layers_one_after_another(cell, dropout, backward, monkeypatch):
    torch.manual_seed(0)
    module = cell.module(64, 512, 3, dropout=dropout, device="cuda", dtype=torch.bfloat16, **cell.options)
    x = torch.randn(200, 128, 64, device="cuda", dtype=torch.bfloat16)
    real, runs, results = wavefront_walk._Streams, [], []
    monkeypatch.setattr(wavefront_walk, "_Streams", lambda layers, device: runs.append(layers) or real(layers, device))
    monkeypatch.setattr(wavefront_walk, "waves", lambda *args: backward or not args[-1])
    for together in (True, False):
        if not together:
            apart(monkeypatch)
        torch.manual_seed(5)
        y, _ = module(x)
        results.append([y, *torch.autograd.grad(y.float().square().sum(), list(module.parameters()))])
    assert runs == ([3, 3] if backward else [3, 1, 1, 1])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())


@pytest.mark.cuda
def test_layers_side_by_side_do_not_accumulate_memory(monkeypatch):
    monkeypatch.setattr(wavefront_walk, "waves", lambda *args: True)
    module = LSTM(64, 512, 3, device="cuda", dtype=torch.bfloat16)
    x, reserved = torch.randn(100, 128, 64, device="cuda", dtype=torch.bfloat16), []
    for _ in range(40):
        module(x)[0].float().square().sum().backward()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[3]
