"""A progress bar with a rate and the time left; where the output is not a terminal, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gatescope.engine.processes import everybody

# Seconds between two lines.
LINE_EVERY = 60.0


class _Rate(ProgressColumn):
    """Amount of work per second, in the task's own unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _speed(speed, task.fields["unit"]))


@contextmanager
def progress_bar(description: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show the progress of a loop on standard error while the block runs; of several processes the first shows its own.

    Args:
        description: what is going on, a word or two.
        total: the whole amount of work, in units.
        unit: its name, plural ("characters").
        done: the amount that an earlier run did.

    Yields:
        `advance(amount, note="")`: call it as work is done; the last note follows the description.
    """
    console = Console(stderr=True)
    if everybody().rank:
        yield lambda amount, note="": None
        return
    if not console.is_terminal:
        yield _lines(description, total, unit, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, completed=done, unit=unit, note="")

        def advance(amount: int, note: str = "") -> None:
            progress.advance(task, amount)
            if note:
                progress.update(task, note=note)

        yield advance


def _speed(speed: float, unit: str) -> str:
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.2g} {unit}/s"


def _lines(description: str, total: int, unit: str, done: int) -> Callable[..., None]:
    """Return an `advance` that writes a line every minute: logs are read afterwards, and short work needs none."""
    began = written = time.monotonic()
    here, last = 0, ""

    def advance(amount: int, note: str = "") -> None:
        nonlocal written, here, last
        here, last, now = here + amount, note or last, time.monotonic()
        if now - written < LINE_EVERY or not here:
            return
        written, rate = now, here / (now - began)
        left = timedelta(seconds=round((total - done - here) / rate))
        parts = [f"{(done + here) / total:.0%}", _speed(rate, unit), f"{left} left", last]
        print(f"gatescope: {description}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)

    return advance
