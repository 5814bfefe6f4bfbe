"""Single steps with torch.nn's interface: LSTMCell, GRUCell and RNNCell.

The equations are those of `gatescope.kernels.lstm`, `.gru` and `.rnn`. A step runs in torch's own cell operators, which
on a GPU fuse all gates of an LSTM or GRU in one kernel after the two products; an Elman step has one activation and
nothing to fuse. The GRU of Cho et al. (2014), which torch lacks, runs in the layer of this package and its fused
kernels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gatescope.kernels.checks import N_GATES, ShapeError, check_kind, check_tensor, told
from gatescope.kernels.gru import gru
from gatescope.kernels.rnn import check_nonlinearity


class RecurrentCell(nn.Module):
    """One step of a recurrent network; the base of LSTMCell, GRUCell and RNNCell.

    Args:
        input_size: I, features of the input.
        hidden_size: H, units.
        bias: whether the two bias vectors exist.
        device, dtype: of the parameters.
    """

    n_gates: int
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.n_gates * hidden_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight_ih, self.weight_hh = parameter(rows, input_size), parameter(rows, hidden_size)
        # Without bias they are parameters that are None, as in torch.nn.
        self.register_parameter("bias_ih", parameter(rows) if bias else None)
        self.register_parameter("bias_hh", parameter(rows) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), in the order and from the generator of torch.nn."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")

    def _batched(self, input: Tensor, states: tuple[Tensor, ...] | None, n_states: int) -> tuple[Tensor, ...]:
        """The input as [B, I] and the states as [B, H], zero by default; either may have been given as a single row."""
        name = type(self).__name__
        check_tensor(name, "input", input)
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        x = input.unsqueeze(0) if input.dim() == 1 else input
        if x.shape[1] != self.input_size:
            raise ShapeError(f"{name}: input.size(-1): expected input_size {self.input_size}, got {x.shape[1]}")
        check_kind(name, "input", x, self.weight_ih, "the weights")
        if states is None:
            return x, *(x.new_zeros(x.shape[0], self.hidden_size) for _ in range(n_states))
        expected = (*input.shape[:-1], self.hidden_size)
        if not isinstance(states, tuple | list) or len(states) != n_states:
            raise ShapeError(f"{name}: hidden: expected {n_states} tensors in a tuple, got {told(states)}")
        for state in states:
            check_tensor(name, "hidden", state)
            check_kind(name, "hidden", state, x, "the input")
            if tuple(state.shape) != expected:
                raise ShapeError(f"{name}: hidden: expected shape {list(expected)}, got {list(state.shape)}")
        return x, *(state.unsqueeze(0) if input.dim() == 1 else state for state in states)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh


class LSTMCell(RecurrentCell):
    """One step of an LSTM, as torch.nn.LSTMCell: gate order i, f, g, o."""

    n_gates = N_GATES["lstm"]

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Take a step.

        Args:
            input: [B, I] or [I].
            hx: h and c, [B, H] or [H] each; zero by default.

        Returns:
            h and c after the step, shaped like hx.

        Raises:
            ValueError: for a shape, dtype or device that does not fit.
        """
        x, h, c = self._batched(input, hx, 2)
        h, c = torch.lstm_cell(x, (h, c), *self._weights())
        return (h, c) if input.dim() == 2 else (h.squeeze(0), c.squeeze(0))


class GRUCell(RecurrentCell):
    """One step of a GRU, as torch.nn.GRUCell: gate order r, z, n.

    Args:
        reset_after: whether the reset gate multiplies after the recurrent product, as in torch.nn, or before it.
    """

    n_gates = N_GATES["gru"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
    ):
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.reset_after = reset_after

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Take a step.

        Args:
            input: [B, I] or [I].
            hx: h, [B, H] or [H]; zero by default.

        Returns:
            h after the step, shaped like hx.

        Raises:
            ValueError: for a shape, dtype or device that does not fit.
        """
        x, h = self._batched(input, None if hx is None else (hx,), 1)
        if self.reset_after:
            h = torch.gru_cell(x, h, *self._weights())
        else:
            h = gru(x.unsqueeze(0), h, *self._weights(), reset_after=False, gates=False)[0].squeeze(0)
        return h if input.dim() == 2 else h.squeeze(0)


class RNNCell(RecurrentCell):
    """One step of an Elman network, as torch.nn.RNNCell.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    n_gates = N_GATES["rnn"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Take a step; arguments, result and errors are those of GRUCell."""
        x, h = self._batched(input, None if hx is None else (hx,), 1)
        check_nonlinearity("RNNCell", self.nonlinearity)
        step = torch.rnn_tanh_cell if self.nonlinearity == "tanh" else torch.rnn_relu_cell
        h = step(x, h, *self._weights())
        return h if input.dim() == 2 else h.squeeze(0)
