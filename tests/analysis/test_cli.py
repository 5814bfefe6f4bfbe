"""The real command line: what each command writes, and the one line that bad input gets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forked import gatescope
from killing import assert_survives_kills, contents, run_read_only

from gatescope.analysis.cli import COMMANDS, main
from gatescope.engine.dump import StateDump
from gatescope.engine.evaluate import evaluate

PROGRAM = Path(sys.executable).with_name("gatescope")
TRAIN = ["--hidden", "16", "--batch", "8", "--length", "25", "--steps", "40", "--evaluate-every", "10"]
SAMPLE = ["--sequences", "12", "--length", "60"]
PROBE = ["--bootstrap", "20", "--hypotheses", "any", "--pattern", "word=[a-z]+"]
RUN = [f"--train.{flag[2:]}" if flag.startswith("--") else flag for flag in TRAIN]
RUN += [f"--sample.{flag[2:]}" if flag.startswith("--") else flag for flag in SAMPLE]
TEXT = "def f(x):  # comment <script>alert(1)</script> & more\n    return {'a': x}\n\n" * 60


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.py"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def model(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", str(text), "--out", str(folder), *TRAIN]) == 0
    return folder


@pytest.fixture(scope="module")
def states(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled") / "states.zarr"
    assert main(["sample", str(model), "--out", str(folder), *SAMPLE, "--capture", "h", "c", "gates"]) == 0
    return folder


@pytest.fixture(scope="module")
def results(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed") / "results"
    assert main(["probe", str(states), "--out", str(folder), *PROBE]) == 0
    return folder


# Each hypothesis is a figure, and figures are what takes time: one cell has them all.
@pytest.mark.parametrize(("cell", "hypotheses"), [("lstm", "inside_string"), ("gru", "inside_string"), ("rnn", "auto")])
def test_run_writes_everything_and_prints_the_table(text, tmp_path, cell, hypotheses):
    out = tmp_path / "out"
    words = ["run", "--corpus", text, "--cell", cell, "--out", out, *RUN, "--probe.bootstrap", "20", "--seed", "3"]
    words += ["--hypotheses", hypotheses]
    done = gatescope(*words, "--pattern", "number=[0-9]+", "--pattern", "brace=[{}]")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("config.json", "log.jsonl", "model", "states.zarr"),
        *("probes.json", "excerpts.json", "coefficients.safetensors", "report.html", "figures"),
    }
    assert done.stdout.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert "inside_string" in done.stdout and "brace" in done.stdout
    records = json.loads((out / "probes.json").read_text())
    assert {record["hypothesis"] for record in records} >= {"inside_string", "number", "brace"}
    assert "all" in {record["states"] for record in records} or cell != "lstm"
    assert "<script>alert" not in (out / "report.html").read_text()
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"train", "validate", "sample", "label", "probe"} <= {line["stage"] for line in log}

    # Repeating it changes nothing, other settings are refused by name, --overwrite starts anew.
    before = contents(out)
    assert gatescope(*words, "--pattern", "number=[0-9]+", "--pattern", "brace=[{}]").returncode == 0
    assert contents(out) == before
    other = gatescope(*words)
    assert other.returncode == 2 and "probe.pattern" in other.stderr


def test_stages_by_hand_and_info(text, model, states, results, tmp_path, capsys):
    assert main(["extract", str(model), str(text), "--out", str(tmp_path / "read.zarr"), "--length", "100"]) == 0
    assert StateDump.open(tmp_path / "read.zarr").text() == TEXT
    words = ["extract", str(model), str(text), str(text), "--out", str(tmp_path / "two.zarr"), "--length", "100"]
    assert main(words) == 0
    assert f"{2 * len(TEXT):,} characters of 2 documents" in capsys.readouterr().out
    assert StateDump.open(tmp_path / "two.zarr").document_starts.tolist() == [0, len(TEXT), 2 * len(TEXT)]
    assert main(["report", str(results), "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").exists()
    assert main(["corpus", str(text.parent), "--glob", "*.py", "--out", str(tmp_path / "all.txt")]) == 0
    assert (tmp_path / "all.txt").read_text() == TEXT
    capsys.readouterr()
    for path, words in (
        (model, "model, 1 x 16 lstm"),
        (states, "state dump, 720 characters in 12 sequences"),
        (results, "fits"),
    ):
        assert main(["info", str(path)]) == 0
        said = capsys.readouterr().out
        assert words in said and "not finished" not in said


def test_records_have_every_field_and_null_where_a_metric_does_not_apply(results):
    fields = (
        "hypothesis kind states alignment weighting n_train n_test n_holds prevalence accuracy precision recall f1 "
    )
    fields += "f1_low f1_high mcc r2 pearson baseline_majority_f1 baseline_text_f1 top_units status"
    records = json.loads((results / "probes.json").read_text())
    for record in records:
        assert set(fields.split()) <= record.keys()
        empty = ("f1", "mcc") if record["kind"] == "continuous" else ("r2", "pearson")
        assert all(record[field] is None for field in empty)
    word = [record for record in records if record["hypothesis"] == "word" and record["states"] == "layer0/gates/o"]
    assert sorted(record["weighting"] for record in word) == ["balanced", "plain"]
    assert len(word[0]["top_units"]) == 10


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=str)
def test_help_says_what_each_flag_is(words, capsys):
    code = main(words)
    assert code == (0 if words else 2)
    out = capsys.readouterr().out
    assert "gatescope" in out
    if len(words) == 2:
        assert "--out" in out or words[0] in ("hypotheses", "unit", "info", "export")


BAD = [
    ("no command", ["frobnicate"], "unknown command 'frobnicate'"),
    ("unknown flag", ["train", "{text}", "--out", "{tmp}/m", "--hiden", "3"], "--hiden"),
    ("missing flag", ["train", "{text}"], "--out"),
    ("not a number", ["train", "{text}", "--out", "{tmp}/m", "--hidden", "many"], "--hidden"),
    ("out of range", ["train", "{text}", "--out", "{tmp}/m", "--dropout", "1.5"], "--dropout 1.5"),
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
    ("unknown character", ["extract", "{model}", "{unknown}", "--out", "{tmp}/e.zarr"], "vocabulary"),
    ("no text", ["extract", "{model}", "--out", "{tmp}/e.zarr"], "text"),
    ("no such dump", ["probe", "{tmp}/absent.zarr", "--out", "{tmp}/r"], "absent.zarr"),
    ("a dump that is none", ["probe", "{model}", "--out", "{tmp}/r"], "the states.zarr of a run"),
    ("no such hypothesis", ["probe", "{states}", "--out", "{tmp}/r", "--hypotheses", "inside_comet"], "inside_comet"),
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
]


@pytest.mark.parametrize(("words", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_gets_one_line_and_leaves_nothing(words, message, text, model, states, tmp_path):
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


def test_a_hypothesis_that_fails_is_named_and_the_others_run(states, tmp_path):
    functions = tmp_path / "mine.py"
    functions.write_text(
        "from gatescope.analysis.hypotheses import hypothesis\n"
        "@hypothesis(language='any')\ndef too_short(text):\n    'One value.'\n    return [True]\n"
        "@hypothesis(language='any')\ndef raises(text):\n    'Raises.'\n    return 1 / 0\n"
        "@hypothesis(language='any', values='continuous')\ndef depth(text):\n    'Its place.'\n"
        "    return [i / len(text) for i in range(len(text))]\n"
        "@hypothesis(language='any')\ndef is_x(text):\n    'An x.'\n    return [c == 'x' for c in text]\n"
    )
    done = gatescope("probe", states, "--out", tmp_path / "r", "--hypotheses", "any", "--functions", functions)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("too_short|raises", done.stderr)) >= 2 and "Traceback" not in done.stderr
    names = {record["hypothesis"] for record in json.loads((tmp_path / "r" / "probes.json").read_text())}
    assert {"depth", "is_x"} <= names and not {"too_short", "raises"} & names


def test_a_label_with_one_class_is_a_status(states, tmp_path):
    assert main(["probe", str(states), "--out", str(tmp_path / "r"), "--pattern", "never=\x00", *PROBE[:2]]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    never = [record for record in records if record["hypothesis"] == "never"]
    assert {record["status"] for record in never} == {"one_class"}
    assert all(record["top_units"] == [] for record in never)
    assert all(record["f1"] is None or record["f1"] == 0 for record in never)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {
    "flipped bit": (_flip, "layer0/h: block 0 (rows 0 to 719) does not match its checksum"),
    "truncated": (_cut, "layer0/h: block 0 (rows 0 to 719) is truncated"),
    "missing": (Path.unlink, "layer0/h: block 0 (rows 0 to 719) is missing"),
    "foreign": (lambda path: shutil.rmtree(path.parents[2]) or path.parents[2].mkdir(), ""),
    "half": (lambda path: (path.parents[2] / "zarr.json").unlink(), ""),
}


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_dump_is_named_by_info_and_refused_by_every_command(model, tmp_path, capsys, damage, compression):
    path = tmp_path / "states.zarr"
    assert main(["sample", str(model), "--out", str(path), *SAMPLE, "--compression", compression]) == 0
    assert main(["info", str(path)]) == 0
    change, message = DAMAGE[damage]
    change(path / "layer0" / "h" / "c.0.0")
    if compression == "zstd" and damage == "truncated":
        message = message.replace("is truncated", "does not match its checksum")
    results, others = str(tmp_path / "results"), str(tmp_path / "other")
    for words in (
        ["info", str(path)],
        ["probe", str(path), "--out", results],
        ["export", str(path), f"{others}.h5"],
        ["concat", str(path), "--out", others],
    ):
        capsys.readouterr()
        assert main(words) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1 and str(path) in err, err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["states.zarr"]


def test_export_and_concat(states, tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(states, tmp_path / f"{name}.zarr")
    parts = [str(tmp_path / "one.zarr"), str(tmp_path / "two.zarr")]
    assert main(["concat", *parts, "--out", str(tmp_path / "both.zarr")]) == 0
    assert main(["concat", *parts, "--out", parts[0]]) == 0
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "both.zarr")
    assert StateDump.open(tmp_path / "both.zarr").text() == 2 * StateDump.open(states).text()
    assert main(["info", str(tmp_path / "both.zarr")]) == 0 and ", sample, alignment" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "both.zarr"), str(tmp_path / "both.h5")]) == 0
    assert "both.h5: output1, states1, input1, forget1, hidden1, gate_o1" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "both.zarr"), str(tmp_path / "both.h5")]) == 2
    assert main(["probe", str(tmp_path / "both.h5"), "--out", str(tmp_path / "r"), *PROBE]) == 0


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


def test_a_tilde_is_the_home_folder(states, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(states, tmp_path / "s.zarr")
    (tmp_path / "my.py").write_text(
        "from gatescope.analysis.hypotheses import hypothesis\n\n"
        "@hypothesis(language='any', values='boolean')\ndef mine(text):\n    return [c == ' ' for c in text]\n"
    )
    assert main(["concat", "~/s.zarr", "--out=~/c.zarr"]) == 0
    assert main(["info", "~/c.zarr"]) == 0
    assert main(["export", "~/c.zarr", "~/e.h5"]) == 0
    assert main(["probe", "~/e.h5", "--out=~/r", "--functions=~/my.py", *PROBE]) == 0
    assert sorted(os.listdir(tmp_path)) == ["c.zarr", "e.dict", "e.h5", "e.yml", "my.py", "r", "s.zarr"]


def _probe(states, out, *controls):
    # A fork inherits no thread of the parent; one thread gives the same sums whatever else runs.
    assert main(["probe", states, "--out", out, *PROBE, *controls]) == 0


@pytest.mark.parametrize("n_kills, controls", [(5, []), pytest.param(30, ["--controls"], marks=pytest.mark.slow)])
def test_killing_probe_and_repeating_it_changes_nothing(model, tmp_path, n_kills, controls):
    # Two arrays of states make as many kinds of writes as nine.
    states = str(tmp_path / "states.zarr")
    assert main(["sample", str(model), "--out", states, *SAMPLE, "--capture", "h"]) == 0
    assert_survives_kills(_probe, lambda folder: (states, str(folder), *controls), tmp_path, n_kills)


def _repeat(words):
    assert main(words) == 0


@pytest.mark.parametrize("command", ["train", "sample", "probe"])
def test_a_finished_command_can_be_repeated_on_a_read_only_file_system(text, model, states, results, command):
    words, folder = {
        "train": (["train", str(text), "--out", str(model), *TRAIN], model),
        "sample": (["sample", str(model), "--out", str(states), *SAMPLE, "--capture", "h", "c", "gates"], states),
        "probe": (["probe", str(states), "--out", str(results), *PROBE], results),
    }[command]
    # The dump's folder lies on the file system, too.
    assert run_read_only(_repeat, (words,), folder.parent) == 0


@pytest.mark.parametrize("appears", ["config.json", "checkpoint.safetensors"])
def test_killing_the_real_command_and_repeating_it(text, model, tmp_path, appears):
    words = ["train", str(text), *TRAIN, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / appears).exists():
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert main(words) == 0
    assert contents(tmp_path / "killed") == contents(model)


def test_interruption_exits_with_130(text, tmp_path):
    words = [PROGRAM, "train", text, "--out", tmp_path / "m", *TRAIN, "--steps", "100000"]
    # A shell's background jobs ignore the interrupt, and so would the child.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while not (tmp_path / "m" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "gatescope: interrupted; repeat the command to go on where it stopped\n"


def test_a_full_disk_is_one_line(model, tmp_path):
    # The limit on the size of a file stands for a full disk: both refuse the write.
    done = gatescope("sample", model, "--out", tmp_path / "s.zarr", "--sequences", "200", largest_file=100_000)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and done.stderr.count("\n") == 1


def test_values_of_a_probe_do_not_depend_on_the_other_hypotheses(states, tmp_path):
    for name, extra in (("alone", []), ("beside", ["--pattern", "vowel=[aeiou]"])):
        words = ["probe", str(states), "--out", str(tmp_path / name), "--hypotheses", "newline_next", *extra]
        assert main(words) == 0
    found = {}
    for name in ("alone", "beside"):
        records = json.loads((tmp_path / name / "probes.json").read_text())
        found[name] = [record for record in records if record["hypothesis"] == "newline_next"]
    for one, other in zip(found["alone"], found["beside"], strict=True):
        for field in ("accuracy", "f1", "f1_low", "baseline_text_f1", "n_test"):
            assert one[field] == other[field]
        assert np.allclose(one["top_units"][0]["coefficient"], other["top_units"][0]["coefficient"], rtol=1e-3)


def test_what_is_not_finished_says_so(text, states, tmp_path, capsys, monkeypatch):
    calls = []

    def stopped(*given, **options):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return evaluate(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr("gatescope.engine.train.evaluate", stopped)
        train = ["train", str(text), "--out", str(tmp_path / "m"), "--hidden", "4", "--steps", "4"]
        assert main([*train, "--evaluate-every", "2", "--batch", "2", "--length", "10"]) == 130
    assert main(["info", str(tmp_path / "m")]) == 0
    assert "step 2 of 4, not finished: repeat the command to go on" in capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr("gatescope.analysis.study_fit.fit_study", stopped)
        assert main(["probe", str(states), "--out", str(tmp_path / "r")]) == 130
    assert main(["info", str(tmp_path / "r")]) == 0
    assert "output of `gatescope probe`, not finished: repeat" in capsys.readouterr().out
    for folder, message in (("r", "`gatescope probe` has not finished there"), ("m", "`gatescope train` makes none")):
        assert main(["report", str(tmp_path / folder)]) == 2
        assert message in capsys.readouterr().err


def test_info_compares_the_weights_of_a_dump_with_a_model(model, states, text, tmp_path, capsys):
    assert main(["info", str(states), "--model", str(model)]) == 0
    assert f"those of {model}" in capsys.readouterr().out
    other = tmp_path / "model"
    assert main(["train", str(text), "--out", str(other), *TRAIN, "--seed", "5"]) == 0
    assert main(["info", str(states), "--model", str(other)]) == 2
    assert "is of another model" in capsys.readouterr().err
    # A run's folder holds both.
    shutil.copytree(states, tmp_path / "states.zarr")
    assert main(["info", str(tmp_path)]) == 2
    assert "is of another model" in capsys.readouterr().err


def test_an_output_that_is_moved_away_is_named(model, tmp_path):
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
