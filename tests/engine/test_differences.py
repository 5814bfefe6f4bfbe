"""The first setting in which two sets of settings differ."""

import pytest

from gatescope.engine.differences import UNSET, first_difference, shortened


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, ("b.c", 2, 3)),
        ({"a": 1}, {"a": 1, "d": None}, ("d", UNSET, None)),
        ({"a": 1, "d": 4}, {"a": 1}, ("d", 4, UNSET)),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ("a[1].b", 2, 3)),
        ({"a": [1, 2]}, {"a": [1]}, ("a", [1, 2], [1])),
        ({"a": {}}, {"a": []}, ("a", {}, [])),
        ({"a": [1, 2], "b": {}}, {"b": {}, "a": [1, 2]}, None),
    ],
)
def test_the_first_difference_is_found(before, now, expected):
    assert first_difference(before, now) == expected


def test_long_values_are_cut():
    assert shortened("x" * 58) == repr("x" * 58)
    assert shortened("x" * 59) == f"'{'x' * 56}..."
    assert shortened(UNSET) == "unset"
