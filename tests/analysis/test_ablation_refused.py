"""What an ablation refuses: one line, and nothing is written."""

import json
import shutil

import pytest
import torch
from killing import contents
from latched_model import CHARACTERS
from latched_world import PROBE, SAMPLE, S, T, ablate, make_world

from gatescope.analysis import ablation
from gatescope.analysis.cli import main
from gatescope.engine.folder_lock import locked
from gatescope.engine.hooks import record_states


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("latched"))


BAD = {
    "no such hypothesis": (["--hypothesis", "absent"], "absent"),
    "continuous": (["--hypothesis", "line_position"], "continuous"),
    "too few random sets": (["--random-sets", "5"], "--random-sets 5"),
    "too many": (["--random-sets", "1000000000"], "--random-sets 1000000000"),
    "no units": (["--units", "0"], "--units 0"),
    "more than are ranked": (
        ["--hypothesis", "inside", "--units", "1", "11"],
        "--units 11: the results name only the first 10",
    ),
    "no characters": (["--length", "1"], "--length 1"),
    "method": (["--method", "lesion"], "--method"),
    "one sequence": (["--method", "resample", "--sequences", "1"], "--method resample"),
    "labels that were not the probe's": (["--labels", "{labels}"], "labels.csv"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_flags_give_a_one_line_error_and_write_nothing(world, words, message, capsys, tmp_path):
    (tmp_path / "labels.csv").write_text("y\n" + "0\n1\n" * (S * T // 2))
    before = contents(world / "results")
    ablate(world, *(word.format(labels=tmp_path / "labels.csv") for word in words), code=2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (world / "out").exists() and contents(world / "results") == before


def test_mismatched_model_states_and_results_are_refused(world, tmp_path, capsys):
    def refused(message, results=world / "results", **changed):
        given = {"model": world / "model", "states": world / "states.zarr"} | changed
        flags = [word for name, value in given.items() if value for word in (f"--{name}", value)]
        assert main(list(map(str, ["ablate", results, *flags, "--out", tmp_path / "out"]))) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()

    refused("--model", model=None)
    refused("--states", states=None)
    refused("config.json", results=tmp_path)
    refused("probes.json is missing", results=world / "states.zarr", states=None)
    more = tmp_path / "more.zarr"
    assert main(["sample", str(world / "model"), "--out", str(more), *SAMPLE, "--seed", "1"]) == 0
    refused("is not the dump that was probed", states=more)
    train = ["--hidden", "4", "--steps", "2", "--batch", "2", "--length", "5", "--evaluate-every", "1"]
    (tmp_path / "text").write_text("\n()ab" * 50)
    assert main(["train", str(tmp_path / "text"), "--out", str(tmp_path / "other"), *train]) == 0
    refused("another model", model=tmp_path / "other")
    rnn = torch.nn.RNN(len(CHARACTERS), 4, batch_first=True)
    tokens = torch.randint(0, len(CHARACTERS), (20, 30))
    recorded = tmp_path / "recorded.zarr"
    with record_states(rnn, {"layer0/h": rnn}, recorded, vocabulary=CHARACTERS) as recording:
        rnn(torch.nn.functional.one_hot(tokens, len(CHARACTERS)).float())
        recording.add(tokens)
    assert main(list(map(str, ["probe", recorded, "--out", tmp_path / "of_recorded", *PROBE]))) == 0
    refused("save_model", results=tmp_path / "of_recorded", states=recorded, hypothesis="a")


def test_results_that_were_changed_are_refused(world, tmp_path, capsys):
    def refused(message, *words):
        flags = ["--model", world / "model", "--states", world / "states.zarr", "--out", tmp_path / "out", *words]
        assert main(list(map(str, ["ablate", tmp_path / "results", *flags]))) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()

    shutil.copytree(world / "results", tmp_path / "results")
    of_probe = tmp_path / "results" / "probes.json"
    records = json.loads(of_probe.read_text())
    of_probe.write_text(json.dumps([record | {"top_units": []} for record in records]))
    refused("no ranking of units", "--hypothesis", "inside")
    of_probe.write_text(json.dumps([record | {"auroc_over_text_low": None} for record in records]))
    refused("no known boolean hypothesis")
    of_probe.write_text(json.dumps(records))
    config = tmp_path / "results" / "config.json"
    made = json.loads(config.read_text())
    for seed in (-1, "0", None):
        config.write_text(json.dumps(made | {"settings": made["settings"] | {"seed": seed}}))
        refused("config.json is damaged, or not from a probe", "--hypothesis", "inside")


def test_states_must_include_every_layer(world, tmp_path, capsys):
    train = ["--hidden", "4", "--steps", "2", "--batch", "2", "--length", "5", "--evaluate-every", "1"]
    (tmp_path / "text").write_text("ab b\n" * 50)
    sample = ["--sequences", "20", "--length", "30", "--capture", "h"]
    for words in (
        ["train", tmp_path / "text", "--out", tmp_path / "model", *train],
        ["sample", tmp_path / "model", "--out", tmp_path / "states.zarr", *sample],
        ["probe", tmp_path / "states.zarr", "--out", tmp_path / "results", *PROBE],
    ):
        assert main(list(map(str, words))) == 0
    capsys.readouterr()
    words = ["ablate", tmp_path / "results", "--model", tmp_path / "model", "--states", tmp_path / "states.zarr"]
    assert main(list(map(str, [*words, "--hypothesis", "a"]))) == 2
    assert "--capture h c" in capsys.readouterr().err


def test_a_folder_in_use_is_refused_before_any_work(world, tmp_path, capsys, monkeypatch):
    def never(*_):
        raise AssertionError("it was computed")

    monkeypatch.setattr(ablation, "ablation_records", never)
    (tmp_path / "out").mkdir()
    words = ["ablate", world / "results", "--model", world / "model", "--states", world / "states.zarr"]
    with locked(tmp_path / "out"):
        assert main(list(map(str, [*words, "--hypothesis", "inside", "--out", tmp_path / "out"]))) == 2
    assert "is being written by another program" in capsys.readouterr().err


def test_a_hypothesis_that_never_holds_in_the_read_text_is_named(world, capsys):
    ablate(world, "--hypothesis", "inside", "a", "--sequences", "1", "--length", "2", code=2)
    assert "holds at none of the 1 character that is read" in capsys.readouterr().err
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (
            {"states": "layer1/h", "unit": 24},
            "layer1/h 24 cannot be held: the model has units 0 to 23 of layer0/h",
        ),
        ({"states": "layer2/h", "unit": 0}, "layer2/h 0 cannot be held"),
        ({"states": "layer0/h", "unit": -1}, "layer0/h -1 cannot be held"),
        ({"states": "layer0/c", "unit": 1}, "layer0/c 1 cannot be held"),
        ({"states": f"layer{'9' * 5000}/h", "unit": 1}, "cannot be held"),
    ],
)
def test_rankings_with_unknown_units_are_refused(world, tmp_path, capsys, unit, message):
    shutil.copytree(world / "results", tmp_path / "results")
    path = tmp_path / "results" / "probes.json"
    records = json.loads(path.read_text())
    for record in records:
        record["largest_weights"] = [*record["largest_weights"], unit]
    path.write_text(json.dumps(records))
    words = ["ablate", tmp_path / "results", "--model", world / "model", "--states", world / "states.zarr"]
    assert main(list(map(str, [*words, "--hypothesis", "inside", "--units", "1"]))) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results" / "ablation.json").exists()
