"""What a dump calls its arrays: layer0/h, layer1/gates/f, layer2/entropy of what two layers predict."""

from __future__ import annotations

import re

ARRAY_NAME = re.compile(r"layer([0-9]+)/([A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)?)")


def layer_and_state(name: str) -> tuple[int, str]:
    """Return the number of an array's layer, and what it holds of it: h, gates/f, entropy.

    Args:
        name: as `ARRAY_NAME` has it.
    """
    layer, _, state = name.removeprefix("layer").partition("/")
    return int(layer), state
