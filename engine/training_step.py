"""One step of training: a window of text in, weights a little better.

On the CPU a step runs as it is written. On a GPU the text lies in its memory, and after a few steps everything from
reading the window to Adam is recorded as one CUDA graph and replayed: nothing waits for the host, which only says where
the window begins and how large the learning rate is.

With 16-bit precision products and recurrent layers compute in 16 bits (torch.autocast) while the weights and Adam's
moments stay float32; for float16 the loss is scaled so that small gradients survive (Micikevicius et al. 2018), and a
step whose gradient overflows leaves the weights alone.

The loss is not fused with the output layer: there is little to gain. With V = 100 characters and H = 512, logits, their
copy in float32, its log-softmax and the two gradients are 16 V = 1.6 KB written and as much read for a character; three
layers of LSTM write and read at least 32 H L = 49 KB of gates and their gradients, besides states. Fused, the loss
would save 3.2 KB of 52 KB, 6% of the bytes; for 128 x 200 characters 82 MB, 0.02 ms at 4.3 TB/s of an iteration that
aims at 2.5. The output product is 2 V H of 48 H^2 FLOP, less than 1%. This is arithmetic, not a measurement; it turns
with V: at 50,000 words the logits would be most of it.

Under torch.distributed each process reads its share of the lanes, and gradients are averaged over all; its steps are
not recorded, and wait for the host. All processes have the same number of lanes.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gatescope.engine.model import CharacterModel
from gatescope.engine.processes import everybody
from gatescope.kernels.recording import as_recorded

Precision = Literal["float32", "bfloat16", "float16"]
NEVER = 2**62
WARM_UP = 3  # steps on a GPU before the graph is recorded, in which kernels are compiled and memory is found


class TrainingStep:
    """Takes training steps of one model over lanes of text.

    Args:
        model: in training mode; its device decides how steps run.
        lanes: ids [B, width] of this process.
        length: T, characters in a window.
        clip: largest norm of the gradient, nats per unit of weight.
        precision: in which products are computed.
        state: recurrent states of the lanes, each [L, B, H].

    Attributes:
        model: the model.
        state: the states after the last step.
        loss: of the last step, nats, a tensor [] (of this process's lanes).
        norm: of the gradient before it was clipped, a tensor [].
        first_bad: number of the first step whose loss or norm was not finite, int64 [], `NEVER` while there is none.
        bad: loss and norm of that step, a tensor [2].
        optimizer, scaler: Adam, and the scale of the loss.
    """

    def __init__(
        self,
        model: CharacterModel,
        lanes: np.ndarray,
        length: int,
        clip: float,
        precision: Precision,
        state: tuple[Tensor, ...],
    ):
        self.model, self._lanes, self._length, self._clip = model, lanes, length, clip
        self._device = model.output.weight.device
        self._precision = getattr(torch, precision)
        on_gpu = self._device.type == "cuda"
        rate: Any = torch.zeros((), device=self._device) if on_gpu else 0.0
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=on_gpu)
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")
        self.state = tuple(value.clone() for value in state)
        self.loss = self.norm = torch.full((), math.nan)
        self.first_bad = torch.full((), NEVER, dtype=torch.int64, device=self._device)
        self.bad = torch.zeros(2, device=self._device)
        self._number = torch.zeros((), dtype=torch.int64, device=self._device)
        self._together = everybody().size > 1
        self._run: Any = DistributedDataParallel(model) if self._together else model
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken = 0
        if on_gpu:
            self._resident = signed_ids(lanes).to(self._device)
            self._mask = 2 ** (8 * lanes.itemsize) - 1
            self._first = torch.zeros((), dtype=torch.int64, device=self._device)
            self._offsets = torch.arange(length + 1, device=self._device)
            self._side = torch.cuda.Stream(self._device)

    @property
    def windows(self) -> int:
        """How many windows the lanes have."""
        return (self._lanes.shape[1] - 1) // self._length

    def take(self, step: int, rate: float) -> None:
        """Take one step.

        Args:
            step: its number, which decides the window.
            rate: the learning rate.
        """
        first = step % self.windows * self._length
        self._number.fill_(step)
        if self._device.type != "cuda":
            self.optimizer.param_groups[0]["lr"] = rate
            window = self._lanes[:, first : first + self._length + 1].T.astype(np.int64)
            state = self.state if first else self.model.zero_state(len(self._lanes))
            self.state = self._step(torch.from_numpy(np.ascontiguousarray(window)), state)
            return
        self.optimizer.param_groups[0]["lr"].fill_(rate)
        self._first.fill_(first)
        if self._graph is not None:
            self._graph.replay()
        elif self._taken < WARM_UP or self._together:
            # Not the current GPU's, which may be another.
            main = torch.cuda.current_stream(self._device)
            self._side.wait_stream(main)
            with torch.cuda.stream(self._side), nullcontext() if self._together else as_recorded():
                self._resident_step()
            main.wait_stream(self._side)
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._side):
                self._resident_step()
            self._graph.replay()
        self._taken += 1

    def _resident_step(self) -> None:
        """A step on the device alone: the window from its first column, the state zero at the beginning of the text."""
        tokens = self._resident.index_select(1, self._first + self._offsets).T.long() & self._mask
        begins = self._first == 0
        before = tuple(torch.where(begins, torch.zeros_like(value), value) for value in self.state)
        for kept, after in zip(self.state, self._step(tokens, before), strict=True):
            kept.copy_(after)

    def _step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Move the weights by one window, ids [T + 1, B], and return the states after it."""
        low = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision if low else None, low, cache_enabled=False):
            logits, after = self._run(tokens[:-1], state)
        loss = cross_entropy(logits.flatten(0, 1).to(state[0].dtype), tokens[1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss = loss.detach()
        self._note()
        return tuple(value.detach().to(before.dtype) for value, before in zip(after, state, strict=True))

    @torch.no_grad()
    def _note(self) -> None:
        """Keep number, loss and norm of the first step that was not finite; nothing waits for the answer.

        The loss scale of float16 is meant to overflow at times: there only the loss counts.
        """
        fine = self.loss.isfinite()
        if not self.scaler.is_enabled():
            fine = fine & self.norm.isfinite()
        first = ~fine & (self.first_bad == NEVER)
        self.bad.copy_(torch.where(first, torch.stack((self.loss.float(), self.norm.float())), self.bad))
        self.first_bad.copy_(torch.where(first, self._number, self.first_bad))


def signed_ids(lanes: np.ndarray) -> Tensor:
    """Return a copy of ids as signed integers, with which torch counts: the same bits, a mask takes the sign away.

    Of a text on the disk, which is read-only, torch would share the memory, and warn of it.
    """
    return torch.from_numpy(np.array(lanes.view(f"i{lanes.itemsize}"), order="C"))


def cut_lanes(tokens: np.ndarray, n_lanes: int) -> np.ndarray:
    """Return the text as contiguous lanes [n_lanes, N // n_lanes]; a remainder at the end is left out."""
    width = len(tokens) // n_lanes
    return tokens[: n_lanes * width].reshape(n_lanes, width)
