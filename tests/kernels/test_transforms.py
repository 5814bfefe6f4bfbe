"""What torch does with a module besides calling it: torch.func, forward mode, batched gradients, tracing, export."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from stacks import B, H, I, T
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jvp, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatescope.kernels.cells import GRUCell
from gatescope.kernels.dropout import dropout
from gatescope.kernels.gru import GRU
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.products import onednn_multiplies_bfloat16


def pair(cell, **form):
    """A module that chooses its backend and one in plain torch, float64, with the same weights."""
    torch.manual_seed(0)
    mine, plain = (cell.module(I, H, **form, **cell.options).double() for _ in range(2))
    plain.load_state_dict(mine.state_dict())
    plain.backend = "reference"
    return mine, plain


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("capture", [(), ("h",)], ids=["plain", "captured"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_forward_mode_equals_a_difference_quotient(cell, capture, frozen):
    """Tangents of torch.func.jvp and of a dual level, against a difference of values."""
    module = pair(cell, num_layers=2, bidirectional=True)[0].requires_grad_(not frozen)
    x, tangent = drawn(T, B, I), drawn(T, B, I, seed=2)

    def run(x):
        return module(x, capture=capture)[0]

    expected = (run(x + 1e-6 * tangent) - run(x - 1e-6 * tangent)) / 2e-6
    torch.testing.assert_close(jvp(run, (x,), (tangent,))[1], expected, rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(run(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_forward_mode_of_a_cell_and_of_dropout():
    x, tangent = drawn(B, I), drawn(B, I, seed=2)
    module = GRUCell(I, H, reset_after=False, dtype=torch.float64)
    expected = (module(x + 1e-6 * tangent) - module(x - 1e-6 * tangent)) / 2e-6
    torch.testing.assert_close(jvp(module, (x,), (tangent,))[1], expected, rtol=1e-6, atol=1e-8)
    ones = torch.ones(50, 20, 40)
    y, of_y = jvp(lambda x: dropout(x, 0.5, True, 0), (ones,), (ones,))
    assert 0 < (y == 0).sum() < y.numel() and torch.equal(of_y, y)


@pytest.mark.parametrize("backend", ["loop", "triton"])
def test_forward_mode_of_a_forced_backend_is_refused(cell, backend):
    if backend == "triton":
        pytest.importorskip("triton")
    module, x = cell.module(I, H, 2, backend=backend, **cell.options), torch.zeros(T, B, I)
    with pytest.raises(NotImplementedError, match=f"backend '{backend}': expected no forward-mode .* use backend=None"):
        jvp(lambda x: module(x)[0], (x,), (x,))


@pytest.mark.parametrize("backend", [None, "loop"])
def test_a_dual_level_does_not_change_layers_without_tangents(cell, backend):
    module, x = cell.module(I, H, 2, dropout=0.5, backend=backend, **cell.options), torch.randn(T, B, I)
    torch.manual_seed(0)
    expected = module(x)[0]
    torch.manual_seed(0)
    with forward_ad.dual_level():
        assert torch.equal(module(x)[0], expected)


@pytest.mark.parametrize("capture", [(), ("h",)], ids=["plain", "captured"])
@pytest.mark.parametrize("what", ["weight", "state"])
def test_forward_mode_of_only_a_weight_or_a_state(cell, what, capture):
    module, x = cell.module(I, H, **cell.options).double(), drawn(T, B, I)
    first = module.weight_hh_l0.detach() if what == "weight" else drawn(1, B, H, seed=3)
    tangent = drawn(*first.shape, seed=2)

    def run(given):
        if what == "weight":
            return functional_call(module, {"weight_hh_l0": given}, (x,), {"capture": capture})[0]
        return module(x, (given, given) if cell.name == "lstm" else given, capture)[0]

    expected = (run(first + 1e-6 * tangent) - run(first - 1e-6 * tangent)) / 2e-6
    # In single precision torch uses another LSTM, without such a derivative.
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 1e-5)):
        module, x, first, tangent = (each.to(dtype) for each in (module, x, first, tangent))
        with forward_ad.dual_level():
            found = forward_ad.unpack_dual(run(forward_ad.make_dual(first, tangent))).tangent
        torch.testing.assert_close(found, expected.to(dtype), rtol=100 * tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", [None, "loop"])
def test_transforms_within_a_dual_level(cell, backend):
    """A tensor that a transform wraps does not say whether it has a tangent."""
    module, x = cell.module(I, H, backend=backend, **cell.options).double(), drawn(2, T, B, I)
    expected = torch.stack([module(each)[0] for each in x])
    many = vmap(lambda each: module(each)[0])
    # jvp opens a level of its own.
    for level, call in ((forward_ad.dual_level(), lambda: many(x)), (nullcontext(), lambda: jvp(many, (x,), (x,))[0])):
        with level:
            if backend == "loop":
                with pytest.raises(NotImplementedError, match="expected no forward-mode"):
                    call()
            else:
                torch.testing.assert_close(call(), expected)


def test_a_compiled_program_within_a_dual_level(cell):
    """Neither does a traced tensor: whether compiled outside or inside the level, tangents come out."""
    module, x = cell.module(I, H, 2, **cell.options).double().requires_grad_(False), drawn(T, B, I)
    tangent = drawn(T, B, I, seed=2)
    run = torch.compile(lambda x: module(x)[0], backend="aot_eager")
    expected = (module(x + 1e-6 * tangent)[0] - module(x - 1e-6 * tangent)[0]) / 2e-6
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(run(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_reverse_mode_and_jacobians(cell):
    mine, plain = pair(cell)
    x = drawn(T, B, I).requires_grad_()
    (expected,) = torch.autograd.grad(plain(x)[0].sin().sum(), x)
    torch.testing.assert_close(grad(lambda x: mine(x)[0].sin().sum())(x), expected)
    found = jacfwd(lambda x: mine(x)[0][-1])(x)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(lambda x: plain(x)[0][-1], x))


def test_vmap_over_inputs(cell):
    mine = pair(cell, num_layers=2, dropout=0.5)[0].requires_grad_(False).eval()
    x = drawn(T, 6, I).requires_grad_()
    y = vmap(lambda row: mine(row)[0], in_dims=1, out_dims=1)(x.unsqueeze(2)).squeeze(2)
    expected = mine(x)[0]
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each.sin().sum(), x)[0] for each in (y, expected)))
    mine.train()
    assert vmap(lambda row: mine(row)[0], in_dims=1, randomness="different")(x.unsqueeze(2)).shape == (6, T, 1, H)


def test_gradients_of_every_row_and_ensembles(cell):
    modules, x = [pair(cell)[0], cell.module(I, H, **cell.options).double()], drawn(T, B, I)
    weights = dict(modules[0].named_parameters())
    found = vmap(grad(lambda w, x: functional_call(modules[0], w, (x,))[0].sum()), in_dims=(None, 1))(
        weights, x.unsqueeze(2)
    )
    for row in range(B):
        expected = torch.autograd.grad(modules[0](x[:, [row]])[0].sum(), list(weights.values()))
        for mine, other in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(mine[row], other)
    stacked, _ = stack_module_state(modules)
    y = vmap(lambda w: functional_call(modules[0], w, (x,))[0])(stacked)
    torch.testing.assert_close(y, torch.stack([module(x)[0] for module in modules]))


def test_a_compiled_program_differentiates_forward(cell):
    module, x = pair(cell)[0], drawn(2, B, I)

    def run(x):
        return jvp(lambda x: module(x, capture=("h",))[0], (x,), (torch.ones_like(x),))[1]

    torch.testing.assert_close(torch.compile(run, backend="aot_eager")(x), run(x))


@pytest.mark.parametrize("steps", [2, T], ids=["few-rows", "many-rows"])
def test_batches_of_gradients_equal_single_ones(cell, steps):
    """Through the operators as they are: one backward pass with several gradients of the output."""
    mine, plain = pair(cell)
    x, dy = drawn(steps, B, I).requires_grad_(), drawn(4, steps, B, H, seed=2)
    y = mine(x, capture=cell.outputs)[0]
    (found,) = torch.autograd.grad(y, x, dy, is_grads_batched=True)
    torch.testing.assert_close(found, torch.stack([torch.autograd.grad(plain(x)[0], x, each)[0] for each in dy]))
    found = torch.autograd.functional.jacobian(lambda x: mine(x)[0][-1], x, vectorize=True)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(lambda x: plain(x)[0][-1], x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_modules_give_the_same_and_can_be_trained(cell):
    """Also if they were traced without gradients; torch checks a trace by repeating it that way."""
    module, x = pair(cell)[0], drawn(T, B, I)
    with torch.no_grad():
        traced = torch.jit.trace(module, (x,))
    expected = torch.autograd.grad(module(x)[0].sum(), module.weight_hh_l0)
    torch.testing.assert_close(torch.autograd.grad(traced(x)[0].sum(), module.weight_hh_l0), expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("capture", [(), ("h",)], ids=["plain", "captured"])
def test_traced_modules_take_sequences_of_other_lengths(cell, capture):
    class Padded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = pair(cell, num_layers=2, bidirectional=True)[0]

        def forward(self, x, lengths):
            y, state, *more = self.layers(pack_padded_sequence(x, lengths, enforce_sorted=False), capture=capture)
            return pad_packed_sequence(y)[0], state, *(more[0].values() if capture else ())

    module = Padded()
    traced = torch.jit.trace(module, (drawn(T, B, I), torch.tensor([T, 4, 7])), check_trace=False)
    # The same total in other sequences, with other numbers of rows and steps.
    for lengths in ([T, 5, 6], [2, T, T], [3, 9, 1, 2, 9], [1]):
        given = drawn(max(lengths), len(lengths), I), torch.tensor(lengths)
        torch.testing.assert_close(traced(*given), module(*given))


@pytest.mark.parametrize("strict", [False, True])
def test_exported_modules_can_be_trained(cell, strict):
    module, x = pair(cell, num_layers=2)[0], drawn(T, B, I)
    steps = torch.export.Dim("steps", min=2, max=100)
    # In strict mode torch's LSTM keeps its number of steps.
    shapes = None if strict and cell.name == "lstm" else ({0: steps},)
    with torch.no_grad():
        exported = torch.export.export(module, (x,), dynamic_shapes=shapes, strict=strict).module()
    x = drawn(T + 3, B, I) if shapes else x
    weights = [each.get_parameter("weight_hh_l0") for each in (exported, module)]
    found, expected = (
        torch.autograd.grad(each(x)[0].sum(), w) for each, w in zip((exported, module), weights, strict=True)
    )
    torch.testing.assert_close(found, expected)


# If oneDNN does not support bfloat16 on this processor, torch's operator neither runs nor is exported.
BFLOAT16 = pytest.mark.skipif(not onednn_multiplies_bfloat16(), reason="oneDNN has no bfloat16 for this processor")


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=BFLOAT16)], ids=str)
def test_an_exported_lstm_does_not_need_this_package(dtype, tmp_path):
    module, theirs = (layer(I, H, 2, bidirectional=True, dtype=dtype) for layer in (LSTM, torch.nn.LSTM))
    theirs.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I).to(dtype)
    for strict in (False, True):
        torch.export.save(torch.export.export(module, (x,), strict=strict), tmp_path / f"{strict}.pt2")
    torch.save((x, theirs(x)[0].detach()), tmp_path / "values.pt")
    program = f"""if True:
        import sys, torch
        x, y = torch.load(r"{tmp_path / "values.pt"}")
        for strict in (False, True):
            found = torch.export.load(rf"{tmp_path}/{{strict}}.pt2").module()(x)[0]
            torch.testing.assert_close(found, y, check_stride=False)
        assert not any(name.startswith("gatescope") for name in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_compiled_modules_run_the_operator_of_this_package(name, monkeypatch):
    """A compiled module runs this package's operator, and keeps nothing for a backward pass that cannot come."""
    calls = []

    def note(graph, _):
        calls.extend(node for node in graph.graph.nodes if node.op == "call_function")
        return graph

    module, operator = {"lstm": LSTM, "gru": GRU}[name](I, H), getattr(torch.ops.gatescope, name).default
    compiled = torch.compile(module, backend=note, fullgraph=True)
    # What torch 2.11 answers while it compiles.
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with torch.no_grad():
        compiled(torch.randn(20, B, I))
    (call,) = (node for node in calls if node.target is operator)
    save = [argument.name for argument in operator._schema.arguments].index("save")
    assert call.args[save] is False
