"""The gradients that results of a rectifier are judged by: those of the sides of its jump on which its states are.

A rectifier's slope jumps at zero. What comes within a rounding of it is above in one precision and not above in
another, which changes a gradient by a whole weight, and by no multiple of what a yardstick, which meets the jump
elsewhere, is wrong by. So gradients are judged by exact ones, in float64, with the slopes of the states that were
found. Whether those are on the right side, the rule for the states says.
"""

import torch
from torch.overrides import TorchFunctionMode


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, above):
        ctx.save_for_backward(above)
        return torch.relu(a)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None


class SlopesOf(TorchFunctionMode):
    """Runs torch.relu as it is, but going back with slope one where the state found is above zero, call by call.

    Args:
        states: [B, H] of every step, in the order of the calls.
    """

    def __init__(self, states):
        super().__init__()
        self._above = iter([each > 0 for each in states])

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.relu:
            return _Rectifier.apply(*args, next(self._above))
        return function(*args, **(kwargs or {}))

    def __exit__(self, *exception):
        super().__exit__(*exception)
        assert exception[0] or next(self._above, None) is None, "a state that no call has given"


def steps_of(captured, bidirectional=False, lengths=None):
    """The captured h of a module [L*D, T, B, H] step by step, as its layers run: the other direction turned round.

    Args:
        captured: padding is zero.
        bidirectional: every second of them is of the other direction.
        lengths: [B], of sequences that were packed.
    """
    n_steps, n_rows = captured.shape[1:3]
    ends = torch.tensor([n_steps] * n_rows if lengths is None else lengths)
    t = torch.arange(n_steps).unsqueeze(1)
    turned, rows = (
        torch.where(t < ends, ends - 1 - t, t).to(captured.device),
        torch.arange(n_rows, device=captured.device),
    )
    for k, steps in enumerate(captured):
        yield from steps[turned, rows] if bidirectional and k % 2 else steps
