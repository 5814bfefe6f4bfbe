"""A progress bar with a rate and the time left; none where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Amount of work per second, in the task's own unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


@contextmanager
def progress_bar(description: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show the progress of a loop on standard error while the block runs.

    Args:
        description: what is going on, a word or two.
        total: the whole amount of work, in units.
        unit: its name, plural ("characters").
        done: the amount that an earlier run did.

    Yields:
        `advance(amount, note="")`: call it as work is done; the note stands behind the description.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        # Before its version 14.3 rich ends even a bar that is disabled with an empty line.
        yield lambda amount, note="": None
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
            progress.update(task, advance=amount, note=note)

        yield advance
