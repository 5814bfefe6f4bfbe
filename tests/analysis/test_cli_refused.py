"""Bad input to the real command line: one line, exit code 2, and nothing written."""

import os

import pytest
from forked import gatescope
from killing import contents

from gatescope.analysis.cli import main

BAD = [
    ("no command", ["frobnicate"], "unknown command 'frobnicate'"),
    ("unknown flag", ["train", "{text}", "--out", "{tmp}/m", "--hiden", "3"], "--hiden"),
    ("missing flag", ["train", "{text}"], "--out"),
    ("not a number", ["train", "{text}", "--out", "{tmp}/m", "--hidden", "many"], "--hidden"),
    ("out of range", ["train", "{text}", "--out", "{tmp}/m", "--dropout", "1.5"], "--dropout 1.5"),
    ("kept beyond", ["train", "{text}", "--out", "{tmp}/m", "--steps", "9", "--keep", "0", "10"], "to --steps 9"),
    ("kept beyond, of a run", ["run", "--out", "{tmp}/o", "--train.keep", "3001"], "--keep 3001: expected increasing"),
    ("no such corpus", ["run", "--corpus", "{tmp}/absent", "--out", "{tmp}/o"], "not found"),
    ("corpus is a folder", ["run", "--corpus", "{tmp}", "--out", "{tmp}/o"], "is a folder"),
    ("empty text", ["train", "{empty}", "--out", "{tmp}/m"], "has no character"),
    ("one character", ["train", "{one}", "--out", "{tmp}/m"], "has 1 character:"),
    ("not UTF-8", ["train", "{latin}", "--out", "{tmp}/m"], "offset 3"),
    ("short text", ["train", "{short}", "--out", "{tmp}/m"], "longer text"),
    (
        "more folds than sequences",
        ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--probe.folds", "201"],
        "at most 200",
    ),
    (
        "hypotheses of a run",
        ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--hypotheses", "inside_comet"],
        "inside_comet",
    ),
    ("one sequence", ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--sample.sequences", "1"], "cannot be split"),
    (
        "prime of a run",
        ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--sample.prime", "é"],
        "--prime 'é': character",
    ),
    (
        "capture of a run",
        ["run", "--corpus", "{text}", "--cell", "gru", "--out", "{tmp}/o", "--sample.capture", "c"],
        "--capture c",
    ),
    ("dtype of a run", ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--sample.dtype", "bfloat16"], "float32"),
    (
        "16 bits on a CPU",
        ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--device", "cpu", "--sample.precision", "float16"],
        "a GPU",
    ),
    ("no such model", ["sample", "{tmp}/absent", "--out", "{tmp}/s.zarr"], "the model/ of a run"),
    ("a prime that cannot be spelt", ["sample", "{model}", "--out", "{tmp}/s.zarr", "--prime", "é"], "vocabulary"),
    ("a capture that is none", ["sample", "{model}", "--out", "{tmp}/s.zarr", "--capture", "x"], "--capture"),
    ("temperature", ["sample", "{model}", "--out", "{tmp}/s.zarr", "--temperature", "0"], "--temperature 0"),
    ("seed", ["sample", "{model}", "--out", "{tmp}/s.zarr", "--seed", "-1"], "--seed -1"),
    ("top k", ["sample", "{model}", "--out", "{tmp}/s.zarr", "--top-k", "-1"], "--top-k -1 is negative"),
    (
        "states of a run",
        ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--sample.capture", "gates", "--probe.alignment", "pre"],
        "--sample.capture gates leaves no states",
    ),
    ("unknown character", ["extract", "{model}", "{unknown}", "--out", "{tmp}/e.zarr"], "vocabulary"),
    ("no text", ["extract", "{model}", "--out", "{tmp}/e.zarr"], "text"),
    ("no such dump", ["probe", "{tmp}/absent.zarr", "--out", "{tmp}/r"], "absent.zarr"),
    ("a dump that is none", ["probe", "{model}", "--out", "{tmp}/r"], "the states.zarr of a run"),
    ("no such hypothesis", ["probe", "{states}", "--out", "{tmp}/r", "--hypotheses", "inside_comet"], "inside_comet"),
    (
        "negative length",
        ["probe", "{states}", "--out", "{tmp}/r", "--sequence-length", "-5"],
        "--sequence-length -5 is negative",
    ),
    ("bad pattern", ["probe", "{states}", "--out", "{tmp}/r", "--pattern", "x=["], "x="),
    ("no functions", ["probe", "{states}", "--out", "{tmp}/r", "--functions", "{tmp}/absent.py"], "absent.py"),
    ("functions that fail", ["probe", "{states}", "--out", "{tmp}/r", "--functions", "{broken}"], "line 1"),
    ("no results", ["report", "{tmp}/absent"], "probes.json"),
    ("report of nothing", ["report"], "no results"),
    ("info of nothing", ["info", "{tmp}/absent"], "does not exist"),
    ("info of something else", ["info", "{tmp}"], "was not written by gatescope"),
    ("source tree", ["corpus", "{tmp}/absent", "--out", "{tmp}/c.txt"], "does not exist"),
    ("show without text", ["hypotheses", "--show", "newline_next"], "--text"),
    ("no such unit", ["unit", "{states}", "layer0/h", "99"], "not 99"),
    ("no GPU here", ["train", "{text}", "--out", "{tmp}/m", "--device", "cuda"], "--device c"),
    ("no GPU for probes", ["probe", "{states}", "--out", "{tmp}/r", "--device", "cuda"], "--device c"),
    ("no GPU for a run's probes", ["run", "--corpus", "{text}", "--out", "{tmp}/o", "--probe.device", "cuda"], "--dev"),
]


@pytest.mark.parametrize(("words", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_gives_a_one_line_error_and_leaves_no_files(words, message, text, model, states, tmp_path):
    files = {"empty": b"", "one": b"x", "latin": b"caf\xe9 au lait", "short": b"too short", "unknown": "def é".encode()}
    files["broken.py"] = b"1 / 0\n"
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name, content in files.items():
        (inputs / name).write_bytes(content)
    places = {name.removesuffix(".py"): inputs / name for name in files}
    work = tmp_path / "work"
    work.mkdir()
    places |= {"text": text, "model": model, "states": states, "tmp": work}
    before = contents(model), contents(states)
    done = gatescope(*(word.format(**places) for word in words), folder=work)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("gatescope: "), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert (contents(model), contents(states)) == before
    assert list(work.rglob("*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["train", "{text}", "--out", "s3://bucket/x"],
        ["sample", "{model}", "--out=s3://bucket/x"],
        ["extract", "{model}", "{text}", "--out", "s3://bucket/x"],
        ["probe", "{states}", "--out", "s3://bucket/x"],
        ["export", "{states}", "s3://bucket/x"],
        ["concat", "{states}", "--out", "s3://bucket/x"],
        ["concat", "s3://bucket/x", "--out", "{tmp}/x"],
        ["report", "{tmp}", "--out", "s3://bucket/x"],
    ],
)
def test_nothing_is_written_to_a_url(words, text, model, states, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(text=text, model=model, states=states, tmp=tmp_path) for word in words]) == 2
    assert capsys.readouterr().err.startswith("gatescope: s3://bucket/x is a URL: expected a path on this machine")
    assert os.listdir(tmp_path) == []
