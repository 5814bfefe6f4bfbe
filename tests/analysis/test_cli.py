"""The real command line: what each command writes and prints."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from forked import gatescope
from killing import contents
from small_run import PROBE, RUN, SAMPLE, TEXT, TRAIN

from gatescope.analysis.cli import COMMANDS, main
from gatescope.engine import progress
from gatescope.engine.dump import StateDump


# Each hypothesis costs a figure, and figures take most of the time: only one cell has them all.
@pytest.mark.parametrize(("cell", "hypotheses"), [("lstm", "inside_string"), ("gru", "inside_string"), ("rnn", "auto")])
def test_run_writes_everything_and_prints_the_table(text, tmp_path, cell, hypotheses):
    out = tmp_path / "out"
    words = ["run", "--corpus", text, "--cell", cell, "--out", out, *RUN, "--probe.bootstrap", "20", "--seed", "3"]
    words += ["--hypotheses", hypotheses, "--train.keep", "0", "25"]
    done = gatescope(*words, "--pattern", "number=[0-9]+", "--pattern", "brace=[{}]")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("config.json", "log.jsonl", "model", "states.zarr"),
        *("probes.json", "excerpts.json", "coefficients.safetensors", "report.html", "figures"),
    }
    assert sorted(path.name for path in (out / "model" / "steps").iterdir()) == ["000000", "000025"]
    assert done.stdout.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert "inside_string" in done.stdout and "brace" in done.stdout
    records = json.loads((out / "probes.json").read_text())
    assert {record["hypothesis"] for record in records} >= {"inside_string", "number", "brace"}
    assert "all" in {record["states"] for record in records} or cell != "lstm"
    assert "<script>alert" not in (out / "report.html").read_text()
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"train", "validate", "sample", "label", "probe"} <= {line["stage"] for line in log}

    # Repeating it changes nothing, other settings are refused by name, --overwrite starts again.
    before = contents(out)
    assert gatescope(*words, "--pattern", "number=[0-9]+", "--pattern", "brace=[{}]").returncode == 0
    assert contents(out) == before
    other = gatescope(*words)
    assert other.returncode == 2 and "probe.pattern" in other.stderr


def test_single_commands_work_and_info_describes_their_output(text, model, states, results, tmp_path, capsys):
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


def test_records_have_every_field_with_null_for_inapplicable_metrics(results):
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


def test_every_progress_bar_ends_at_its_total(text, model, states, tmp_path, monkeypatch):
    bars = []

    def lines(description, total, unit, done):
        bars.append([description, total, done])

        def advance(amount, note=""):
            bars[-1][2] += amount

        return advance

    monkeypatch.setattr(progress, "_lines", lines)
    for words in [
        ["train", text, "--out", tmp_path / "m", *TRAIN],
        ["sample", model, "--out", tmp_path / "s.zarr", *SAMPLE],
        ["extract", model, text, "--out", tmp_path / "e.zarr"],
        ["concat", tmp_path / "s.zarr", tmp_path / "e.zarr", "--out", tmp_path / "c.zarr"],
        ["export", states, tmp_path / "s.h5"],
        ["probe", states, "--out", tmp_path / "r", "--hypotheses", "newline_next", "--bootstrap", "20"],
        ["ablate", tmp_path / "r", "--model", model, "--states", states, "--hypothesis", "newline_next"],
    ]:
        assert main([str(word) for word in words]) == 0
    assert [name for name, _, _ in bars] == ["train", "sample", "extract", "concatenate", "export", "probe", "ablate"]
    assert [done for _, _, done in bars] == [total for _, total, _ in bars]


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=str)
def test_help_explains_every_flag(words, capsys):
    code = main(words)
    assert code == (0 if words else 2)
    out = capsys.readouterr().out
    assert "gatescope" in out
    if len(words) == 2:
        assert "--out" in out or words[0] in ("hypotheses", "unit", "info", "export")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_arguments_as_the_readme_does(name, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    words = re.findall(rf"^\| `gatescope {name}([^`]*)`", readme, re.MULTILINE)[0].split()
    named = [word.partition(".h5")[0] for word in words[: next((i for i, w in enumerate(words) if w[0] in "[-"), None)]]
    assert main([name, "--help"]) == 0
    usage = re.sub(r"\[[^]]*\]|--out PATH", "", capsys.readouterr().out.splitlines()[0]).split()[3:]
    # Here the README gives an example in place of the names: a unit, and one of the two experiments.
    examples = {"unit": ["STATES", "ARRAY", "UNIT"], "reproduce": ["{shakespeare,linux}"]}
    assert usage == examples.get(name, named)


def test_a_failing_hypothesis_is_named_and_the_others_run(states, tmp_path):
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


def test_a_label_with_one_class_gives_a_status(states, tmp_path):
    assert main(["probe", str(states), "--out", str(tmp_path / "r"), "--pattern", "never=\x00", *PROBE[:2]]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    never = [record for record in records if record["hypothesis"] == "never"]
    assert {record["status"] for record in never} == {"one_class"}
    assert all(record["top_units"] == [] for record in never)
    assert all(record["f1"] is None or record["f1"] == 0 for record in never)


def test_export_and_concat_commands_report_what_they_wrote(states, tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(states, tmp_path / f"{name}.zarr")
    parts = [str(tmp_path / "one.zarr"), str(tmp_path / "two.zarr")]
    assert main(["concat", *parts, "--out", str(tmp_path / "both.zarr")]) == 0
    for said in (" of 2 dumps\n", " of 2 dumps; the others were appended before\n"):
        capsys.readouterr()
        assert main(["concat", *parts, "--out", parts[0]]) == 0
        assert capsys.readouterr().out.endswith(said)
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "both.zarr")
    assert StateDump.open(tmp_path / "both.zarr").text() == 2 * StateDump.open(states).text()
    assert main(["info", str(tmp_path / "both.zarr")]) == 0 and ", sample, alignment" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "both.zarr"), str(tmp_path / "both.h5")]) == 0
    assert "both.h5: output1, states1, input1, forget1, hidden1, gate_o1" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "both.zarr"), str(tmp_path / "both.h5")]) == 2
    assert main(["probe", str(tmp_path / "both.h5"), "--out", str(tmp_path / "r"), *PROBE]) == 0


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
