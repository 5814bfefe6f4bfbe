"""What all commands share: checks of the flags before the work begins, and output to the terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console, RenderableType
from tyro.conf import Positional, arg

from gatescope.engine.config_values import whole_seed
from gatescope.engine.device_memory import require_gpu
from gatescope.engine.location import local_path

Device = Literal["auto", "cpu", "cuda"]
# Positional arguments, with the names that they have in the help of all commands.
Model = Positional[Annotated[Path, arg(metavar="MODEL")]]
States = Positional[Annotated[str, arg(metavar="STATES")]]


def prepared(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Return a function that checks its arguments at once, and returns the work as a function to be called later.

    It checks what all commands have in common: the seed, and paths, in which `~` is expanded.
    """

    @functools.wraps(function)
    def put_off(*args: Any, **kwargs: Any) -> Callable[[], None]:
        whole_seed(kwargs.get("seed", 0), bits=63)
        named = {name: _on_this_machine(value) for name, value in kwargs.items()}
        return functools.partial(function, *map(_on_this_machine, args), **named)

    return put_off


def _on_this_machine(value: Any) -> Any:
    """Return the value of a flag or of a group of flags, with its paths passed through `local_path`."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _on_this_machine(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_on_this_machine, value))
    return local_path(value) if isinstance(value, Path) else value


def device_of(name: Device) -> str:
    """Return the requested device; `auto` is a GPU if there is one."""
    if name == "cuda":
        require_gpu()
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def print_table(table: RenderableType, least: int = 80) -> None:
    """Print a table, or a text, as wide as the terminal, or 120 columns wide if the output goes elsewhere.

    Args:
        table: what to print.
        least: columns that are needed to show all names and scores; a narrower terminal wraps the lines.
    """
    console = Console()
    # A pipe has no width of its own.
    Console(width=max(console.width, least) if console.is_terminal else 120).print(table)


def say(line: str) -> None:
    """Print a result."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print a warning to stderr, apart from the results."""
    print(f"gatescope: {line}", file=sys.stderr, flush=True)
