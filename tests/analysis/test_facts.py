"""facts.py: how states are read, in a line, and what is kept of it beside the scores."""

from types import SimpleNamespace

import numpy as np
import pytest

from gatescope.analysis.facts import facts_of, reading
from gatescope.analysis.probe_config import ProbeConfig


def study(starts=(0, 30, 60, 90), vocabulary=("a",), folds=1, **attributes):
    """What the facts are of, with one sequence in each test part."""
    dump = SimpleNamespace(
        name="states.zarr",
        n_rows=starts[-1],
        sequence_starts=np.array(starts),
        vocabulary=vocabulary,
        attributes=attributes,
    )
    parts = [SimpleNamespace(test=np.array([k])) for k in range(folds)]
    share = {"test_share": 0.3} if folds == 1 else {"folds": folds}
    config = ProbeConfig(C=(0.5, 2.0), **share)
    sets = {"layer0/h": [], "all": []}
    return SimpleNamespace(
        dump=dump, config=config, folds=parts, test=parts[0].test, train=np.array([1, 2]), state_sets=sets, seed=3
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "90 rows in 3 sequences of 30, 1 of them tested; text: c; states: layer0/h, all"),
        ({"starts": (0, 5, 2005)}, "2,005 rows in 2 sequences of 5 to 2,000, 1 of them tested; text: c; "),
        ({"folds": 3}, "90 rows in 3 sequences of 30, all tested in turn; text: c; "),
        ({"vocabulary": None}, "1 of them tested; no text; states: "),
    ],
)
def test_a_line_says_how_states_are_read(given, said):
    line = reading(study(**given), "c")
    assert line.startswith("states.zarr: ") and said in line


def test_facts_are_those_of_the_dump_and_of_the_probe():
    training = {"steps": 4, "validation_nats": 1.5}
    facts = facts_of(study(training=training, kind="sample", settings={"temperature": 0.8, "seed": 7}), "c", {"x": "y"})
    assert facts["training"] == training | {
        "bits_per_character": pytest.approx(1.5 / np.log(2)),
        "perplexity": pytest.approx(np.exp(1.5)),
    }
    assert training.keys() == {"steps", "validation_nats"}
    assert facts["dump"] == {
        "kind": "sample",
        "rows": 90,
        "sequences": 3,
        "alignment": None,
        "temperature": 0.8,
        "seed": 7,
        "language": "c",
    }
    probe = facts["probe"]
    assert (probe["training_sequences"], probe["test_sequences"]) == (2, 1)
    assert (probe["test_share"], probe["C"]) == (0.3, [0.5, 2])
    assert "folds" not in probe and facts["not_evaluated"] == {"x": "y"}
    folded = facts_of(study(folds=3), "c", {})["probe"]
    assert (folded["folds"], folded["test_sequences"]) == (3, 3) and "test_share" not in folded
    assert facts_of(study(), "c", {})["training"] == {}
