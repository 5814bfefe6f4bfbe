"""The one line that the command line prints when the system refuses something."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gatescope.analysis import cli
from gatescope.analysis.cli import one_line
from gatescope.engine.files import partial_name

PROGRAM = Path(sys.executable).with_name("gatescope")


def test_single_process_commands_are_refused_under_torchrun(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in (["probe", "x.npz", "--out", str(tmp_path / "r")], ["run", "--out", str(tmp_path / "r")]):
        assert cli.main(words) == 2
        assert f"{words[0]} runs in one process: start it without torchrun" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_line_strips_frames():
    assert one_line("╭─ Bad ──╮\n│ no  such │\n╰────╯\n") == "Bad no such"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "x", "--out", "m", "--dropout", "2"], "train: --dropout 2.0 is out of range"),
        (["run", "--out", "m", "--train.dropout", "2"], "run: --dropout 2.0 is out of range"),
        (["train", "x", "--out", "m", "--hiden", "3"], "train: Unrecognized options: --hiden, 3 "),
        (["train", "x", "--out", "m", "--cell", "ltsm"], "train: invalid choice 'ltsm' for argument '--cell'"),
        (["train", "x", "--out", "m", "--hidden", "many"], "train: Error parsing --hidden: "),
    ],
)
def test_flag_errors_are_reported_once(words, said, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"gatescope: {said}")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "states.zarr: Permission denied; give another path"),
        (errno.ENOSPC, "cannot write: No space left"),
    ],
)
def test_system_errors_are_one_line(monkeypatch, capsys, number, said):
    def refuse(name, words):
        raise OSError(number, os.strerror(number), "states.zarr")

    monkeypatch.setattr(cli, "call", refuse)
    assert cli.main(["info", "states.zarr"]) == 2
    assert said in capsys.readouterr().err


def test_system_errors_of_commands_without_flags_are_one_line(monkeypatch, capsys):
    def refuse(name, words):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "labels.zarr")

    monkeypatch.setattr(cli, "call", refuse)
    assert cli.main(["hypotheses"]) == 2
    assert capsys.readouterr().err == "gatescope: labels.zarr: Permission denied; give another path\n"


@pytest.mark.parametrize("behind", ["", "/zarr.json"])
def test_errors_name_the_final_path_not_the_temporary_one(monkeypatch, capsys, tmp_path, behind):
    def refuse(name, words):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{partial_name(tmp_path / 'c.txt')}{behind}")

    monkeypatch.setattr(cli, "call", refuse)
    assert cli.main(["corpus", "tree", "--out", str(tmp_path / "c.txt")]) == 2
    said = f"{tmp_path / 'c.txt'}{behind}: Read-only file system; give another path\n"
    assert capsys.readouterr().err == f"gatescope: {said}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_interrupted_command_says_whether_it_can_resume(monkeypatch, capsys, name):
    def interrupt(name, words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "call", interrupt)
    assert cli.main([name]) == 130
    function = cli.function_of(name)
    over = name in ("ablate", "report", "corpus", "export", "hypotheses", "unit", "info")
    assert ("to go on" not in function.__doc__) == over
    said = "to start over" if over else "to continue where it stopped"
    assert capsys.readouterr().err == f"gatescope: interrupted; repeat the command {said}\n"


def test_a_missing_input_is_not_reported_as_a_moved_output(monkeypatch, capsys, tmp_path):
    def refuse(name, words):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "text"))

    monkeypatch.setattr(cli, "call", refuse)
    assert cli.main(["train", "text", "--out", str(tmp_path / "model")]) == 2
    assert capsys.readouterr().err == f"gatescope: {tmp_path / 'text'}: No such file or directory; give another path\n"


@pytest.mark.parametrize("flag", [["--out", "~/run"], ["--out=~/run"]])
def test_only_paths_within_the_output_are_reported_as_moved(monkeypatch, capsys, tmp_path, flag):
    monkeypatch.setenv("HOME", str(tmp_path))

    def refuse(name, words):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / words[-1]))

    monkeypatch.setattr(cli, "call", refuse)
    for missing, said in (
        ("run/log.jsonl", "run was removed or moved while"),
        (f"run.{'0' * 32}.partial", "run was removed or moved while"),
        (f"run.{'0' * 32}.partial/layer0/h", "run was removed or moved while"),
        ("run", "give another path"),
        ("run2/labels.npz", "give another path"),
        (f"run2.{'0' * 32}.partial", "give another path"),
    ):
        assert cli.main(["probe", *flag, missing]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["hypotheses"], ["info", "x.npy"]], ids=" ".join)
def test_a_closed_pipe_ends_a_command_quietly(tmp_path, words):
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Block-buffer the output, as in a shell's pipe, whatever the tests' own environment sets.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    process = subprocess.Popen([PROGRAM, *words], cwd=tmp_path, text=True, env=environment, **pipe)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_stdout_is_a_one_line_error():
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("gatescope: cannot write: No space left") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", [["--out", ""], ["--out="]])
def test_an_empty_out_is_refused(monkeypatch, capsys, tmp_path, flag):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "stdlib", *flag]) == 2
    assert capsys.readouterr().err == "gatescope: train: --out is empty: give a path\n"
    assert not list(tmp_path.iterdir())


def test_unprintable_paths_are_escaped_in_output(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    (tmp_path / "ü.txt").write_text("some text\n" * 100)
    words = ["train", "ü.txt", "--out", "mö", "--hidden", "4", "--batch", "4", "--length", "10", "--steps", "40"]
    done = subprocess.run([PROGRAM, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("m\\xf6: lowest validation loss") and not done.stderr
    done = subprocess.run([PROGRAM, "info", "mä"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("gatescope: m\\xe4 does not exist")


def test_lack_of_memory_is_a_one_line_error(monkeypatch, capsys):
    def fails(*arguments):
        raise MemoryError("Unable to allocate 1.00 TiB")

    def fails_in_torch(*arguments):
        raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: 1 byte\nframes")

    def fails_otherwise(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "call", fails_in_torch)
    assert cli.main(["info", "x"]) == 2
    assert capsys.readouterr().err.startswith("gatescope: not enough memory ([enforce fail]")
    monkeypatch.setattr(cli, "call", fails_otherwise)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["info", "x"])
    monkeypatch.setattr(cli, "call", fails)
    assert cli.main(["info", "x"]) == 2
    assert (
        capsys.readouterr().err
        == "gatescope: not enough memory (Unable to allocate 1.00 TiB): ask for less at a time\n"
    )
