"""How often each gate is open, and how often it is shut.

A gate that is hardly ever in between is a switch: a unit whose forget gate stays open keeps what it has counted, and
one whose gate stays shut works like a layer without recurrence (Karpathy, Johnson & Fei-Fei, Visualizing and
Understanding Recurrent Networks, 2016, from which the bounds are taken).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.record import ACTIVATED
from gatescope.engine.state_source import StateSource

OPEN, SHUT = 0.9, 0.1
# The gates between 0 and 1; an LSTM's g and a GRU's n are candidate values, from -1 to 1.
SWITCHES = {"lstm": ("i", "f", "o"), "gru": ("r", "z")}


def saturation(dump: StateSource) -> list[dict[str, Any]]:
    """Return how often gates are open and shut, over all rows of a dump.

    Args:
        dump: the states; only gates recorded by gatescope are known to lie between 0 and 1.

    Returns:
        For each layer and recorded gate its `layer`, `gate`, and the shares of rows at which each unit is above .9
        (`open`) and below .1 (`shut`), [H] each.
    """
    attributes, found = dump.attributes, []
    gates = attributes.get("gates")
    if not isinstance(gates, dict) or gates.get("values") != ACTIVATED:
        return []
    switches = [gate for gate in SWITCHES.get(str(attributes.get("cell")), ()) if f"gates/{gate}" in dump]
    arrays = [(layer, gate, array) for gate in switches for layer, array in enumerate(dump[f"gates/{gate}"])]
    for layer, gate, array in sorted(arrays, key=lambda each: each[0]):
        n_open, n_shut = np.zeros((2, array.shape[1]), np.int64)
        for block in dump.blocks([array.name]):
            # .1 rounded to float16 is less than .1.
            values = block.astype(np.float32)
            n_open += (values > OPEN).sum(axis=0)
            n_shut += (values < SHUT).sum(axis=0)
        shares = {"open": n_open, "shut": n_shut}
        rounded = {word: np.round(count / dump.n_rows, 6).tolist() for word, count in shares.items()}
        found.append({"layer": layer, "gate": gate, **rounded})
    return found
