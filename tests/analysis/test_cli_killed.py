"""Commands that are killed, interrupted or refused by the system, and the result of repeating them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import gatescope
from killing import assert_survives_kills, contents, run_read_only
from small_run import PROBE, SAMPLE, TRAIN

from gatescope.analysis.cli import main
from gatescope.engine.files import partial_name

PROGRAM = Path(sys.executable).with_name("gatescope")


def _probe(states, out, *controls):
    # A fork inherits no threads of its parent; a single thread gives the same sums whatever else runs.
    assert main(["probe", states, "--out", out, *PROBE, *controls]) == 0


@pytest.mark.parametrize("n_kills, controls", [(5, []), pytest.param(30, ["--controls"], marks=pytest.mark.slow)])
def test_killing_and_repeating_probe_changes_nothing(model, tmp_path, n_kills, controls):
    # Two arrays of states cause as many kinds of writes as nine.
    states = str(tmp_path / "states.zarr")
    assert main(["sample", str(model), "--out", states, *SAMPLE, "--capture", "h"]) == 0
    assert_survives_kills(_probe, lambda folder: (states, str(folder), *controls), tmp_path, n_kills)


def _repeat(words):
    assert main(words) == 0


@pytest.mark.parametrize("command", ["train", "sample", "probe"])
def test_a_finished_command_can_be_repeated_on_a_read_only_disk(text, model, states, results, command):
    words, folder = {
        "train": (["train", str(text), "--out", str(model), *TRAIN], model),
        "sample": (["sample", str(model), "--out", str(states), *SAMPLE, "--capture", "h", "c", "gates"], states),
        "probe": (["probe", str(states), "--out", str(results), *PROBE], results),
    }[command]
    # The dump's folder lies on that file system, too.
    assert run_read_only(_repeat, (words,), folder.parent) == 0


@pytest.mark.parametrize("appears", ["config.json", "checkpoint.safetensors"])
def test_the_real_command_can_be_repeated_after_killing_it(text, model, tmp_path, appears):
    words = ["train", str(text), *TRAIN, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / appears).exists():
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert main(words) == 0
    assert contents(tmp_path / "killed") == contents(model)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_interruption_and_termination_print_one_line(text, tmp_path, number, status, word):
    words = [PROGRAM, "train", text, "--out", tmp_path / "m", *TRAIN, "--steps", "100000"]
    # A shell's background jobs ignore the interrupt, and so would the child.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while not (tmp_path / "m" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert stderr == f"gatescope: {word}; repeat the command to continue where it stopped\n"
    assert not (tmp_path / "m" / ".lock").exists()


def test_a_report_removes_leftovers_of_a_killed_report(results, tmp_path):
    (tmp_path / "figures").mkdir()
    left = [partial_name(tmp_path / name) for name in ("report.html", "figures/auroc.png")]
    other = partial_name(tmp_path / "another")
    for path in (*left, other):
        path.write_text("half")
    assert main(["report", str(results), "--out", str(tmp_path)]) == 0
    assert not any(path.exists() for path in left) and other.exists()


def test_a_full_disk_is_a_one_line_error(model, tmp_path):
    # A limit on the size of files stands in for a full disk: both refuse the write.
    done = gatescope("sample", model, "--out", tmp_path / "s.zarr", "--sequences", "200", largest_file=100_000)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and done.stderr.count("\n") == 1


def test_an_output_moved_away_is_named(model, tmp_path):
    out = tmp_path / "s.zarr"
    words = ["sample", str(model), "--out", str(out), "--sequences", "400", "--length", "3000"]
    process = subprocess.Popen([PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    while not list(out.glob("tokens/c.*")):
        assert process.poll() is None
        time.sleep(0.01)
    out.rename(tmp_path / "moved.zarr")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr == f"gatescope: {out} was removed or moved while it was being written: repeat the command\n"
