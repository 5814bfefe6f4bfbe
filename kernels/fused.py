"""The host side of the fused time loops of all cells: launches over rows and time, and the products around them.

If one launch does not cover the B rows of a layer, several run one after another, each over all steps. Triton's
interpreter runs programs one after another, so that they could not wait for each other: there a launch covers one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import triton
from torch import Tensor

from gatescope.kernels.backend import interpreting
from gatescope.kernels.dropout import drop_steps, first_row_of
from gatescope.kernels.gpu import device_of
from gatescope.kernels.grid import Launch, counters
from gatescope.kernels.plan import Plan
from gatescope.kernels.recording import recording
from gatescope.kernels.schedule import share_plan
from gatescope.kernels.time_blocks import blocks

STEP_BLOCK = 256  # units in a program of a pointwise step


@dataclass(frozen=True)
class Above:
    """The connection of a layer to the one above it, which reads its states after dropout.

    On the way forward the layer fills the values, which the layer above reads; on the way back they are the gradient of
    that layer's input.
    """

    values: Tensor  # [T, B, H]; going back, only the steps reached so far need to be filled
    seed: Tensor | None  # of the mask, int64 [1]; None without dropout
    p: float  # share that is dropped
    layer: int  # number of the lower layer

    def dropped(self, x: Tensor, first_step: int) -> Tensor:
        """Drop entries of the steps from first_step on, [steps, B, H]."""
        return x if self.seed is None else drop_steps(x, self.seed, self.p, self.layer, first_step)

    def fill(self, states: Tensor, first_step: int) -> None:
        """Write the states [steps, B, H] from first_step on as input of the layer above."""
        self.values[first_step : first_step + len(states)] = self.dropped(states, first_step)

    def gradient(self, start: int, stop: int) -> Tensor:
        """The gradient of the states from start to stop, going back."""
        return self.dropped(self.values[start:stop], start)


def from_caller(dy: Tensor | None, above: Above | None, y: Tensor) -> Tensor | None:
    """The caller's gradient of the states, for the kernels; zeros if neither the caller nor a layer above gives one."""
    if dy is None:
        return y.new_zeros(y.shape) if above is None else None
    return dy.contiguous()


def read_gradient(dy: Tensor | None, above: Above | None, start: int, stop: int) -> Tensor:
    """The gradient of the states from start to stop, [steps, B, H], summed over all their readers."""
    if above is None:
        assert dy is not None
        return dy[start:stop]
    down = above.gradient(start, stop)
    return down if dy is None else down + dy[start:stop]


def layer_plan(cell: str, backward: bool, n_rows: int, hidden: int, x: Tensor, share: int = 1) -> Plan:
    """The plan of one layer in one direction, on its share of the device of x."""
    return share_plan(cell, share, backward, (len(x), n_rows, hidden), x.dtype, device_of(x), recording(x))


def persistent(
    kernel: Any,
    layout: Plan,
    tensors: dict[str, Tensor | None],
    sizes: dict[str, int],
    above: Above | None,
    like: Tensor,
    **constants: Any,
) -> Launch:
    """A persistent kernel on the tensors of a layer; `run` fills in time, rows and counters.

    Args:
        kernel: takes the tensors, those of `above`, sizes and constants.
        layout: the layer's plan.
        tensors: by name.
        sizes: n_rows, and other integers on which the kernel is not specialised.
        above: the input of the layer above, or its gradient, if there is one.
        like: [..., H].
        constants: of the cell.
    """
    between: dict[str, Any] = {"above_ptr": None, "seed_ptr": None}
    if above is not None:
        between = {"above_ptr": above.values, "seed_ptr": above.seed}
    sizes = sizes | {"first_row": first_row_of(sizes["n_rows"]), "layer": 0 if above is None else above.layer}
    tiles = {"H": like.shape[-1], "BLOCK_B": layout.block_b, "BLOCK_H": layout.block_h, "BLOCK_K": layout.block_k}
    tiles |= {"PARTS": layout.parts, "AHEAD": layout.ahead, "WARP_GROUPS": layout.warp_groups}
    tiles |= {"COLUMNS": layout.columns, "RESIDENT": layout.resident}
    return Launch(
        kernel,
        (layout.groups, layout.columns),
        {**tensors, **between, "counter_ptr": None, "t0": 0, "t1": 0, "row0": 0, **sizes},
        {**tiles, **constants, "P": above.p if above else 0.0},
        layout.columns > 1,
        layout.warps,
    )


