"""report_facts.py: what the page says of the model and of how it was probed."""

import pytest

from gatescope.analysis.report_facts import model_line


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
def test_how_sequences_are_divided_is_said(probe, words):
    assert words in model_line({"dump": {"sequences": 200}, "probe": probe})
