"""Where the matches of a regular expression lie, within a limit of time.

Python's `re` backtracks, so that a harmless-looking expression may need longer than the age of the universe, and it
cannot be interrupted from another thread; a signal interrupts it only in the main thread of a Unix process. So the
expression is evaluated by a process of its own, which serves one text after the other and is killed if one takes too
long: that works in every thread and on every system, and costs 20 ms once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gatescope.analysis.lines import fill_between
from gatescope.analysis.pattern_worker import read_block, write_block
from gatescope.engine.errors import InputError

SECONDS = 10.0  # for any text
CHARACTERS_PER_SECOND = 200_000.0  # and for its length; `re` usually reads millions
WORKER = Path(__file__).with_name("pattern_worker.py")


class CoveredBy:
    """A function from a text to the characters that the matches of an expression cover.

    Args:
        name: what an error calls the pattern.
        expression: a valid regular expression.
        seconds: time that any text may take, on top of what its length may.
    """

    def __init__(self, name: str, expression: str, seconds: float = SECONDS) -> None:
        self.name, self.expression, self.seconds = name, expression, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def __call__(self, text: str) -> np.ndarray:
        """Return bool [n] for a text of n characters.

        Raises:
            InputError: the expression took longer than it may, or failed (for example for want of memory).
        """
        return self.of_texts([text])

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return bool [n] for texts of n characters together, each searched by itself; raises what a call does."""
        with self._lock:
            spans = self._spans(texts)
        # Matches are in order and do not overlap: covered or not flips at each of their borders.
        return fill_between(spans, False, sum(map(len, texts)))

    def close(self) -> None:
        """End the process; another one answers the next text."""
        if self._process and self._owner == os.getpid():
            _stop(self._process)
        self._process = None

    def _spans(self, texts: Sequence[str]) -> np.ndarray:
        text = "".join(texts)
        process, is_new = self._running()
        assert process.stdin is not None and process.stdout is not None
        limit = self.seconds + len(text) / CHARACTERS_PER_SECOND
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            process.kill()

        timer = threading.Timer(limit, kill)
        timer.start()
        try:
            if is_new:
                write_block(process.stdin, self.expression.encode("utf-8", "surrogatepass"))
            write_block(process.stdin, np.array(list(map(len, texts)), np.int64).tobytes())
            write_block(process.stdin, text.encode("utf-8", "surrogatepass"))
            block = read_block(process.stdout)
        except BrokenPipeError:
            block = None
        finally:
            timer.cancel()
        if block is not None:
            return np.frombuffer(block, np.int64)
        self._process = None
        _stop(process)
        if killed.is_set():
            raise InputError(
                f"pattern {self.name!r} took longer than {limit:.0f} s on {len(text)} characters; a repetition within "
                "a repetition, such as (a+)+, makes it backtrack: write it without"
            )
        raise InputError(f"pattern {self.name!r} failed on {len(text)} characters; simplify the regular expression")

    def _running(self) -> tuple[subprocess.Popen[bytes], bool]:
        """Return the process, and whether it is a new one that has not been told the expression."""
        # A forked copy of this program must not talk into the pipes of its parent.
        is_new = self._process is None or self._owner != os.getpid() or self._process.poll() is not None
        if is_new:
            # -I and -S: nothing but the standard library is found, whatever the folder and the environment hold.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
            weakref.finalize(self, _stop, self._process)
        assert self._process is not None
        return self._process, is_new


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        # What was not written yet cannot be written any more.
        with contextlib.suppress(BrokenPipeError):
            if pipe:
                pipe.close()
