"""Which modules of a torch model are recorded, and how what they put out is laid out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from gatescope.engine.errors import InputError

Module = str | nn.Module  # a module, or its name in the model
# Of each array: a module, and what takes the recorded part of its output.
Chosen = dict[str, tuple[nn.Module, Callable[[Any], Any] | None]]


def chosen_modules(model: nn.Module, modules: Any) -> Chosen:
    """Return the modules themselves, and the functions of those that have one.

    Args:
        model: the model.
        modules: as `record_states` has them.

    Raises:
        InputError: there is none, the model lacks one, something else is given, or two arrays would be the same.
    """
    if not isinstance(modules, Mapping) or not modules:
        raise InputError("no modules are given: name the module of at least one array, such as {'layer0/h': 'rnn'}")
    # A module may have several names.
    known = dict(model.named_modules(remove_duplicate=False))
    chosen: Chosen = {}
    for array, given in modules.items():
        module, select = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        if isinstance(module, str) and module not in known:
            names = ", ".join(name for name in known if name)
            raise InputError(f"the model has no module {module!r}: it has {names[:500] or 'none'}")
        module = known[module] if isinstance(module, str) else module
        if not isinstance(module, nn.Module) or not (select is None or callable(select)):
            what = type(given).__name__
            raise InputError(
                f"{array}: {what} is not a module; expected a module, its name, or a pair of either and a function"
            )
        twin = next((other for other, pair in chosen.items() if pair == (module, select)), None)
        if twin is not None:
            raise InputError(
                f"{twin} and {array} are the same output: use pairs of module and function to distinguish them"
            )
        topmost = module.num_layers - 1 if isinstance(module, nn.RNNBase) else 0
        if select is None and topmost and not array.startswith(f"layer{topmost}/"):
            warnings.warn(
                f"{array}: {type(module).__name__} returns only its top layer, layer{topmost}; the layers of "
                "gatescope.kernels return all with capture=",
                # Who called `record_states`.
                stacklevel=3,
            )
        chosen[array] = module, select
    return chosen


def layout_of(modules: Chosen, layout: str | None) -> str:
    """Return the layout of outputs: what the modules' own `batch_first` says, where they have one.

    Args:
        modules: those of each array; of the output of a function nothing is known.
        layout: what is asked for, if anything.

    Raises:
        InputError: modules that differ, or are otherwise than what is asked for.
    """
    found = {array: _batch_first(module) for array, (module, select) in modules.items() if select is None}
    said = {array: "BTH" if is_first else "TBH" for array, is_first in found.items() if is_first is not None}
    first = next(iter(said), "")
    expected = layout or said.get(first, "BTH")
    for array, own in said.items():
        if own != expected:
            other = f"layout={layout!r} is given" if layout else f"that of {first} does not"
            raise InputError(
                f"{array}: its module has batch_first={own == 'BTH'}, and {other}: leave out layout, or transpose its "
                "output with a pair, such as (module, lambda output: output[0].transpose(0, 1))"
            )
    return expected


def _batch_first(module: nn.Module) -> bool | None:
    """Return what a module says of its layout, or the attention in a part of torch.nn.Transformer; None: nothing."""
    parts = nn.TransformerEncoder | nn.TransformerEncoderLayer | nn.TransformerDecoder | nn.TransformerDecoderLayer
    within = module.modules() if isinstance(module, parts) else (module,)
    said = (getattr(each, "batch_first", None) for each in within)
    return next((each for each in said if isinstance(each, bool)), None)
