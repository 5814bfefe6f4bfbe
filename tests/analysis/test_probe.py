"""Probing a dump through the command line: what is recorded, resumed, kept within memory and printed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gatescope.analysis import study_fit
from gatescope.analysis.cli import main
from gatescope.analysis.probe import BYTES_OF_EACH, probe_dump
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.read_results import read_records, read_results
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary


@pytest.fixture
def text_states(tmp_path):
    """A dump of 20 sequences whose states follow their text."""
    rng = np.random.default_rng(0)
    starts = np.arange(21) * 30
    tokens = rng.integers(5, size=600).astype(np.uint8)
    attributes = {"vocabulary": ["\n", *"abei"]}
    spec = DumpSpec({"layer0/h": 6}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), attributes)
    with DumpWriter(tmp_path / "states.zarr", spec) as writer:
        writer.append(0, tokens, {"layer0/h": np.eye(6)[tokens] + 0.1 * rng.normal(size=(600, 6))})
    return tmp_path / "states.zarr"


OWN = """
from gatescope.analysis.hypotheses import hypothesis

@hypothesis(language="any")
def vowel(text):
    return [character in "aei" for character in text]

@hypothesis(language="any")
def too_short(text):
    return [True]
"""


@pytest.mark.parametrize("folds", [1, 5])
def test_settings_and_failed_hypotheses_are_recorded(tmp_path, capsys, text_states, folds):
    (tmp_path / "own.py").write_text(OWN)
    words = ["probe", str(text_states), "--functions", str(tmp_path / "own.py"), "--hypotheses", "--bootstrap", "50"]
    words += [
        "--pattern",
        "never=zzz",
        "--seed",
        "3",
        "--C",
        "0.5",
        "--out",
        str(tmp_path / "r"),
        *(["--folds", "5"] if folds > 1 else []),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    tested = "all tested in turn" if folds > 1 else "4 of them tested"
    assert f"states.zarr: 600 rows in 20 sequences of 30, {tested}; text: any; states: layer0/h" in said.out
    assert "too_short: hypothesis" in said.err
    # When repeated, the command does nothing, and reports again what is missing.
    assert main(words) == 0
    (again,) = capsys.readouterr().err.splitlines()
    assert again in said.err.splitlines()
    facts = json.loads((tmp_path / "r" / "config.json").read_text())["facts"]
    assert facts["probe"] == {
        "training_sequences": 16,
        "test_sequences": 20 if folds > 1 else 4,
        **({"folds": 5} if folds > 1 else {"test_share": 0.2}),
        "C": [0.5],
        "alignment": "post",
        "ranking": "auroc",
        "bootstrap": 50,
        "device": "cpu",
        "seed": 3,
    }
    assert list(facts["not_evaluated"]) == ["too_short"]
    assert main(["report", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Could not be evaluated (see the facts at the end): too_short." in page
    assert ("tested by probes fitted on 16 others" if folds > 1 else "16 to fit probes; 4 to test them") in page
    assert '<th scope="row">probe.C</th><td>0.5</td>' in page and '<th scope="row">probe.seed</th><td>3</td>' in page
    assert "returned values of shape (1,) for a text of" in page
    # A hypothesis without scores is not painted, and one without a description gets no empty sentence.
    assert page.count("<article") == 1 and '<p class="muted">The label follows from what' in page


def test_causes_of_too_small_intervals_are_pointed_out(tmp_path, capsys):
    rng, starts = np.random.default_rng(0), np.arange(31) * 10
    tokens = rng.integers(5, size=300).astype(np.uint8)
    told = {}
    for name, documents, width in (("few", starts[::10], 30), ("many", starts, 4)):
        attributes = {"vocabulary": ["\n", *"abei"]}
        spec = DumpSpec(
            {"layer0/h": width}, starts, documents, (), np.dtype(np.uint8), np.dtype(np.float16), attributes
        )
        with DumpWriter(tmp_path / name, spec) as writer:
            writer.append(0, tokens, {"layer0/h": rng.normal(size=(300, width))})
        words = ["--pattern", "vowel=[aei]", "--hypotheses", "--standard-errors", "--bootstrap", "20"]
        assert main(["probe", str(tmp_path / name), *words, "--out", str(tmp_path / f"{name}-r")]) == 0
        told[name] = capsys.readouterr().err
    assert "3 documents are too few to keep each whole" in told["few"] and "too few to keep" not in told["many"]
    assert "--standard-errors: 24 sequences (documents) for 30 units" in told["few"] and "errors" not in told["many"]


def test_a_corrected_function_file_can_be_probed_again(tmp_path, capsys, text_states):
    own = tmp_path / "own.py"
    own.write_text(OWN.replace("return [character", "return [oops"))
    words = ["probe", str(text_states), "--functions", str(own), "--hypotheses", "vowel", "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 2
    assert "no hypothesis could be evaluated" in capsys.readouterr().err
    own.write_text(OWN)
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    # Of the file's functions, only the named one is tested.
    assert {record["hypothesis"] for record in records} == {"vowel"}


def test_an_infinite_c_is_a_setting(tmp_path, text_states):
    words = ["probe", str(text_states), "--pattern", "a=a", "--hypotheses", "column", "--C", "inf", "--bootstrap", "20"]
    for _ in range(2):
        assert main([*words, "--out", str(tmp_path / "r")]) == 0


def test_a_stopped_probe_resumes_after_its_finished_fits(tmp_path, text_states, monkeypatch):
    words = ["probe", str(text_states), "--hypotheses", "any", "--pattern", "a=a", "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "undisturbed")]) == 0
    fit, fitted = study_fit.fit_study, []

    def stopped(study, name, labels, weighting):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append((name, weighting))
        return fit(study, name, labels, weighting)

    with monkeypatch.context() as patched:
        patched.setattr(study_fit, "fit_study", stopped)
        assert main([*words, "--out", str(tmp_path / "r")]) == 130
    assert len(list((tmp_path / "r" / "fits").iterdir())) == 2

    def counted(study, name, labels, weighting):
        fitted.append((name, weighting))
        return fit(study, name, labels, weighting)

    monkeypatch.setattr(study_fit, "fit_study", counted)
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    assert fitted == [("layer0/h", weighting) for weighting in ("plain", "balanced", "none")]
    for name in ("probes.json", "excerpts.json", "coefficients.safetensors"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not (tmp_path / "r" / "fits").exists()


def test_the_memory_limit_does_not_change_results(tmp_path, text_states):
    words = ["probe", str(text_states), "--hypotheses", "column", "--bootstrap", "20", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    before = (tmp_path / "r" / "probes.json").read_bytes()
    assert main([*words, "--memory-limit", "1GB"]) == 0
    assert (tmp_path / "r" / "probes.json").read_bytes() == before
    assert main([*words, "--controls"]) == 2
    assert main([*words, "--sparse"]) == 2


def test_probes_fitted_on_a_gpu_have_the_same_results(gpu, tmp_path, text_states, capsys):
    words = ["probe", str(text_states), "--hypotheses", "column", "--pattern", "vowel=[aei]", "--bootstrap", "20"]
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        assert main([*words, "--device", device, "--out", str(out)]) == 0
        found[device] = read_records(out)
        assert json.loads((out / "config.json").read_text())["facts"]["probe"]["device"] == device
    for record, of_gpu in zip(found["cpu"], found["cuda"], strict=True):
        assert [unit["unit"] for unit in record["top_units"][:3]] == [unit["unit"] for unit in of_gpu["top_units"][:3]]
        for name in ("auroc", "r2", "f1", "baseline_text_auroc", "auroc_low", "best_unit_auroc", "best_unit_pearson"):
            assert record.get(name) == pytest.approx(of_gpu.get(name), abs=1e-4), name
    # The same probe, whatever the device: a finished one is read.
    capsys.readouterr()
    before = (tmp_path / "cpu" / "probes.json").read_bytes()
    assert main([*words, "--device", "cuda", "--out", str(tmp_path / "cpu")]) == 0
    assert (tmp_path / "cpu" / "probes.json").read_bytes() == before


def test_controls_include_the_untrained_network(tmp_path, monkeypatch):
    """States of an untrained network score the same as themselves, and the dump of them is removed afterwards."""
    architecture, vocabulary = Architecture(hidden=12), Vocabulary(("\n", *"abei"))
    torch.manual_seed(3)
    untrained = TrainedModel(CharacterModel(architecture, 5).eval(), vocabulary, "", {}, {})
    sample_states(untrained, tmp_path / "states.zarr", SampleConfig(sequences=60, length=30), seed=1)
    words = ["probe", str(tmp_path / "states.zarr"), "--hypotheses", "column", "--pattern", "vowel=[aei]"]
    words += ["--bootstrap", "50", "--seed", "3", "--C", "1e9", "--controls", "--out", str(tmp_path / "r")]

    def stopped(*arguments):
        assert (tmp_path / "r" / "untrained.zarr").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(study_fit, "fit_study", stopped)
        assert main(words) == 130
    assert main(words) == 0
    assert not (tmp_path / "r" / "untrained.zarr").exists()
    for record in json.loads((tmp_path / "r" / "probes.json").read_text()):
        if record["weighting"] == "balanced":
            assert "untrained_score" not in record
            continue
        score = record["auroc" if record["kind"] == "boolean" else "r2"]
        # A penalty depends on the size of the states, and this C leaves little of it.
        assert record["untrained_score"] == pytest.approx(score, abs=2e-3)
        assert record["above_untrained_low"] < 2e-3 and record["above_untrained_high"] > -2e-3


def test_gates_that_were_recorded_are_counted_and_shown(tmp_path):
    architecture, vocabulary = Architecture(hidden=12), Vocabulary(("\n", *"abei"))
    model = TrainedModel(CharacterModel(architecture, 5).eval(), vocabulary, "", {}, {})
    config = SampleConfig(sequences=20, length=30, capture=("h", "gates"))
    sample_states(model, tmp_path / "states.zarr", config)
    words = ["probe", str(tmp_path / "states.zarr"), "--hypotheses", "column", "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    gates = json.loads((tmp_path / "r" / "gates.json").read_text())
    assert [(each["layer"], each["gate"], len(each["open"])) for each in gates] == [(0, gate, 12) for gate in "ifo"]
    assert main([*words, "--alignment", "pre", "--overwrite", "--out", str(tmp_path / "r")]) == 0
    assert json.loads((tmp_path / "r" / "gates.json").read_text()) == gates
    # Gates belong to no state set, wherever they are named.
    arrays = ["--arrays", "layer0/gates/f", "layer0/h"]
    assert main([*words, *arrays, "--alignment", "pre", "--overwrite", "--out", str(tmp_path / "r")]) == 0
    sample_states(model, tmp_path / "states.zarr", replace(config, capture=("h",)), overwrite=True)
    assert main([*words, "--overwrite", "--out", str(tmp_path / "r")]) == 0
    assert not (tmp_path / "r" / "gates.json").exists()


def test_texts_are_painted_once_by_the_probe_of_all_states(results):
    records, texts = (json.loads((results / f"{name}.json").read_text()) for name in ("probes", "excerpts"))
    assert len({record["states"] for record in records}) > 2
    assert {(text["states"], text["weighting"]) for text in texts} == {("all", "plain"), ("all", "none")}
    names = [text["hypothesis"] for text in texts]
    assert len(set(names)) == len(names) and set(names) <= {record["hypothesis"] for record in records}


def test_states_of_other_programs_have_no_untrained_network(tmp_path, text_states):
    words = ["probe", str(text_states), "--hypotheses", "any", "--controls", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    assert all(record.get("untrained_score") is None for record in records)
    assert any(record.get("control_score") is not None for record in records)


def test_hypotheses_beyond_the_memory_are_fitted_in_parts(tmp_path, text_states, monkeypatch):
    words = ["probe", str(text_states), "--hypotheses", "any", "--bootstrap", "20"]
    words += [word for letter in "abei" for word in ("--pattern", f"is_{letter}={letter}")]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    fit, sizes = study_fit.fit_study, []

    def counted(study, name, labels, weighting):
        sizes.append(len(labels.hypotheses))
        return fit(study, name, labels, weighting)

    monkeypatch.setattr(study_fit, "fit_study", counted)
    # Half of the limit has room for the fits of two hypotheses.
    limit = str(4 * BYTES_OF_EACH * 600)
    assert main([*words, "--memory-limit", limit, "--out", str(tmp_path / "parts")]) == 0
    assert len(sizes) > 5 and max(sizes) == 2
    sizes.clear()
    # Where all rows are tested, each hypothesis takes three times as much.
    limit = str(6 * BYTES_OF_EACH * 600)
    assert main([*words, "--folds", "2", "--memory-limit", limit, "--out", str(tmp_path / "folds")]) == 0
    assert max(sizes) == 1
    whole, parts = (json.loads((tmp_path / name / "probes.json").read_text()) for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        assert [one[key] for key in ("hypothesis", "states", "weighting")] == [
            other[key] for key in ("hypothesis", "states", "weighting")
        ]
        assert one["auroc"] == pytest.approx(other["auroc"], abs=1e-3)
        assert one["auroc_over_text_low"] == pytest.approx(other["auroc_over_text_low"], abs=1e-3)
        assert one["r2"] == pytest.approx(other["r2"], abs=1e-3)
    arrays = [load_file(tmp_path / name / "coefficients.safetensors") for name in ("whole", "parts")]
    for name, array in arrays[0].items():
        np.testing.assert_allclose(arrays[1][name], array, atol=1e-3, equal_nan=True)
    texts = [json.loads((tmp_path / name / "excerpts.json").read_text()) for name in ("whole", "parts")]
    assert [each["text"] for each in texts[0]] == [each["text"] for each in texts[1]]


def test_paths_may_be_strings(tmp_path, text_states, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump = StateDump.open("states.zarr")
    np.save("h.npy", dump.features(dump.names))
    (tmp_path / "text.txt").write_text(dump.text())
    (tmp_path / "labels.csv").write_text("row\n" + "".join(f"{row % 2}\n" for row in range(dump.n_rows)))
    (tmp_path / "my.py").write_text(OWN)
    config = ProbeConfig(hypotheses=("vowel",), functions="my.py", bootstrap=10)
    read = ReadConfig(text="text.txt", sequence_length=30)
    records = probe_dump("h.npy", "results", config, read=read, labels="labels.csv")
    assert {record["hypothesis"] for record in records} == {"vowel", "row"}
    for given in ("results", Path("results"), ["results"]):
        (result,) = read_results(given)
        assert result.name == "results" and list(result.records) == records
