"""Reading results folders: what is accepted, and what is refused by name."""

import json
import subprocess
import sys

import pytest
from probe_record import record

from gatescope.analysis.read_results import read_results
from gatescope.analysis.results import GATES
from gatescope.engine.errors import InputError


def write(folder, records, excerpts=None, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("probes", records), ("excerpts", excerpts), ("config", config)):
        if content is not None:
            (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_results_are_named_by_their_distinguishing_path_parts(tmp_path):
    folders = [write(tmp_path / name, [record()]) for name in ("x/lstm/probe", "y/lstm/probe", "y/gru/probe")]
    assert [result.name for result in read_results(folders[:1])] == ["probe"]
    assert [result.name for result in read_results(folders[1:])] == ["lstm/probe", "gru/probe"]
    assert [result.name for result in read_results(folders)] == ["x/lstm/probe", "y/lstm/probe", "y/gru/probe"]


def test_a_complete_result_is_read(tmp_path, write_result):
    (result,) = read_results([write_result(tmp_path / "lstm")])
    assert len(result.records) == 22
    assert result.facts["model"]["cell"] == "lstm"
    excerpt = result.excerpts["inside_string"]
    assert excerpt.unit == "layer0/c 17"
    assert len(excerpt.text) == len(excerpt.value) == len(excerpt.prediction) == len(excerpt.activation)
    assert excerpt.value[excerpt.text.index("\t")] is None


def test_only_the_records_are_required(tmp_path):
    (result,) = read_results([write(tmp_path, [record(f1=float("nan"))])])
    assert (result.excerpts, result.facts) == ({}, {})


EXCERPT = {
    "hypothesis": "string",
    "kind": "boolean",
    "states": "all",
    "weighting": "plain",
    "description": "",
    "sees": "past",
    "sequence": 0,
    "text": "ab",
}


def test_an_excerpt_without_probe_or_unit_is_read(tmp_path):
    given = EXCERPT | {"value": [1, float("nan")], "prediction": None, "unit": None, "activation": None}
    (result,) = read_results([write(tmp_path, [record()], [given])])
    excerpt = result.excerpts["string"]
    assert (excerpt.value, excerpt.prediction, excerpt.activation) == ((1, None), (None, None), (None, None))
    assert excerpt.unit is None


@pytest.mark.parametrize(
    "probes, excerpts, config, message",
    [
        (None, None, None, "probes.json is missing"),
        ("[{", None, None, "probes.json is not JSON"),
        ("[" * 100_000, None, None, "probes.json is not JSON"),
        ({}, None, None, "holds a dict, expected a list"),
        ([1], None, None, "record 0 is a int, expected an object"),
        ([record(), record(hypothesis=3)], None, None, "record 1: hypothesis is 3, expected text"),
        ([record(kind="other")], None, None, "kind is 'other', expected boolean or continuous"),
        ([record(weighting="none")], None, None, "weighting is 'none', expected plain or balanced"),
        ([record(baseline_ngram_f1=0.5)], None, None, "record 0 is from an earlier gatescope with other baselines"),
        ([record(f1="high")], None, None, "f1 is 'high', expected a number or null"),
        ([record(tested_sha256=3)], None, None, "record 0: tested_sha256 is 3, expected text"),
        ([record(f1=True)], None, None, "f1 is True, expected a number or null"),
        ([record(top_units=[{"states": "layer0/h"}])], None, None, "top_units must be a list of objects"),
        ([record(top_units={"unit": 1})], None, None, "top_units must be a list of objects"),
        ([record(selected_units=[3])], None, None, "selected_units must be a list of objects"),
        ([record(sparse=[1])], None, None, "record 0: sparse must have units, selected, random, rankings"),
        (
            [record(sparse={"units": [1], "random": [1], "auroc": [1]})],
            None,
            None,
            "is from an earlier gatescope with other",
        ),
        ([record(sparse={"units": [1], "selected": [1]})], None, None, "sparse must have units, selected, random"),
        (
            [record(sparse={"units": [1], "selected": [1], "random": [1], "auroc": [1, 2]})],
            None,
            None,
            "of as many numbers or nulls",
        ),
        (
            [record(sparse={"units": [1], "selected": [1], "random": [1], "auroc": ["x"]})],
            None,
            None,
            "of as many numbers or nulls",
        ),
        ([record()], {}, None, "excerpts.json holds a dict"),
        ([record()], [3], None, "entry 0 is a int"),
        ([record()], [EXCERPT | {"text": None}], None, "text is None, expected text"),
        ([record()], [EXCERPT | {"kind": "other"}], None, "kind is 'other'"),
        ([record()], [EXCERPT | {"sequence": "x"}], None, "sequence is 'x', expected an integer"),
        ([record()], [EXCERPT | {"value": [1]}], None, "value has 1 numbers for a text of 2 characters"),
        ([record()], [EXCERPT | {"prediction": [1, "x"]}], None, "prediction must be a list of numbers"),
        ([record()], [EXCERPT | {"unit": "layer0/h 3"}], None, "unit must be null or an object"),
        ([record()], None, [], "config.json holds a list, expected an object"),
        ([record()], None, {"facts": 3}, "facts is a int, expected an object"),
        ([record()], None, {"facts": {"not_evaluated": ["a"]}}, "not_evaluated is not an object"),
        ([record()], None, {"facts": {"probe": None}}, "probe is not an object"),
        ([record()], None, {"facts": {"probe": {"C": 1.0}}}, "with a list of C"),
    ],
)
def test_unusable_files_are_named(tmp_path, probes, excerpts, config, message):
    write(tmp_path, probes, excerpts, config)
    with pytest.raises(InputError) as raised:
        read_results([tmp_path])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


GATE = {"layer": 0, "gate": "f", "open": [0.5, 0.25], "shut": [0, 0.75]}


def test_gates_are_read_if_present(tmp_path):
    write(tmp_path, [record()])
    assert read_results([tmp_path])[0].gates == ()
    (tmp_path / GATES).write_text(json.dumps([GATE]))
    assert read_results([tmp_path])[0].gates == (GATE,)


@pytest.mark.parametrize(
    "gates, message",
    [
        ("[", "gates.json is not JSON"),
        ({}, "gates.json holds a dict, expected a list"),
        ([3], "record 0 is 3, expected an object with layer and gate"),
        ([GATE, GATE | {"layer": "0"}], "record 1 is {'layer': '0'"),
        ([GATE | {"gate": None}], "expected an object with layer and gate"),
        ([GATE | {"open": []}], "open and shut must be lists of shares that add up to at most 1"),
        ([GATE | {"open": [0.5]}], "open and shut must be lists of shares"),
        ([GATE | {"shut": [0.5, 1.5]}], "open and shut must be lists of shares"),
        ([GATE | {"shut": [0.5, -0.5]}], "open and shut must be lists of shares"),
        ([GATE | {"shut": [0.5, float("nan")]}], "open and shut must be lists of shares"),
        ([GATE | {"shut": [0.5, 0.8]}], "open and shut must be lists of shares that add up to at most 1"),
        ([GATE | {"shut": None}], "open and shut must be lists of shares"),
    ],
)
def test_unusable_gates_are_named(tmp_path, gates, message):
    write(tmp_path, [record()])
    (tmp_path / GATES).write_text(gates if isinstance(gates, str) else json.dumps(gates))
    with pytest.raises(InputError) as raised:
        read_results([tmp_path])
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_bytes_that_are_not_text_are_named(tmp_path):
    (tmp_path / "probes.json").write_bytes(b"[\xff]")
    with pytest.raises(InputError, match=r"probes\.json is not JSON"):
        read_results([tmp_path])


def test_a_folder_of_results_names_them(tmp_path, write_result):
    folders = [write_result(tmp_path / name) for name in ("gru", "lstm")]
    with pytest.raises(InputError, match="is missing: give one of ") as caught:
        read_results([tmp_path])
    assert str(caught.value).endswith(", ".join(map(str, folders)))


def test_missing_file_and_duplicate_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no results"):
        read_results([])
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        read_results([file])
    folder = write(tmp_path / "run", [record()])
    with pytest.raises(InputError, match="given twice"):
        read_results([folder, tmp_path / "run" / ".." / "run"])


def test_reading_results_does_not_import_torch():
    program = "import sys, gatescope.analysis.read_results\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
