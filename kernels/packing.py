"""Sequences of different lengths in one time-first array: their reversal, their last steps, their padding.

Cells read padding as if it were data. A step depends only on earlier ones, so padding never reaches a sequence's own
steps; in the reverse direction each sequence is reversed within its own length, and padding again comes after it.
States are cleared at every step of padding: a state that grew there without bound would come back from the backward
pass as 0 * inf.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class Reversal:
    """The reversal of sequences in time, each within its own length.

    Args:
        n_steps: T.
        reset: [T, B] bool, true where a new sequence begins, or None.
        lengths: [B] int64, or None if all have T steps.

    Attributes:
        reset: [T, B] bool or None: where the reversed sequences begin anew. A sequence that begins at step t makes the
            other direction begin anew at step t - 1. Padding is cleared too.
    """

    def __init__(self, n_steps: int, reset: Tensor | None, lengths: Tensor | None):
        self._index = None
        if lengths is not None:
            t = torch.arange(n_steps, device=lengths.device).unsqueeze(1)
            self._index = torch.where(t < lengths, lengths - 1 - t, t)  # [T, B]
        self.reset = None
        if reset is not None:
            ends = torch.cat((reset[1:], torch.zeros_like(reset[:1])))
            if lengths is not None:
                ends &= t < lengths - 1
            self.reset = self.flip(ends)
        if lengths is not None:
            self.reset = cleared_padding(n_steps, self.reset, lengths)

    def flip(self, steps: Tensor) -> Tensor:
        """Reverse [T, B, ...]; applied twice it returns the original."""
        if self._index is None:
            return steps.flip(0)
        return steps[self._index, torch.arange(steps.shape[1], device=steps.device)]


def cleared_padding(n_steps: int, reset: Tensor | None, lengths: Tensor) -> Tensor:
    """Mask of the cleared states, [T, B] bool: at the resets and at every step of padding."""
    padding = _padding(n_steps, lengths)
    return padding if reset is None else reset | padding


def last(steps: Tensor, lengths: Tensor | None) -> Tensor:
    """The last step of each sequence, [B, ...], from [T, B, ...]."""
    if lengths is None:
        return steps[-1]
    return steps[lengths - 1, torch.arange(steps.shape[1], device=steps.device)]


def stacked(layers: list[Tensor], lengths: Tensor | None) -> Tensor:
    """Layers and directions, each [T, B, ...], as one array [L*D, T, B, ...] with zero padding."""
    # One layer needs no copy: the result is the storage that backward reads.
    joined = torch.stack(layers) if len(layers) > 1 else layers[0].unsqueeze(0)
    if lengths is None:
        return joined
    padding = _padding(joined.shape[1], lengths)
    return joined.masked_fill(padding.view(1, *padding.shape, *[1] * (joined.dim() - 3)), 0)


def pack(steps: Tensor, like: PackedSequence) -> Tensor:
    """The steps [T, B, ...] that are not padding, in the order of the data of a PackedSequence."""
    # Lengths stay tensors, so that a traced program takes sequences of other lengths.
    lengths = (like.batch_sizes.unsqueeze(1) > torch.arange(steps.shape[1], device="cpu")).sum(0)
    places = torch.arange(steps.shape[0] * steps.shape[1], device=steps.device).view(steps.shape[:2])
    if like.sorted_indices is not None:
        places = places.index_select(1, like.sorted_indices)
    return steps.flatten(0, 1).index_select(0, pack_padded_sequence(places, lengths).data)


def _padding(n_steps: int, lengths: Tensor) -> Tensor:
    """Mask of the steps beyond each sequence's end, [T, B] bool."""
    return torch.arange(n_steps, device=lengths.device).unsqueeze(1) >= lengths
