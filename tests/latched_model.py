"""A hand-made model: one unit of layer 0 knows whether a bracket is open, and one of layer 1 passes it to the output.

All other units react to the characters, and nothing reads them.
"""

import torch

from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import write_description
from gatescope.engine.trained_model import write_weights
from gatescope.engine.vocabulary import Vocabulary

CHARACTERS = "\n()ab"
HIDDEN = 24
# (layer, unit)
LATCH, COPY = (0, 2), (1, 4)
INSIDE = r"\([^)]*"


def write_latched_model(folder):
    """Write its folder as `gatescope train` does."""
    folder.mkdir()
    chosen = Architecture(cell="rnn", hidden=HIDDEN, layers=2)
    torch.manual_seed(0)
    model = CharacterModel(chosen, len(CHARACTERS))
    with torch.no_grad():
        for name, weight in model.rnn.named_parameters():
            weight.normal_(std=0.4)
            if "hh" in name and weight.dim() == 2:
                weight[LATCH[1] if name.endswith("l0") else COPY[1]] = 0
        latch, copy = LATCH[1], COPY[1]
        model.rnn.weight_hh_l0[latch, latch] = 2.0
        model.rnn.weight_ih_l0[latch] = torch.tensor([-4.0, 6.0, -6.0, 0.0, 0.0])
        model.rnn.bias_ih_l0[latch] = model.rnn.bias_hh_l0[latch] = 0.0
        model.rnn.weight_ih_l1[copy] = 0
        model.rnn.weight_ih_l1[copy, latch] = 3.0
        model.rnn.bias_ih_l1[copy] = model.rnn.bias_hh_l1[copy] = 0.0
        model.output.weight.zero_()
        # Occasionally a bracket closes when one is open, and opens when none is: letters do not predict it.
        model.output.weight[:, copy] = torch.tensor([0.0, -3.0, 3.0, 0.0, 0.0])
        model.output.bias.copy_(torch.tensor([-9.0, -3.4, -3.4, 1.2, 1.2]))
    write_description(folder, chosen, Vocabulary(tuple(CHARACTERS)), {"name": "latch", "characters": 1})
    write_weights(folder, model, {"step": 0, "validation_nats": 1.0})
    return folder
