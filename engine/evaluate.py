"""The loss of a model over a text that it was not trained on."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gatescope.engine.model import CharacterModel
from gatescope.engine.training_step import Precision, cut_lanes

VALIDATION_LANES = 64
# In each lane, at least: its first characters, before which the model has read nothing, should count little.
LANE_WINDOWS = 20
MOST_NATS = 700.0


def perplexity(nats: float) -> float | None:
    """Return exp of a loss in nats per character; None where that is beyond what a float holds."""
    return math.exp(nats) if nats < MOST_NATS else None


@torch.no_grad()
def evaluate(model: CharacterModel, tokens: np.ndarray, length: int, precision: Precision = "float32") -> float:
    """Return the mean loss over held-out characters, in nats per character.

    The text is read in up to 64 contiguous lanes of 20 windows or more, each from the zero state, which is carried from
    window to window; a shorter text is one lane.

    Args:
        model: left in evaluation mode.
        tokens: ids [N], at least two.
        length: characters read at once in a lane.
        precision: in which products and recurrent layers compute.
    """
    model.eval()
    dtype = getattr(torch, precision)
    n_lanes = max(1, min(VALIDATION_LANES, len(tokens) // (LANE_WINDOWS * length)))
    lanes = cut_lanes(tokens, n_lanes)
    state = model.zero_state(n_lanes)
    device, wide, low = model.output.weight.device, model.output.weight.dtype, dtype != torch.float32
    total = 0.0
    for start in range(0, lanes.shape[1] - 1, length):
        window = torch.from_numpy(lanes[:, start : start + length + 1].T.astype(np.int64)).to(device)
        with torch.autocast(device.type, dtype if low else None, low, cache_enabled=False):
            logits, state = model(window[:-1], state)
        total += cross_entropy(logits.flatten(0, 1).to(wide), window[1:].flatten(), reduction="sum").item()
    return total / (n_lanes * (lanes.shape[1] - 1))
