"""Reading results folders, and what is said of them: verdicts, order, the form of scores."""

import json

import pytest

from gatescope.analysis.results import (
    Verdict,
    best_unit,
    headline,
    leading,
    number,
    ordered,
    read_results,
    score,
    verdict,
)
from gatescope.engine.errors import InputError


def record(hypothesis="string", kind="boolean", states="all", weighting="plain", **scores):
    return {
        "hypothesis": hypothesis,
        "kind": kind,
        "states": states,
        "weighting": weighting,
        "status": "converged",
    } | scores


def judged(own, over, auroc=0.7, **other):
    """A record whose AUROC has such an interval, and lies so far above the table's: (low, high) each, or None."""
    ends = dict(zip(("auroc_low", "auroc_high"), own or (None, None), strict=True))
    ends |= dict(zip(("auroc_over_text_low", "auroc_over_text_high"), over or (None, None), strict=True))
    return record(auroc=auroc, **ends, **other)


def r2(own, over, value=0.2):
    names = ("r2_low", "r2_high", "r2_over_text_low", "r2_over_text_high")
    return record(kind="continuous", weighting="none", r2=value, **dict(zip(names, (*own, *over), strict=True)))


@pytest.mark.parametrize(
    "given, expected",
    [
        (judged((0.51, 0.9), (0.11, 0.2)), Verdict.KNOWN),
        (judged((0.6, 0.9), (0.01, 0.1)), Verdict.KNOWN),
        (judged((0.5, 0.9), (0.11, 0.2)), Verdict.UNDECIDED),
        (judged((0.6, 0.9), (0.0, 0.1)), Verdict.UNDECIDED),
        (judged((0.6, 0.9), (-0.05, 0.1)), Verdict.UNDECIDED),
        (judged((0.4, 0.5), (0.1, 0.2)), Verdict.UNDECIDED),
        (judged((0.4, 0.49), (0.1, 0.2)), Verdict.BELOW),
        (judged((0.6, 0.9), (-0.2, -0.01)), Verdict.BELOW),
        (judged((0.6, 0.9), None), Verdict.UNDECIDED),
        (judged((None, 0.9), (0.1, 0.2)), Verdict.UNDECIDED),
        (judged((float("nan"), 0.9), (0.1, 0.2)), Verdict.UNDECIDED),
        (judged((0.6, 0.9), (0.1, 0.2), auroc=None), Verdict.UNSCORED),
        (judged((0.6, 0.9), (0.1, 0.2), status="one_class"), Verdict.UNSCORED),
        (record(), Verdict.UNSCORED),
        # Nothing is known of F1 alone.
        (record(f1=0.9, f1_low=0.8, f1_high=0.95), Verdict.UNSCORED),
        (r2((0.01, 0.3), (0.01, 0.2)), Verdict.KNOWN),
        (r2((0.0, 0.3), (0.01, 0.2)), Verdict.UNDECIDED),
        (r2((0.4, 0.5), (-0.3, -0.1)), Verdict.BELOW),
        (r2((-0.4, -0.1), (0.1, 0.3), value=-0.2), Verdict.BELOW),
        (r2((0.1, 0.3), (0.1, 0.3), value=None), Verdict.UNSCORED),
    ],
)
def test_verdict_asks_how_far_a_score_lies_above_chance_and_the_table(given, expected):
    assert verdict(given) == expected


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0.0, ".00"),
        (0.984, ".98"),
        (0.995, ".99"),  # the nearest double lies below
        (-0.5, "-.50"),
        (0.996, "1.00"),
        (1, "1.00"),
        (-0.004, ".00"),
        (-0.12, "-.12"),
        (-3.414, "-3.41"),
        (10.05, "10.05"),
    ],
)
def test_score_is_written_as_in_the_field(value, text):
    assert score(value) == text


def test_number_takes_only_what_is_finite():
    given = {"a": 0.5, "b": None, "c": float("nan"), "d": float("-inf"), "e": 0}
    assert [number(given, key) for key in "abcdef"] == [0.5, None, None, None, 0, None]


def test_headline_takes_the_asked_state_set_and_falls_back_to_the_first():
    records = [
        record("one", states="layer0/h", f1=0.9),
        record("one", states="all", f1=0.1),
        record("one", states="all", weighting="balanced", f1=0.2),
        record("two", states="layer1/h", f1=0.3),
        record("two", states="layer0/h", f1=0.8),
    ]
    assert headline(records) == {
        "one": {"plain": records[1], "balanced": records[2]},
        "two": {"plain": records[3]},
    }
    assert headline(records, "layer0/h")["two"] == {"plain": records[4]}
    assert leading({"balanced": records[2], "plain": records[1]}) is records[1]
    assert leading({"balanced": records[2]}) is records[2]


