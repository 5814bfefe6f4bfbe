"""about.py: what `info` reports of whole, damaged and unfinished outputs, and of a dump beside a model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from held_record import erased_record, record
from known_dump import write
from small_run import SAMPLE, TRAIN

from gatescope.analysis.cli import main
from gatescope.engine.evaluate import evaluate


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


def test_info_says_what_is_unfinished(text, states, tmp_path, capsys, monkeypatch):
    calls = []

    def stopped(*given, **options):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return evaluate(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr("gatescope.engine.training_loop.evaluate", stopped)
        train = ["train", str(text), "--out", str(tmp_path / "m"), "--hidden", "4", "--steps", "4"]
        assert main([*train, "--evaluate-every", "2", "--batch", "2", "--length", "10"]) == 130
    assert main(["info", str(tmp_path / "m")]) == 0
    assert "step 2 of 4, not finished: repeat the command to continue" in capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr("gatescope.analysis.study_fit.fit_study", stopped)
        assert main(["probe", str(states), "--out", str(tmp_path / "r")]) == 130
    assert main(["info", str(tmp_path / "r")]) == 0
    assert "output of `gatescope probe`, not finished: repeat" in capsys.readouterr().out
    for folder, message in (("r", "`gatescope probe` has not finished there"), ("m", "`gatescope train` makes none")):
        assert main(["report", str(tmp_path / folder)]) == 2
        assert message in capsys.readouterr().err


def test_kept_models_are_listed(text, tmp_path, capsys):
    folder = tmp_path / "m"
    train = ["--hidden", "4", "--steps", "40", "--batch", "2", "--length", "10", "--keep", "0", "20"]
    assert main(["train", str(text), "--out", str(folder), *train]) == 0
    assert f"{folder}/steps: 2 models kept during training, each in its own folder\n" in capsys.readouterr().out
    losses = []
    for step in (0, 20):
        assert main(["info", str(folder / "steps" / f"{step:06d}")]) == 0
        said = capsys.readouterr().out
        assert " nats = " in said and f"at step {step}\n" in said and "not finished" not in said
        losses.append(said.partition("validation loss ")[2].partition(" nats")[0])
    assert main(["info", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert lines == [
        f"  {folder}/steps/{name}: kept during training, validation loss {loss} nats"
        for name, loss in zip(("000000", "000020"), losses, strict=True)
    ]
    _cut(folder / "steps" / "000020" / "model.safetensors")
    assert main(["info", str(folder)]) == 2
    assert "steps/000020/model.safetensors is not a complete weight file" in capsys.readouterr().err


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


def test_a_folder_of_arrays_is_described_unless_it_is_a_folder_of_gatescope(model, tmp_path, capsys):
    for folder, said in ((tmp_path / "own", "own: states of another program"), (tmp_path / "model", "model: model, ")):
        if folder.name == "model":
            shutil.copytree(model, folder)
        folder.mkdir(exist_ok=True)
        np.save(folder / "layer0.npy", np.zeros((3, 2), np.float32))
        assert main(["info", str(folder)]) == 0
        assert said in capsys.readouterr().out


def test_all_faults_of_an_unfinished_dump_are_listed_at_once(tmp_path, capsys):
    path = write(tmp_path / "states.zarr", rows=700)
    (path / "layer0" / "h" / "c.4.0").unlink()
    assert main(["info", str(path)]) == 2
    said = capsys.readouterr().err
    assert "not finished: 640 of 1000 rows are written; layer0/h: block 4" in said


def test_info_counts_the_held_sets_and_erased_directions(tmp_path, capsys):
    for records, expected in (
        ([record(), record(), erased_record()], "2 sets of units held and 1 direction erased"),
        ([record()], "1 set of units held"),
    ):
        (tmp_path / "ablation.json").write_text(json.dumps(records))
        assert main(["info", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'ablation.json'}: what the model loses with {expected}\n"
