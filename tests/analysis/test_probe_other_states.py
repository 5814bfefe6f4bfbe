"""Probing states, texts and labels of other programs through the command line."""

import json

import h5py
import numpy as np
import pandas
import pytest
import zarr
from safetensors.numpy import save_file

from gatescope.analysis.cli import main
from gatescope.analysis.split import split_sequences
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter


def rows_of_another_program(n=600, seed=0):
    """States of 12 sequences in which unit 3 knows `flag`, unit 5 `depth`, and no unit `noise`."""
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
    # The same states count as the same study; others are refused by name.
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    capsys.readouterr()
    assert main([*words, "--C", "2", "--out", str(tmp_path / "r")]) == 2
    assert "probe.C = 1.0" in capsys.readouterr().err
    assert main(["info", str(path)]) == 0
    assert "states of another program, 600 rows in 1 sequence, without text; all finite" in capsys.readouterr().out


def test_labels_may_have_the_shape_of_states_of_three_dimensions(tmp_path, capsys):
    states = np.random.default_rng(0).normal(size=(40, 30, 6)).astype(np.float32)  # [T, B, H]
    np.savez(tmp_path / "both.npz", h=states, labels=states[..., 3] > 0.3)
    words = ["probe", str(tmp_path / "both.npz"), "--bootstrap", "20"]
    assert main([*words, "--labels", str(tmp_path / "both.npz"), "--out", str(tmp_path / "r")]) == 0
    plain = json.loads((tmp_path / "r" / "probes.json").read_text())[0]
    assert plain["f1"] > 0.95 and plain["top_units"][0]["unit"] == 3
    np.savez(tmp_path / "turned.npz", flag=(states[..., 3] > 0.3).T)
    capsys.readouterr()
    assert main([*words, "--labels", str(tmp_path / "turned.npz"), "--out", str(tmp_path / "s")]) == 2
    assert "an array whose shape begins as theirs: [40, 30]" in capsys.readouterr().err


def test_states_of_another_program_may_have_a_text_and_labels(tmp_path):
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
    # Two of the twelve sequences are tested.
    assert "2 sequences (documents) are tested, but intervals" in capsys.readouterr().err
    assert main([*words, "--folds", "4", "--out", str(tmp_path / "folds")]) == 0
    assert not capsys.readouterr().err


def test_a_column_of_words_is_chosen_as_a_whole_or_word_by_word(tmp_path, capsys):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    tags = np.array(["DET", "NOUN", "VERB"])[np.arange(len(states)) % 3]
    pandas.DataFrame({**labels, "tag": tags}).to_csv(tmp_path / "labels.csv", index=False)
    words = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    for place, (names, expected) in enumerate(
        [
            (["tag"], {"tag=DET", "tag=NOUN", "tag=VERB"}),
            (["depth", "tag=NOUN"], {"depth", "tag=NOUN"}),
        ]
    ):
        assert main([*words, "--hypotheses", *names, "--out", str(tmp_path / str(place))]) == 0
        records = json.loads((tmp_path / str(place) / "probes.json").read_text())
        assert {record["hypothesis"] for record in records} == expected
    capsys.readouterr()
    assert main([*words, "--hypotheses", "tags", "--out", str(tmp_path / "none")]) == 2
    assert "no label, hypothesis or set is named 'tags'; did you mean tag" in capsys.readouterr().err


def test_a_column_without_labels_is_refused_unless_others_are_named(tmp_path, capsys):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "h.npy", states)
    pandas.DataFrame({**labels, "time": np.inf}).to_csv(tmp_path / "labels.csv", index=False)
    words = ["probe", tmp_path / "h.npy", "--labels", tmp_path / "labels.csv", "--bootstrap", "20"]
    for more in ([], ["--hypotheses", "auto", "flag"]):
        assert main(list(map(str, [*words, *more, "--out", tmp_path / "r"]))) == 2
        assert "time is inf in row 0" in capsys.readouterr().err
    assert main(list(map(str, [*words, "--hypotheses", "flag", "--out", tmp_path / "r"]))) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    assert {record["hypothesis"] for record in records} == {"flag"}