def test_best_unit():
    units = [{"states": "layer1/c", "unit": 4}, {"states": "layer0/h", "unit": 9}]
    assert best_unit(record(top_units=units)) == "layer1/c 4"
    assert best_unit(record(top_units=[])) is None
    assert best_unit(record()) is None


def write(folder, records, excerpts=None, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("probes", records), ("excerpts", excerpts), ("config", config)):
        if content is not None:
            (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_hypotheses_stand_by_verdict_then_score_then_name(tmp_path):
    def named(name, auroc, low, high):
        return judged((0.6, 0.9), (low, high), auroc, hypothesis=name)

    first = [
        named("lost", 0.2, -0.3, -0.1),
        named("open", 0.99, -0.05, 0.6),
        named("known_b", 0.7, 0.2, 0.4),
        named("known_a", 0.7, 0.2, 0.4),
        named("known_best", 0.9, 0.4, 0.55),
        named("none", None, None, None),
        record("depth", "continuous", weighting="none", r2=0.2),
        record("column", "continuous", weighting="none", r2=0.9),
        record("flat", "continuous", weighting="none", r2=None),
    ]
    second = [named("only_here", 0.8, 0.3, 0.5), named("lost", 0.99, 0.5, 0.6)]
    results = read_results([write(tmp_path / "a", first), write(tmp_path / "b", second)])
    assert ordered(results, "boolean") == ["known_best", "only_here", "known_a", "known_b", "open", "lost", "none"]
    assert ordered(results, "continuous") == ["column", "depth", "flat"]


def test_results_are_named_by_what_tells_them_apart(tmp_path):
    folders = [write(tmp_path / name, [record()]) for name in ("x/lstm/probe", "y/lstm/probe", "y/gru/probe")]
    assert [result.name for result in read_results(folders[:1])] == ["probe"]
    assert [result.name for result in read_results(folders[1:])] == ["lstm/probe", "gru/probe"]
    assert [result.name for result in read_results(folders)] == ["x/lstm/probe", "y/lstm/probe", "y/gru/probe"]


def test_a_whole_result_is_read(tmp_path, write_result):
    (result,) = read_results([write_result(tmp_path / "lstm")])
    assert len(result.records) == 22
    assert result.facts["model"]["cell"] == "lstm"
    excerpt = result.excerpts["inside_string"]
    assert excerpt.unit == "layer0/c 17"
    assert len(excerpt.text) == len(excerpt.value) == len(excerpt.prediction) == len(excerpt.activation)
    assert excerpt.value[excerpt.text.index("\t")] is None


def test_only_the_records_must_be_there(tmp_path):
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
        (None, None, None, "probes.json is not there"),
        ("[{", None, None, "probes.json is not JSON"),
        ("[" * 100_000, None, None, "probes.json is not JSON"),
        ({}, None, None, "holds a dict, expected a list"),
        ([1], None, None, "record 0 is a int, expected an object"),
        ([record(), record(hypothesis=3)], None, None, "record 1: hypothesis is 3, expected text"),
        ([record(kind="other")], None, None, "kind is 'other', expected boolean or continuous"),
        ([record(weighting="none")], None, None, "weighting is 'none', expected plain or balanced"),
        ([record(f1="high")], None, None, "f1 is 'high', expected a number or null"),
        ([record(f1=True)], None, None, "f1 is True, expected a number or null"),
        ([record(top_units=[{"states": "layer0/h"}])], None, None, "top_units must be a list of objects"),
        ([record(top_units={"unit": 1})], None, None, "top_units must be a list of objects"),
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
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, probes, excerpts, config, message):
    write(tmp_path, probes, excerpts, config)
    with pytest.raises(InputError) as raised:
        read_results([tmp_path])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_not_text_are_named(tmp_path):
    (tmp_path / "probes.json").write_bytes(b"[\xff]")
    with pytest.raises(InputError, match=r"probes\.json is not JSON"):
        read_results([tmp_path])


def test_no_folder_a_file_and_a_folder_given_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match="no results"):
        read_results([])
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        read_results([file])
    folder = write(tmp_path / "run", [record()])
    with pytest.raises(InputError, match="given twice"):
        read_results([folder, tmp_path / "run" / ".." / "run"])
