"""A run whose probe was refused: after the mistake is mended, it resumes with the existing model and states."""

import json

import nltk
import pytest
from killing import contents

from gatescope.analysis import parts_of_speech
from gatescope.analysis.cli import main

BAD = """from gatescope.analysis.hypotheses import hypothesis
@hypothesis(language="any", values="boolean")
def vowel(text):
    "A vowel."
    return [oops in "aeiou" for character in text]
"""


@pytest.fixture
def words(tmp_path):
    (tmp_path / "text.py").write_text("def f(x):  # comment\n    return {'a': x}\n\n" * 60)
    (tmp_path / "own.py").write_text(BAD)
    train = (
        "--train.hidden 8 --train.batch 8 --train.length 25 --train.steps 4 --sample.sequences 12 --sample.length 40"
    )
    given = [f"--corpus {tmp_path}/text.py --out {tmp_path}/out --hypotheses vowel", train, "--probe.bootstrap 20"]
    return ["run", *" ".join(given).split(), "--probe.functions", str(tmp_path / "own.py")]


@pytest.mark.parametrize("mended", ["the file", "the flag"])
def test_a_run_resumes_with_corrected_input(words, tmp_path, capsys, texts_to_draw, mended):
    assert main(words) == 2
    assert "no hypothesis could be evaluated" in capsys.readouterr().err
    made = {name: contents(tmp_path / "out" / name) for name in ("model", "states.zarr")}
    if mended == "the file":
        (tmp_path / "own.py").write_text(BAD.replace("oops", "character"))
    else:
        words[words.index("vowel")] = "line_position"
        del words[-2:]
    # Settings of the existing stages must still match.
    assert main([*words, "--seed", "3"]) == 2 and "made with seed = 0" in capsys.readouterr().err
    assert main([*words, "--train.dropout", "0.5"]) == 2 and "train.dropout" in capsys.readouterr().err
    assert main([*words, "--probe.C", "2"]) == 0
    assert {name: contents(tmp_path / "out" / name) for name in made} == made
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["settings"]
    assert settings["probe"]["C"] == 2 and ("functions_sha256" in settings) == (mended == "the file")
    # So must those of the probe, now that it has results.
    capsys.readouterr()
    assert main([*words, "--probe.C", "3"]) == 2 and "probe.C = 2" in capsys.readouterr().err
    assert main([*words, "--probe.C", "2"]) == 0


def test_a_model_that_learnt_nothing_gives_a_warning(tmp_path, capsys):
    (tmp_path / "text").write_text("a line\n" * 200)
    train = "hidden 4", "batch 4", "length 10", "steps 5", "learning-rate 1e4", "clip 1e4"
    alone = ["train", str(tmp_path / "text"), "--out", str(tmp_path / "model")]
    assert main([*alone, *" ".join(f"--{each}" for each in train).split()]) == 0
    assert capsys.readouterr().err.count("nothing was learnt") == 1
    run = ["run", "--corpus", str(tmp_path / "text"), "--out", str(tmp_path / "out"), "--hypotheses", "line_position"]
    words = " ".join(f"--train.{each}" for each in train) + " --sample.sequences 12 --sample.length 40"
    main([*run, *words.split(), "--probe.bootstrap", "20"])
    assert capsys.readouterr().err.count("nothing was learnt") == 1


def test_a_text_with_hidden_characters_gives_a_warning(tmp_path, capsys):
    (tmp_path / "text").write_bytes(b"a line\r\n" * 200)
    train = "hidden 4", "batch 4", "length 10", "steps 2"
    alone = ["train", str(tmp_path / "text"), "--out", str(tmp_path / "model")]
    assert main([*alone, *" ".join(f"--{each}" for each in train).split()]) == 0
    assert capsys.readouterr().err.count("has 200 carriage returns") == 1
    run = ["run", "--corpus", str(tmp_path / "text"), "--out", str(tmp_path / "out"), "--hypotheses", "line_position"]
    words = " ".join(f"--train.{each}" for each in train) + " --sample.length 40 --probe.bootstrap 20"
    assert main([*run, *words.split(), "--sample.sequences", "12"]) == 0
    said = capsys.readouterr().err
    assert said.count("has 200 carriage returns") == 1
    assert said.endswith("need 8: give more --sample.sequences, or test all with --probe.folds 5\n")
    # All of six would be too few, too.
    assert main([*run, *words.split(), "--sample.sequences", "6", "--overwrite"]) == 0
    assert capsys.readouterr().err.endswith("need 8: give more --sample.sequences\n")


def test_tagger_data_installed_later_is_used_on_resuming(tmp_path, capsys, data, monkeypatch, texts_to_draw):
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.delenv("NLTK_DATA", raising=False)
    parts_of_speech._tagger.cache_clear()
    (tmp_path / "text").write_text("The dog and the cat have seen what you will do to them.\n" * 60)
    train = "--train.hidden 8 --train.batch 8 --train.length 25 --train.steps 4 --sample.sequences 12"
    names = "--hypotheses nouns line_position verbs"
    words = f"run --corpus {tmp_path}/text --out {tmp_path}/out {names} {train} --sample.length 40".split()
    words += ["--probe.bootstrap", "20"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    # Once before the model is trained, and once when the hypotheses are evaluated.
    lacking = [line for line in err.splitlines() if "nltk.downloader" in line]
    assert len(lacking) == 2 and all(line.startswith("gatescope: verbs, nouns: parts of speech") for line in lacking)
    assert main(words) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "nothing was learnt" not in line] == lacking[:1]
    made = {name: contents(tmp_path / "out" / name) for name in ("model", "states.zarr")}

    monkeypatch.setenv("NLTK_DATA", str(data / "nltk_data"))
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "verbs, nouns: could not be evaluated before, but can be now" in out and "nltk" not in err
    assert {name: contents(tmp_path / "out" / name) for name in made} == made
    found = {record["hypothesis"] for record in json.loads((tmp_path / "out" / "probes.json").read_text())}
    assert found == {"verbs", "nouns", "line_position"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["facts"]["not_evaluated"] == {}
    assert main(words) == 0
    assert "can be now" not in capsys.readouterr().out
    parts_of_speech._tagger.cache_clear()
