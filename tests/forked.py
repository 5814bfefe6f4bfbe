"""A server that has imported everything and computed nothing, so that forking a process from it is fast.

There is one for all tests of a process, since Python keeps a single one and uses the last preload set before its start.
"""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from gatescope.analysis.cli import main

SERVER = multiprocessing.get_context("forkserver")
# Modules that commands import when they need them: the fits, the figures, compiled walks, hypotheses, and torch's
# compiler, which comes with the first optimiser.
LATER = [
    "gatescope.analysis.study",
    "gatescope.analysis.ablation",
    "gatescope.analysis.report",
    "gatescope.kernels.tile_walk",
    "torch._dynamo",
]
LATER += ["gatescope.analysis.python_code", "gatescope.analysis.c_code", "gatescope.engine.log_loss_host"]
SERVER.set_forkserver_preload(["gatescope.analysis.probe_commands", "gatescope.analysis.model_commands", *LATER])


def _redirected(function, arguments, folder, output):
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(output) / name, os.O_WRONLY | os.O_CREAT), number)
    function(*arguments)


def run_redirected(function, arguments, folder="."):
    """Run a function in a folder, in a forked process, and return its exit code and what it printed."""
    with tempfile.TemporaryDirectory() as output:
        process = SERVER.Process(target=_redirected, args=(function, arguments, folder, output))
        process.start()
        process.join()
        printed = [(Path(output) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, process.exitcode, *printed)


def _command(words, largest_file):
    if largest_file is not None:
        # Otherwise the signal would end the process before the write returns its error.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.exit(main(words))


def gatescope(*words, folder=".", largest_file=None):
    """Run a command as the installed program does, except that its modules are imported already."""
    return run_redirected(_command, (list(map(str, words)), largest_file), folder)
