"""report_facts.py: what the page states about the model and about how it was probed."""

import re
from pathlib import Path

import pytest

from gatescope.analysis.report_facts import facts_table, model_line
from gatescope.analysis.results import Result


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"training_sequences": 160, "test_sequences": 40}, "; 160 to fit probes; 40 to test them."),
        (
            {"training_sequences": 160, "test_sequences": 200, "folds": 5},
            "; 5 folds: each of the 200 sequences is tested by probes fitted on 160 others.",
        ),
        (
            {"training_sequences": 133, "test_sequences": 200, "folds": 3},
            "; 3 folds: each of the 200 sequences is tested by probes fitted on about 133 others.",
        ),
    ],
)
def test_the_line_describes_how_sequences_are_divided(probe, words):
    assert words in model_line({"dump": {"sequences": 200}, "probe": probe})


def test_the_step_of_a_model_is_shown_beside_its_loss():
    line = model_line({"corpus": {"name": "a/stdlib"}, "training": {"step": 1000, "validation_nats": 1.54968}})
    assert "trained on stdlib; step 1,000; validation loss 1.55 nats per character." in line


def test_the_table_of_facts_names_each_by_its_path():
    facts = {"probe": {"C": [0.01, 2.5], "seed": 12345, "folds": None}, "training": {"bits": 1.23456}}
    others = {"probe": {"seed": 3, "text": "a<b"}, "training": {"bits": 12345.6}}
    table = facts_table([Result(name, Path(), (), {}, each, (), ()) for name, each in (("a", facts), ("b", others))])
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td></tr>', table)
    assert rows == [
        ("probe.C", "0.01, 2.5", "–"),
        ("probe.seed", "12,345", "3"),
        ("training.bits", "1.235", "12,346"),
        ("probe.text", "–", "a&lt;b"),
    ]
    assert facts_table([Result("a", Path(), (), {}, {"probe": {"folds": None}}, (), ())]) == ""
