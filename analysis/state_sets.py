"""The sets of states that probes are fitted to, one at a time."""

from __future__ import annotations

import re
from collections.abc import Collection

from gatescope.engine.journey import SCORES

# Names that LSTMVis gives to the gates of the layer whose hidden states are output1, and `gatescope export` to scores.
_LSTMVIS_GATES, _LSTMVIS_SCORES = r"(?:input|forget|hidden|gate_[a-z])([0-9]+)", r"(?:log_probability|entropy)[0-9]+"


def state_sets(names: Collection[str], alignment: str) -> dict[str, list[str]]:
    """Return the arrays of each set, by its name: every array alone, and "all" recurrent states together.

    Args:
        names: the names of the arrays, such as "layer0/h" or "layer0/gates/i", or as in LSTMVis; scores such as
            "layer2/entropy" are not states.
        alignment: "post" or "pre"; gates have no value before the first character, so "pre" includes only the recurrent
            states.
    """
    states = [name for name in names if not (name.endswith(SCORES) or re.fullmatch(_LSTMVIS_SCORES, name))]
    recurrent = [name for name in states if not _is_gate(name, names)]
    sets = {name: [name] for name in (states if alignment == "post" else recurrent)}
    if len(recurrent) > 1 and "all" not in recurrent:
        sets["all"] = recurrent
    return sets


def _is_gate(name: str, names: Collection[str]) -> bool:
    found = re.fullmatch(_LSTMVIS_GATES, name)
    return "/gates/" in name or (found is not None and f"output{found[1]}" in names)
