"""Verdicts, order and formatting of scores."""

from pathlib import Path

import pytest
from probe_record import record

from gatescope.analysis.results import (
    Result,
    Verdict,
    all_ordered,
    best_unit,
    headline,
    interval,
    leading,
    leading_records,
    number,
    ordered,
    score,
    signed,
    verdict,
)


def judged(own, over, auroc=0.7, **other):
    """A record whose AUROC, and whose AUROC minus the table's, have these intervals: (low, high) each, or None."""
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
        # F1 alone decides nothing.
        (record(f1=0.9, f1_low=0.8, f1_high=0.95), Verdict.UNSCORED),
        (r2((0.01, 0.3), (0.01, 0.2)), Verdict.KNOWN),
        (r2((0.0, 0.3), (0.01, 0.2)), Verdict.UNDECIDED),
        (r2((0.4, 0.5), (-0.3, -0.1)), Verdict.BELOW),
        (r2((-0.4, -0.1), (0.1, 0.3), value=-0.2), Verdict.BELOW),
        (r2((0.1, 0.3), (0.1, 0.3), value=None), Verdict.UNSCORED),
    ],
)
def test_verdict_compares_a_score_with_chance_and_the_text_baseline(given, expected):
    assert verdict(given) == expected


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0.0, ".00"),
        (0.984, ".98"),
        (0.995, ".99"),  # the nearest double is smaller
        (-0.5, "-.50"),
        (0.996, "1.00"),
        (1, "1.00"),
        (-0.004, ".00"),
        (-0.12, "-.12"),
        (-3.414, "-3.41"),
        (10.05, "10.05"),
    ],
)
def test_scores_are_written_without_a_leading_zero(value, text):
    assert score(value) == text


def test_number_returns_only_finite_values():
    given = {"a": 0.5, "b": None, "c": float("nan"), "d": float("-inf"), "e": 0}
    assert [number(given, key) for key in "abcdef"] == [0.5, None, None, None, 0, None]


def test_headline_prefers_all_states_over_the_first_set():
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
    assert leading({"balanced": records[2], "plain": records[1]}) is records[1]
    assert leading({"balanced": records[2]}) is records[2]
    assert leading_records(records) == {"one": records[1], "two": records[3]}


def test_best_unit_names_the_first_top_unit():
    units = [{"states": "layer1/c", "unit": 4}, {"states": "layer0/h", "unit": 9}]
    assert best_unit(record(top_units=units)) == "layer1/c 4"
    assert best_unit(record(top_units=[])) is None
    assert best_unit(record()) is None


def test_hypotheses_are_sorted_by_verdict_then_score_then_name():
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
    # A hypothesis that only the second knows comes before one that the first knows less well.
    second = [named("only_here", 0.8, 0.3, 0.5), named("lost", 0.99, 0.5, 0.6), named("open", 0.6, -0.1, 0.2)]
    second += [record("column", "boolean", auroc=0.9), record("flat", "continuous", weighting="none", r2=-0.5)]
    results = [Result(name, Path(), tuple(records), {}, {}, (), ()) for name, records in (("a", first), ("b", second))]
    assert ordered(results, "boolean") == ["lost", "known_best", "only_here", "known_a", "known_b", "open", "none"]
    assert ordered(results, "continuous") == ["column", "depth", "flat"]
    assert ordered(results[:1], "boolean")[-2:] == ["lost", "none"]
    assert all_ordered(results) == [*ordered(results, "boolean"), *ordered(results, "continuous")]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.5, 1.0, ".50–1.00"), (-0.004, 0.2, ".00–.20"), (-0.45, 0.43, "-.45 to .43"), (-1.5, -0.1, "-1.50 to -.10")],
)
def test_an_interval_in_words(low, high, words):
    assert interval({"r2_low": low, "r2_high": high}, "r2") == words
    assert interval({"r2_low": low, "r2_high": None}, "r2") is None


def test_a_difference_is_written_with_a_sign_and_no_leading_zero():
    found = list(map(signed, (0.5, -0.5, 0.0, -0.0001, 0.9996, -1.5, None, float("nan"))))
    assert found == ["+.500", "-.500", "+.000", "+.000", "+1.000", "-1.500", "–", "–"]
