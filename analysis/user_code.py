"""Running of a user's code, so that an error in it becomes a one-line message that names the line of the code."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatescope.engine.errors import InputError

LONGEST_REASON = 300  # characters of an error's own message


@contextmanager
def user_code(what: str, file: str) -> Iterator[None]:
    """Run a block of a user's code: any exception becomes an InputError that names the line.

    Args:
        what: description of the code.
        file: the file whose line is named, if the error passed through it.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else None
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == file:
                line = number
        if isinstance(error, InputError) and what != file:
            raise
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        place = f", line {line}" if line else ""
        where = f" at {Path(file).name}{place}" if what != file else place
        raise InputError(f"{what}{where}: {type(error).__name__}: {reason}") from error
