"""Running a user's code so that whatever it does wrong is said in one line that names the line of the code."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from gatescope.engine.errors import InputError

LONGEST_REASON = 300  # characters of an error's own message


class CodeOfUser:
    """A block that runs a user's code: whatever it raises becomes one InputError that names the line.

    Args:
        what: whose code it is.
        file: the file whose line is named, if the error passed through it.
    """

    def __init__(self, what: str, file: str) -> None:
        self.what, self.file = what, file

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, (Exception, SystemExit)):
            return
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == self.file else None
        while trace:
            if trace.tb_frame.f_code.co_filename == self.file:
                line = trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, InputError) and self.what != self.file:
            raise error
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        place = f", line {line}" if line else ""
        where = f" at {Path(self.file).name}{place}" if self.what != self.file else place
        raise InputError(f"{self.what}{where}: {type(error).__name__}: {reason}") from error