FOREIGN = [
    ("nothing to ask", [], "has no text to evaluate hypotheses on"),
    ("hypotheses without a text", ["--labels", "{labels}", "--hypotheses", "any"], "has no text"),
    ("one sequence", ["--labels", "{plain}"], "1 sequence(s) cannot be split"),
    ("a row without a sequence", ["--labels", "{hole}"], "row 17 has no sequence id"),
    ("labels of other rows", ["--labels", "{short}", "--sequence-length", "50"], "has 3 rows, and"),
    ("sequences twice", ["--labels", "{labels}", "--sequence-length", "50"], "sequences from the labels' sequence_id"),
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
def test_missing_companions_of_foreign_states_are_named(tmp_path, capsys, words, message):
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


def test_a_dump_of_words_is_probed_by_labels(tmp_path, capsys):
    random, words = np.random.default_rng(0), ["the", "dog", "sees", "."]
    tokens, starts = random.integers(4, size=600), np.arange(0, 601, 30)
    about = {"vocabulary": words, "kind": "recorded"}
    spec = DumpSpec({"layer0/h": 8}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float32), about)
    with DumpWriter(tmp_path / "s.zarr", spec) as writer:
        writer.append(0, tokens, {"layer0/h": random.normal(size=(600, 8)) + (tokens == 1)[:, None]})
    table = {"noun": tokens == 1, "sequence_id": np.arange(600) // 30}
    pandas.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    given = ["probe", str(tmp_path / "s.zarr"), "--bootstrap", "20", "--out", str(tmp_path / "r")]
    assert main([*given, "--labels", str(tmp_path / "labels.csv"), "--controls"]) == 0
    assert "4 of them tested; text of tokens" in capsys.readouterr().out
    record = json.loads((tmp_path / "r" / "probes.json").read_text())[0]
    # The last token decides the label.
    assert record["auroc"] > 0.9 and record["baseline_text_auroc"] == 1
    assert main(["report", str(tmp_path / "r")]) == 0
    assert main(["info", str(tmp_path / "s.zarr")]) == 0
    assert "state dump, 600 tokens in 20 sequences, recorded" in capsys.readouterr().out
    for more in ([], ["--labels", str(tmp_path / "labels.csv"), "--hypotheses", "any", "noun"]):
        assert main([*given[:-1], str(tmp_path / "other"), *more]) == 2
        assert "is of words, and these hypotheses are about characters: give your own" in capsys.readouterr().err


def test_a_column_of_many_words_is_pointed_out(tmp_path, capsys):
    states, labels = rows_of_another_program()
    words = [f"w{row % 101}" for row in range(len(states))]
    np.save(tmp_path / "x.npy", states)
    pandas.DataFrame(labels | {"word": words}).to_csv(tmp_path / "labels.csv", index=False)
    given = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    assert main([*given, "--hypotheses", "flag", "word=w0", "--out", str(tmp_path / "some")]) == 0
    assert "words of" not in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "all")]) == 0
    assert "each of 101 words of 'word' is a hypothesis" in capsys.readouterr().err


def test_a_column_of_two_numbers_other_than_0_and_1_is_noted(tmp_path, capsys):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    signs = np.where(labels["flag"], 1.0, -1.0)
    signs[::7] = np.nan
    pandas.DataFrame(labels | {"signs": signs}).to_csv(tmp_path / "labels.csv", index=False)
    given = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    assert main([*given, "--out", str(tmp_path / "r")]) == 0
    assert (
        "1 continuous column(s) have only two values (the first is 'signs', -1 and 1): write" in capsys.readouterr().err
    )
    assert main([*given, "--hypotheses", "flag", "depth", "--out", str(tmp_path / "some")]) == 0
    assert "two values" not in capsys.readouterr().err


def test_a_label_of_one_class_gets_no_penalty_warning(tmp_path, capsys):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    table = {"always": 1, "sequence_id": labels["sequence_id"]}
    pandas.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    given = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.csv"), "--bootstrap", "20"]
    assert main([*given, "--C", "0.1", "1", "--out", str(tmp_path / "r")]) == 0
    assert "is the best for" not in capsys.readouterr().err


def test_a_hypothesis_without_training_rows_gets_a_status(tmp_path, capfd):
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


def test_no_unit_is_named_for_a_constant_label(tmp_path):
    states, labels = rows_of_another_program()
    np.save(tmp_path / "x.npy", states)
    del labels["flag"], labels["noise"]
    np.savez(tmp_path / "labels.npz", constant=np.full(len(states), 2.5), **labels)
    words = ["probe", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "labels.npz"), "--bootstrap", "20"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    units = {each["hypothesis"]: each["top_units"] for each in json.loads((tmp_path / "r" / "probes.json").read_text())}
    assert units["constant"] == [] and units["depth"][0]["unit"] == 5
