"""Reference gradients of a rectifier: exact, with the slope at its jump taken from the states that were found.

A rectifier's slope jumps at zero. An argument within rounding error of zero is positive in one precision and not in
another. That changes a gradient by a whole weight, which is no multiple of the error of a yardstick that meets the jump
elsewhere. So gradients are judged by exact ones, in float64, with the slopes of the states that were found. Whether
those are on the right side is decided by the rule for the states.
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
    """Runs torch.relu unchanged, but going back with slope one where the given state is positive, call by call.

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
    """The captured h of a module [L*D, T, B, H] step by step, as its layers run, with the other direction reversed.

    Args:
        captured: with zero padding.
        bidirectional: whether every second one is of the other direction.
        lengths: [B], of packed sequences.
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
