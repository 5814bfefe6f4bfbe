"""The command line: finds the command, turns its flags into settings, and reports bad input in one line.

Exit codes: 0 done, 2 bad input, 130 interrupted, 143 terminated, 1 anything else.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise, zip_longest
from pathlib import Path

from gatescope.engine.errors import InputError, RefusedElsewhere
from gatescope.engine.torchrun import started_processes

# The module of each command's function, and its line in `gatescope --help`, which is printed without importing torch.
COMMANDS = {
    "run": ("probe_commands", "everything: train, sample, probe and report"),
    "corpus": ("model_commands", "make one text out of a source tree"),
    "train": ("model_commands", "train a character language model on a text"),
    "sample": ("model_commands", "sample text from a model and record every state"),
    "extract": ("model_commands", "read texts with a model and record every state"),
    "probe": ("probe_commands", "find out what recorded states know, and which units know it"),
    "ablate": ("probe_commands", "test whether the network uses these units"),
    "reproduce": ("probe_commands", "train the paper's models and compare our numbers with its own"),
    "export": ("model_commands", "write a state dump as HDF5 in the layout of LSTMVis"),
    "concat": ("model_commands", "join dumps of one model, or append to one"),
    "hypotheses": ("probe_commands", "list the hypotheses, or paint one on a text"),
    "unit": ("probe_commands", "show what one unit predicts, and where it is highest and lowest"),
    "report": ("probe_commands", "write the HTML report and the figures of one or several results"),
    "info": ("probe_commands", "describe a model, dump or results folder, and check it is whole"),
}

# Commands that several processes can share.
SHARED = ("train", "sample", "extract")
# Commands that continue where they were stopped; the others start from the beginning.
RESUMED = ("run", "train", "sample", "extract", "probe", "reproduce", "concat")


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as batch systems and containers ask some time before they kill it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after `gatescope`; by default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Do not fail on a path with characters that the terminal cannot show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    name, *rest = words or ["--help"]
    try:
        if name in ("-h", "--help"):
            print(usage())
        elif name == "--version":
            print(f"gatescope {version('gatescope')}")
        elif name in COMMANDS:
            call(name, rest)
        else:
            raise InputError(f"unknown command {name!r}: expected one of {', '.join(COMMANDS)}")
        # Flush now, so that a write error is reported here and not at exit.
        print(end="", flush=True)
    except RefusedElsewhere:
        return 2
    except InputError as error:
        print(f"gatescope: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe has closed it.
        _print_nowhere()
        return 1
    except OSError as error:
        print(f"gatescope: {_of_the_system(error, rest)}", file=sys.stderr)
        try:
            print(end="", flush=True)
        except OSError:
            _print_nowhere()
        return 2
    except (MemoryError, RuntimeError) as error:
        said = one_line(str(error))
        # torch has no exception of its own for running out of CPU memory.
        if not isinstance(error, MemoryError) and "can't allocate memory" not in said and "out of memory" not in said:
            raise
        print(f"gatescope: not enough memory ({said[:200]}): ask for less at a time", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        how, status = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        again = "to continue where it stopped" if name in RESUMED else "to start over"
        print(f"gatescope: {how}; repeat the command {again}", file=sys.stderr)
        return status
    return 0 if words else 2


def _print_nowhere() -> None:
    """Discard the remaining output, since it cannot be written to its destination."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_the_system(error: OSError, words: Sequence[str]) -> str:
    """Return a one-line message for an error of the file system; raise any other error again."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"cannot write: {error.strerror}{where}; everything committed so far is kept; free some space or choose "
            "another --out, and repeat the command"
        )
    if not error.filename and error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise error
    # Show the final name, not the temporary one.
    from gatescope.engine.files import settled_name

    out, name = _out_of(words), str(error.filename)
    settled = settled_name(name)
    written = [*Path(settled).absolute().parents, *[Path(settled).absolute()] * (settled != name)]
    if error.errno == errno.ENOENT and out and out.absolute() in written:
        return f"{one_line(str(out))} was removed or moved while it was being written: repeat the command"
    # A folder where a file should be, a name that is too long, no permission: the path is wrong.
    where = f"{one_line(settled)}: " if error.filename else ""
    return f"{where}{error.strerror}; give another path"


def _out_of(words: Sequence[str]) -> Path | None:
    """Return the path that `--out` names, if the flag is there."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if word == "--out" or word.startswith("--out="):
            return Path(os.path.expanduser(word.partition("=")[2] or following))
    return None


def call(name: str, words: Sequence[str]) -> None:
    """Parse the flags of one command and run it.

    Raises:
        InputError: an unknown flag, or one with a bad value.
    """
    import tyro

    from gatescope.analysis.console import prepared

    if "--out=" in words or ("--out", "") in pairwise(words):
        # As from a shell variable that is not set; an empty path would mean the current folder.
        raise InputError(f"{name}: --out is empty: give a path")
    if started_processes() > 1 and name not in SHARED:
        raise InputError(
            f"{name} runs in one process: start it without torchrun (only {', '.join(SHARED)} take several)"
        )
    prefixes = () if name == "run" else (tyro.conf.OmitArgPrefixes,)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            ready = tyro.cli(prepared(function_of(name)), prog=f"gatescope {name}", args=words, config=prefixes)
    except SystemExit as stop:
        if stop.code:
            # Leave out the title, which repeats the message, and the internal name of the settings.
            said = complaint.getvalue().strip().partition("\n")[2]
            raise InputError(f"{name}: {re.sub(r'^Error parsing (?!-)[a-z]+: ', '', one_line(said))}") from None
        return
    ready()


def function_of(name: str) -> Callable[..., None]:
    """Return the function of a command."""
    module, _ = COMMANDS[name]
    function: Callable[..., None] = getattr(importlib.import_module(f"gatescope.analysis.{module}"), name)
    return function


def usage() -> str:
    """Return what `gatescope --help` prints."""
    lines = [
        "What do the hidden states of a recurrent network know, and which units know it?",
        "",
        "usage: gatescope COMMAND ...        gatescope COMMAND --help        gatescope --version",
        "",
        *(f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items()),
        "",
        "Start with: gatescope run --out out",
    ]
    return "\n".join(lines)


def one_line(message: str) -> str:
    """Return a message without the frames that a parser draws around it, on one line."""
    return re.sub(r"(?:[\s╭╮╰╯│─]|-{5,})+", " ", message).strip()


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def program() -> int:
    """Run the command line as a program of its own, and return its exit status."""
    if started_processes() == 1:
        # One of several processes keeps the default and ends at once: it may be waiting for the others outside Python.
        signal.signal(signal.SIGTERM, _terminate)
    status = main()
    if started_processes() > 1:
        # Threads of torch's process group outlive it (after DistributedDataParallel, torch 2.13), and one that
        # needs the interpreter while it shuts down aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(program())
