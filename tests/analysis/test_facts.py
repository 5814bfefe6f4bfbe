"""facts.py: how states were read, in one line, and what is stored of it beside the scores."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from gatescope.analysis.facts import facts_of, reading
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.study import Study
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.other_dumps import ReadConfig, open_states


@pytest.fixture
def study(tmp_path):
    """Return a function that makes a study of one unit in each of h and c."""

    def make(starts=(0, 30, 60, 90), folds=1, log_probability=None, **attributes):
        path, borders = Path(tempfile.mkdtemp(dir=tmp_path)) / "states.zarr", np.array(starts)
        arrays = {name: np.zeros((starts[-1], 1)) for name in ("layer0/h", "layer0/c")}
        if log_probability is not None:
            arrays["layer1/log_probability"] = log_probability
        about = attributes | {"vocabulary": ["a"]}
        dtypes = np.dtype(np.uint8), np.dtype(np.float16)
        with DumpWriter(path, DumpSpec(dict.fromkeys(arrays, 1), borders, borders, (), *dtypes, about)) as writer:
            writer.append(0, np.zeros(starts[-1], np.uint8), arrays)
        share = {"test_share": 0.3} if folds == 1 else {"folds": folds}
        return Study(StateDump.open(path), ProbeConfig(C=(0.5, 2.0), **share), 3)

    return make


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "90 rows in 3 sequences of 30, 1 of them tested; text: c; states: layer0/h, layer0/c, all"),
        ({"starts": (0, 5, 2005)}, "2,005 rows in 2 sequences of 5 to 2,000, 1 of them tested; text: c; "),
        ({"folds": 3}, "90 rows in 3 sequences of 30, all tested in turn; text: c; "),
    ],
)
def test_the_line_describes_how_states_are_read(study, given, said):
    line = reading(study(**given), "c")
    assert f"states.zarr: {said}" in line


def test_states_without_text_say_no_text(tmp_path):
    np.savez(tmp_path / "states.npz", h=np.ones((40, 2)), sequence_starts=np.arange(0, 41, 10))
    line = reading(Study(open_states(tmp_path / "states.npz"), ProbeConfig(), 0), "any")
    assert "; no text; states: h" in line


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_assumed_order_of_axes_is_reported(tmp_path, batch_first):
    np.savez(tmp_path / "states.npz", h=np.ones((10, 10, 2)))
    line = reading(
        Study(open_states(tmp_path / "states.npz", ReadConfig(batch_first=batch_first)), ProbeConfig(), 0), "any"
    )
    assert "100 rows in 10 sequences of 10, " in line
    assert ("(arrays read as [T, B, H]; --batch-first: [B, T, H])" in line) == (not batch_first)


def test_facts_come_from_the_dump_and_the_probe(study):
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


def test_the_loss_on_read_text_equals_its_mean_log_probability(study):
    scores = np.random.default_rng(0).normal(-2, 1, (90, 1)).astype(np.float16)
    facts = facts_of(study(kind="extract", log_probability=scores), "c", {})
    assert facts["dump"]["nats_per_character"] == pytest.approx(-scores.astype(np.float64).mean(), rel=1e-12)
    # A model loses little on its own samples, so no loss is stated for them; nor is one without the numbers.
    for given in ({"kind": "sample", "log_probability": scores}, {"kind": "extract"}):
        assert "nats_per_character" not in facts_of(study(**given), "c", {})["dump"]
