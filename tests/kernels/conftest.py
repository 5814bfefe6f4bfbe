"""The cells that every kernel test runs over, and the rules by which their results are judged."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from rectifier import SlopesOf

from gatescope.kernels.gru import GRU, gru, gru_reference
from gatescope.kernels.lstm import LSTM, lstm, lstm_reference
from gatescope.kernels.rnn import RNN, rnn, rnn_reference


@pytest.fixture
def within_rule():
    """Judge results by float64 oracles and yardsticks, which are plain implementations of the same precision.

    error(result) <= 2 error(yardstick) + 4 eps, where error = max|difference| / rms(oracle), as in flash-attention's
    tests (Dao et al. 2022): a result that rounds at most twice as much as a plain program is right. Maximum and rms are
    taken over a few draws of the inputs, since the largest of a handful of rounding errors is a matter of luck.
    """

    def error(values, oracles):
        scale = torch.cat([oracle.flatten() for oracle in oracles]).square().mean().sqrt().item()
        largest = max(
            (value.double() - oracle).abs().max().item() for value, oracle in zip(values, oracles, strict=True)
        )
        return largest / scale if scale > 0 else largest

    def check(draws):
        for name in draws[0][2]:
            mine, plain, *both = ([results[name] for results in part] for part in zip(*draws, strict=True))
            oracles, own = both[0], both[-1]
            for result, yardstick, oracle in zip(mine, plain, oracles, strict=True):
                assert result.dtype == yardstick.dtype, name
                assert result.shape == oracle.shape, name
            allowed = 2 * error(plain, own) + 4 * torch.finfo(mine[0].dtype).eps
            assert error(mine, oracles) <= allowed, f"{name}: error {error(mine, oracles):.3g}, allowed {allowed:.3g}"

    return check


@pytest.fixture
def equal_but_for_rounding():
    """Judge two results of the same sums: within n roundings of the largest value, with n the terms of a sum.

    The bound n eps is that of Higham (2002), Accuracy and Stability of Numerical Algorithms, section 3.1.
    """

    def check(name, result, expected, terms):
        assert result.dtype == expected.dtype, name
        assert result.shape == expected.shape, name
        bound = terms * torch.finfo(expected.dtype).eps * max(1.0, expected.abs().max().item())
        error = (result - expected).abs().max().item()
        assert error <= bound, f"{name}: difference {error:.3g}, allowed {bound:.3g}"

    return check


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent layer, its reference and its counterpart in torch.nn."""

    name: str
    module: type
    function: Callable
    reference: Callable
    n_gates: int  # blocks of rows in the weights
    states: tuple[str, ...]
    peer: type | None  # of torch.nn
    options: dict = field(default_factory=dict)

    @property
    def gated(self):
        return self.n_gates > 1

    @property
    def outputs(self):
        return (*self.states, "gates") if self.gated else self.states

    @property
    def jumps(self):
        """Whether a gradient depends on the side of a jump."""
        return self.options.get("nonlinearity") == "relu"

    @property
    def operator(self):
        return getattr(torch.ops.gatescope, self.name)

    def layer(self, b, t, i, h, dtype=torch.float64, bias=True, seed=0):
        """x, the initial states and the weights of one layer, as leaves that require gradients."""
        generator = torch.Generator().manual_seed(seed)
        rows = self.n_gates * h
        shapes = [(t, b, i), *[(b, h)] * len(self.states), (rows, i), (rows, h), *([(rows,)] * 2 if bias else [])]
        scales = [1.0] * (1 + len(self.states)) + [max(h, 1) ** -0.5] * 4
        return [
            (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
            for shape, scale in zip(shapes, scales, strict=False)
        ]

    def results(self, run, tensors, seed=1, **options):
        """The results of a run, and the gradients of all its inputs under a random weighting of all its outputs."""
        outputs = run(*tensors, **self.options, **options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(seed)
        weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
        gradients = torch.autograd.grad(outputs, tensors, weights)
        names = ["dx", *(f"d{s}0" for s in self.states), "dw_ih", "dw_hh", "db_ih", "db_hh"]
        return dict(zip((*self.outputs, *names), (*outputs, *gradients), strict=False))

    def judged(self, mine, plain, tensors, **options):
        """Results and those of a yardstick, with the oracle that judges them: a draw for `within_rule`."""

        def oracle():
            return self.results(self.reference, [x.detach().double().requires_grad_() for x in tensors], **options)

        if not self.jumps:
            return mine, plain, oracle()
        oracles = []
        for each in (mine, plain):
            with SlopesOf(each["h"]):
                oracles.append(oracle())
        return mine, plain, *oracles


CELLS = [
    Cell("lstm", LSTM, lstm, lstm_reference, 4, ("h", "c"), torch.nn.LSTM),
    Cell("gru", GRU, gru, gru_reference, 3, ("h",), torch.nn.GRU),
    Cell("gru", GRU, gru, gru_reference, 3, ("h",), None, {"reset_after": False}),
    Cell("rnn", RNN, rnn, rnn_reference, 1, ("h",), torch.nn.RNN),
    Cell("rnn", RNN, rnn, rnn_reference, 1, ("h",), torch.nn.RNN, {"nonlinearity": "relu"}),
]


IDS = ["lstm", "gru", "gru-before", "rnn", "rnn-relu"]


@pytest.fixture(params=CELLS, ids=IDS)
def cell(request):
    return request.param


@pytest.fixture(params=[c for c in CELLS if c.peer], ids=[name for name, c in zip(IDS, CELLS, strict=True) if c.peer])
def peered(request):
    """A cell that torch.nn has too."""
    return request.param


@pytest.fixture(params=[c for c in CELLS if c.gated], ids=[name for name, c in zip(IDS, CELLS, strict=True) if c.gated])
def gated(request):
    """A cell with gates."""
    return request.param


FORMS = {
    "plain": {},
    "3-layers": {"num_layers": 3},
    "no-bias": {"num_layers": 2, "bias": False},
    "batch-first": {"batch_first": True},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
}


@pytest.fixture(params=FORMS)
def form(request):
    """Options of a stack of layers."""
    return FORMS[request.param]


@pytest.fixture
def resets():
    """A mask [T, B] of the places where sequences begin anew, including the first step of the first row."""

    def draw(b, t, seed=2):
        mask = torch.rand(t, b, generator=torch.Generator().manual_seed(seed)) < 0.2
        mask[0, 0] = True
        return mask

    return draw


@pytest.fixture(params=[1, 3], ids=["one-thread", "three-threads"])
def threads(request):
    """Make torch count this many cores, over which a compiled walk shares out the rows of a batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
