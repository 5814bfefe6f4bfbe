"""The sets of states that probes are fitted to, each by itself."""

from __future__ import annotations

from collections.abc import Iterable

from gatescope.engine.journey import SCORES


def state_sets(names: Iterable[str], alignment: str) -> dict[str, list[str]]:
    """Return the arrays of each set, by its name: every array alone, and "all" recurrent states together.

    Args:
        names: of the arrays, such as "layer0/h" or "layer0/gates/i"; scores such as "layer2/entropy" are no states.
        alignment: "post" or "pre"; gates have no value before the first character, so that "pre" is of the recurrent
            states alone.
    """
    states = [name for name in names if not name.endswith(SCORES)]
    recurrent = [name for name in states if "/gates/" not in name]
    sets = {name: [name] for name in (states if alignment == "post" else recurrent)}
    if len(recurrent) > 1 and "all" not in recurrent:
        sets["all"] = recurrent
    return sets
