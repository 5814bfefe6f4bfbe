"""closings.py: the end of a delimited part counts as inside, and nothing else changes."""

import numpy as np
import pytest

from gatescope.analysis import hypotheses
from gatescope.analysis.closings import register_closing
from gatescope.analysis.hypotheses import hypothesis


@pytest.fixture
def closing(monkeypatch):
    """Register what is inside brackets, including the opening one, and return the form with the closing one."""
    monkeypatch.setattr(hypotheses, "_registry", {})

    def inside_brackets(text):
        """Inside round or square brackets."""
        depth = np.cumsum([(each in "([") - (each in ")]") for each in text])
        held = depth > 0
        held.flags.writeable = False
        return held

    hypothesis(language="any")(inside_brackets)
    register_closing("any", inside_brackets, ")]")
    return hypotheses._registry["inside_brackets+close", "any"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a(b)c", " xxx "),
        ("(a)(b)", "xxxxxx"),
        ("[(a)])", "xxxxx "),
        ("(a", "xx"),
        (")a", "  "),
        ("(", "x"),
    ],
)
def test_the_closing_bracket_counts_as_inside(closing, text, expected):
    values, defined = closing.label(text)
    assert "".join(" x"[value] for value in values.astype(int)) == expected
    assert defined.all()


def test_the_closing_form_keeps_its_module_and_extends_the_description(closing):
    assert closing.description == "Inside round or square brackets; its closing counts as inside."
    assert closing.function.__module__ == __name__
    assert {name for name, _ in hypotheses._registry} == {"inside_brackets", "inside_brackets+close"}
