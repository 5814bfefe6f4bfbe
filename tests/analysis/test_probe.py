"""Tests of probing what other programs recorded, through the command line."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
import torch
import zarr
from safetensors.numpy import load_file, save_file

from gatescope.analysis import study_fit
from gatescope.analysis.cli import main
from gatescope.analysis.probe import BYTES_OF_EACH, probe_dump, probe_settings
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.read_results import read_results
from gatescope.analysis.split import split_sequences
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary

OWN = """from gatescope.analysis.hypotheses import hypothesis


@hypothesis(language="any")
def vowel(text):
    return [character in "aeiou" for character in text]


@hypothesis(language="any")
def consonant(text):
    return [character not in "aeiou" for character in text]
"""


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


def rows_of_another_program(n=600, seed=0):
    """States of 12 sequences in which unit 3 knows `flag`, unit 5 `depth`, and none knows `noise`."""
    random = np.random.default_rng(seed)
    states = random.normal(size=(n, 8)).astype(np.float32)
    labels = {"flag": states[:, 3] > 0.3, "depth": states[:, 5] * 2 + 1, "noise": random.random(n) < 0.3}
    return states, {**labels, "sequence_id": np.repeat(np.arange(12), n // 12)}


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "safetensors", "zarr"])
def test_states_of_another_program_are_probed(tmp_path, capsys, suffix):
    states, labels = rows_of_another_program()
    path = tmp_path / f"other.{suffix}"
    if suffix == "npy":
        np.save(path, states)
    elif suffix == "npz":
        np.savez(path, other=states)
    elif suffix == "h5":
        with h5py.File(path, "w") as file:
            file["other"] = states
    elif suffix == "safetensors":
        save_file({"other": states}, path)
    else:
        zarr.create_group(path).create_array("other", data=states)
    pandas.DataFrame(labels).to_csv(tmp_path / "labels.csv", index=False)
    words = ["probe", str(path), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    plain = {record["hypothesis"]: record for record in records if record["weighting"] != "balanced"}
    assert plain.keys() == {"flag", "noise", "depth"}
    assert plain["flag"]["f1"] > 0.9 and plain["flag"]["top_units"][0]["unit"] == 3
    assert plain["depth"]["r2"] > 0.99 and plain["depth"]["top_units"][0]["unit"] == 5
    assert plain["noise"]["f1"] < 0.3 and plain["flag"]["baseline_text_f1"] is None
    assert main(["report", str(tmp_path / "r")]) == 0
    # The same states again are the same study, others are refused by name.
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    capsys.readouterr()
    assert main([*words, "--C", "2", "--out", str(tmp_path / "r")]) == 2
    assert "probe.C = 1.0" in capsys.readouterr().err
    assert main(["info", str(path)]) == 0
    assert "states of another program, 600 rows in 1 sequences, without text; all finite" in capsys.readouterr().out


def test_a_text_and_labels_beside_states_of_another_program(tmp_path):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    (tmp_path / "text.txt").write_text("".join("(" if flag else "x" for flag in labels["flag"]))
    words = ["probe", str(tmp_path / "x.npy"), "--text", str(tmp_path / "text.txt"), "--sequence-length", "50"]
    assert main([*words, "--pattern", "open=[(]", "--hypotheses", "any", "--out", str(tmp_path / "a")]) == 0
    records = json.loads((tmp_path / "a" / "probes.json").read_text())
    scores = {record["hypothesis"]: record["f1"] for record in records if record["weighting"] == "plain"}
    assert scores["open"] > 0.9 and len(scores) > 1
    assert {item["hypothesis"] for item in json.loads((tmp_path / "a" / "excerpts.json").read_text())} >= scores.keys()
    del labels["sequence_id"]
    np.savez(tmp_path / "labels.npz", **labels)
    assert main([*words, "--labels", str(tmp_path / "labels.npz"), "--out", str(tmp_path / "b")]) == 0
    records = json.loads((tmp_path / "b" / "probes.json").read_text())
    assert {record["hypothesis"] for record in records} == {"flag", "depth", "noise"}
    assert all(record["baseline_text_f1"] is not None for record in records if record["kind"] == "boolean")


def test_columns_of_a_table_are_chosen_by_name(tmp_path, capsys):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    (tmp_path / "text.txt").write_text("".join("(" if flag else "x" for flag in labels["flag"]))
    pandas.DataFrame(labels).to_csv(tmp_path / "labels.csv", index=False)
    words = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    text = ["--text", str(tmp_path / "text.txt")]
    for place, (more, expected) in enumerate(
        [
            (["--hypotheses", "depth", "noise"], {"depth", "noise"}),
            (["--hypotheses", "auto", "noise"], {"flag", "noise", "depth"}),
            ([*text, "--hypotheses", "flag", "column"], {"flag", "column"}),
            ([*text, "--hypotheses", "auto", "column"], {"flag", "noise", "depth", "column"}),
            ([*text, "--hypotheses", "column"], {"flag", "noise", "depth", "column"}),
        ]
    ):
        assert main([*words, *more, "--out", str(tmp_path / str(place))]) == 0
        records = json.loads((tmp_path / str(place) / "probes.json").read_text())
        assert {record["hypothesis"] for record in records} == expected
    # Of twelve sequences two are tested.
    assert "2 sequences (documents) are tested, and intervals" in capsys.readouterr().err
    assert main([*words, "--folds", "4", "--out", str(tmp_path / "folds")]) == 0
    assert not capsys.readouterr().err


FOREIGN = [
    ("nothing to ask", [], "has no text to evaluate hypotheses on"),
    ("hypotheses without a text", ["--labels", "{labels}", "--hypotheses", "any"], "has no text"),
    ("one sequence", ["--labels", "{plain}"], "1 sequence(s) cannot be split"),
    ("a row without a sequence", ["--labels", "{hole}"], "row 17 has no sequence id"),
    ("labels of other rows", ["--labels", "{short}", "--sequence-length", "50"], "has 3 rows, and"),
    ("sequences twice", ["--labels", "{labels}", "--sequence-length", "50"], "sequences by the labels' sequence_id"),
    ("no initial states", ["--labels", "{labels}", "--alignment", "pre"], "no state before"),
    ("one name twice", ["--text", "{text}", "--labels", "{labels}", "--pattern", "flag=x"], "two hypotheses"),
    ("no such array", ["--labels", "{labels}", "--arrays", "h"], "has no 'h'"),
    (
        "a label misspelled",
        ["--labels", "{labels}", "--hypotheses", "flg"],
        "is named 'flg'; did you mean flag?",
    ),
    ("and which is meant", ["--labels", "{labels}", "--hypotheses", "flag", "dept"], "did you mean depth?"),
]


@pytest.mark.parametrize(("words", "message"), [case[1:] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
def test_what_is_missing_beside_states_of_another_program(tmp_path, capsys, words, message):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    (tmp_path / "text").write_text("x" * len(states))
    pandas.DataFrame(labels).to_csv(tmp_path / "labels.csv", index=False)
    pandas.DataFrame(labels).drop(columns="sequence_id").to_csv(tmp_path / "plain.csv", index=False)
    pandas.DataFrame(labels)[:3].drop(columns="sequence_id").to_csv(tmp_path / "short.csv", index=False)
    holed = pandas.DataFrame(labels).astype({"sequence_id": object})
    holed.loc[17, "sequence_id"] = None
    holed.to_csv(tmp_path / "hole.csv", index=False)
    places = {name: tmp_path / f"{name}.csv" for name in ("labels", "plain", "short", "hole")} | {
        "text": tmp_path / "text"
    }
    words = [word.format(**places) for word in words]
    assert main(["probe", str(tmp_path / "x.npy"), *words, "--out", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_column_of_many_words_is_pointed_out(tmp_path, capsys):
    states, labels = rows_of_another_program()
    words = [f"w{row % 101}" for row in range(len(states))]
    np.save(tmp_path / "x.npy", states)
    pandas.DataFrame(labels | {"word": words}).to_csv(tmp_path / "labels.csv", index=False)
    given = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    assert main([*given, "--hypotheses", "flag", "word=w0", "--out", str(tmp_path / "some")]) == 0
    assert "words of" not in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "all")]) == 0
    assert "101 words of 'word' are a hypothesis each" in capsys.readouterr().err


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
def test_how_it_was_probed_and_what_failed_stays_known(tmp_path, capsys, text_states, folds):
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
    # Repeated, the command does nothing, and says again what is lacking.
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
        "seed": 3,
    }
    assert list(facts["not_evaluated"]) == ["too_short"]
    assert main(["report", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Could not be evaluated, as the facts at the end say: too_short." in page
    assert ("tested by probes fitted on 16 others" if folds > 1 else "16 to fit probes; 4 to test them") in page
    assert '<th scope="row">probe.C</th><td>0.5</td>' in page and '<th scope="row">probe.seed</th><td>3</td>' in page
    assert "returned values of shape (1,) for a text of" in page
    # What is not scored is not painted, and what is not described has no empty sentence.
    assert page.count("<article") == 1 and '<p class="muted">The label follows from what' in page


def test_what_makes_intervals_and_errors_too_small_is_pointed_out(tmp_path, capsys):
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


def test_one_may_mend_what_was_wrong_and_repeat(tmp_path, capsys, text_states):
    own = tmp_path / "own.py"
    own.write_text(OWN.replace("return [character", "return [oops"))
    words = ["probe", str(text_states), "--functions", str(own), "--hypotheses", "vowel", "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 2
    assert "none of the 1 hypotheses could be evaluated" in capsys.readouterr().err
    own.write_text(OWN)
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    # Of the functions of the file only the named one is asked.
    assert {record["hypothesis"] for record in records} == {"vowel"}


def test_an_infinite_c_is_a_setting(tmp_path, text_states):
    words = ["probe", str(text_states), "--pattern", "a=a", "--hypotheses", "column", "--C", "inf", "--bootstrap", "20"]
    for _ in range(2):
        assert main([*words, "--out", str(tmp_path / "r")]) == 0


def test_a_hypothesis_without_a_training_row_stops_no_other_and_has_a_status(tmp_path, capfd):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    tested = 50 * split_sequences(np.arange(12), 0.2, 0)[1][0]
    depth, flag = np.full(len(states), np.nan), np.full(len(states), np.nan)
    depth[tested], flag[tested] = 1.5, 1
    np.savez(tmp_path / "labels.npz", depth_nowhere=depth, flag_nowhere=flag, **labels)
    words = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.npz"), "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    statuses = {record["hypothesis"]: record["status"] for record in records if record["weighting"] != "balanced"}
    assert statuses["flag"] == statuses["depth"] == "converged"
    assert (statuses["flag_nowhere"], statuses["depth_nowhere"]) == ("one_class", "empty")
    assert "Warning" not in capfd.readouterr().err


def test_no_unit_is_named_where_nothing_tells(tmp_path):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    del labels["flag"], labels["noise"]
    np.savez(tmp_path / "labels.npz", constant=np.full(len(states), 2.5), **labels)
    words = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.npz"), "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    units = {each["hypothesis"]: each["top_units"] for each in json.loads((tmp_path / "r" / "probes.json").read_text())}
    assert units["constant"] == [] and units["depth"][0]["unit"] == 5


def test_a_probe_that_was_stopped_goes_on_behind_its_finished_fits(tmp_path, text_states, monkeypatch):
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


def test_the_limit_of_memory_decides_nothing(tmp_path, text_states):
    words = ["probe", str(text_states), "--hypotheses", "column", "--bootstrap", "20", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    before = (tmp_path / "r" / "probes.json").read_bytes()
    assert main([*words, "--memory-limit", "1GB"]) == 0
    assert (tmp_path / "r" / "probes.json").read_bytes() == before
    assert main([*words, "--controls"]) == 2
    assert main([*words, "--sparse"]) == 2
    # What was not asked for makes no difference between results from before it could be and after.
    of_sparse, of_all = (probe_settings(ProbeConfig(sparse=sparse), 0)["kinds"].keys() for sparse in (True, False))
    assert of_sparse - of_all == {"units"}
    assert not {"controls", "sparse", "folds"} & probe_settings(ProbeConfig(), 0)["probe"].keys()


def test_controls_ask_the_network_before_its_training(tmp_path, monkeypatch):
    """States of a network that was never trained tell as much as themselves, and the dump of them goes."""
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
        # A penalty would know the size of the states; of this one little is left.
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
    # Gates are of none of the sets, wherever they stand.
    arrays = ["--arrays", "layer0/gates/f", "layer0/h"]
    assert main([*words, *arrays, "--alignment", "pre", "--overwrite", "--out", str(tmp_path / "r")]) == 0
    sample_states(model, tmp_path / "states.zarr", replace(config, capture=("h",)), overwrite=True)
    assert main([*words, "--overwrite", "--out", str(tmp_path / "r")]) == 0
    assert not (tmp_path / "r" / "gates.json").exists()


def test_states_of_other_programs_have_no_untrained_network(tmp_path, text_states):
    words = ["probe", str(text_states), "--hypotheses", "any", "--controls", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    assert all(record.get("untrained_score") is None for record in records)
    assert any(record.get("control_score") is not None for record in records)


def test_hypotheses_beyond_the_memory_are_fitted_one_part_after_another(tmp_path, text_states, monkeypatch):
    words = ["probe", str(text_states), "--hypotheses", "any", "--bootstrap", "20"]
    words += [word for letter in "abei" for word in ("--pattern", f"is_{letter}={letter}")]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    fit, sizes = study_fit.fit_study, []

    def counted(study, name, labels, weighting):
        sizes.append(len(labels.hypotheses))
        return fit(study, name, labels, weighting)

    monkeypatch.setattr(study_fit, "fit_study", counted)
    # Room for the fits of two hypotheses in half of it.
    limit = str(4 * BYTES_OF_EACH * 600)
    assert main([*words, "--memory-limit", limit, "--out", str(tmp_path / "parts")]) == 0
    assert len(sizes) > 5 and max(sizes) == 2
    sizes.clear()
    # Where all rows are tested each hypothesis takes three times as much.
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


def test_paths_are_text_too(tmp_path, text_states, monkeypatch):
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