def run(
    launch: Launch, layout: Plan, start: int, stop: int, n_rows: int, backward: bool = False, phases: int = 1
) -> None:
    """Run a persistent kernel over all rows and some steps, from the last to the first if backward.

    Args:
        launch: the result of `persistent`.
        layout: its plan.
        start, stop: the first step and the one after the last.
        n_rows: B.
        backward: the direction.
        phases: parts of a step with a barrier between them.
    """
    for row0 in range(0, n_rows, layout.rows):
        # Programs of one column wait for no others.
        zeros = counters(layout.groups, launch.arguments["w_ptr"]) if layout.columns > 1 else None
        if not interpreting():
            launch(counter_ptr=zeros, t0=start, t1=stop, row0=row0)
            continue
        for t in reversed(range(start, stop)) if backward else range(start, stop):
            for phase in range(phases):
                only = {"PHASE": phase} if phases > 1 else {}
                launch(counter_ptr=zeros, t0=t, t1=t + 1, row0=row0, **only)


def pointwise_step(
    kernel: Any, tensors: dict[str, Tensor | None], sizes: dict[str, int], like: Tensor, **constants: Any
) -> Launch:
    """A pointwise kernel of one step on the tensors of all steps; a warp loads 16 bytes a thread.

    Args:
        kernel: takes the tensors, the step, the sizes and the constants.
        tensors: by name.
        sizes: integers on which the kernel is not specialised.
        like: [T, B, H].
        constants: of the cell.
    """
    n_rows, hidden = like.shape[1:]
    given = {**tensors, "t": 0, **sizes}
    constants = {"H": hidden, "BLOCK": STEP_BLOCK, **constants}
    return Launch(kernel, (n_rows, triton.cdiv(hidden, STEP_BLOCK)), given, constants, warps=1)


def step_of(x: Tensor | None, t: int) -> Tensor | None:
    """Step t of an optional array [T, ...], or None."""
    return None if x is None else x[t]


def cleared(state: Tensor, rows: Tensor | None) -> Tensor:
    """States [..., B, H] with zeros in the rows of a mask [..., B] bool, if there is one."""
    return state if rows is None else state.masked_fill(rows.unsqueeze(-1), 0)


def input_gradient(da: Tensor, w_ih: Tensor, out: Tensor) -> None:
    """Write the gradient of x, contiguous [T, B, I], from that of its product with w_ih, [T, B, R], any row stride."""
    flat = da.flatten(0, 1)
    torch.mm(flat, w_ih, out=out.view(len(flat), out.shape[2]))


def bias_gradient(da: Tensor) -> Tensor:
    """The gradient of a bias [R], in float32, from that of the sum it is added to [T, B, R]."""
    return da.sum((0, 1), dtype=torch.float32)


def weight_gradient(da: Tensor, inputs: Tensor) -> Tensor:
    """The gradient [R, C] of a weight from that of its product [T, B, R] and its inputs [T, B, C].

    One product sums all rows in one running total. In 16 bits the rounding of the factors hides the error of that; in
    float32, blocks of steps are summed separately.
    """
    if da.dtype != torch.float32:
        return da.flatten(0, 1).t() @ inputs.flatten(0, 1)
    total = da.new_zeros(da.shape[2], inputs.shape[2])
    for start, stop in blocks(len(da)):
        total.addmm_(da[start:stop].flatten(0, 1).t(), inputs[start:stop].flatten(0, 1))
    return total


class WayBack(Protocol):
    """A layer's backward pass."""

    def retreat(self, start: int, stop: int) -> None:
        """Run the steps from stop - 1 down to start."""

    def input_gradient(self, start: int, stop: int, out: Tensor) -> None:
        """Write the gradient of x from start to stop."""

    def results(self, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """The gradients of everything else; None for those not needed."""


def gradients_of(layer: WayBack, x: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Run a layer back through all steps and return the gradients of x and all else, None for those not needed."""
    layer.retreat(0, len(x))
    dx = x.new_empty(x.shape) if needs[0] else None
    if dx is not None:
        layer.input_gradient(0, len(x), dx)
    return dx, *layer.results(needs[1:])
