"""The rows and columns that fits share, on a planted dump."""

import numpy as np
import pytest
from planted import N_SEQUENCES, N, hypothesis, planted_states

from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.study import Study
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import open_states


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return planted_states(tmp_path_factory.mktemp("planted") / "states.zarr")[0]


def test_training_and_test_sequences_are_disjoint(planted):
    study = Study(planted, ProbeConfig(), seed=0)
    assert not set(study.train) & set(study.test)
    assert len(study.test) == N_SEQUENCES // 5
    assert list(study.state_sets) == ["layer0/h", "layer0/c", "layer0/gates/f", "all"]
    assert study.state_sets["all"] == ["layer0/h", "layer0/c"]


def test_pre_alignment_reads_the_previous_state(planted):
    study = Study(planted, ProbeConfig(alignment="pre"), seed=0)
    assert list(study.state_sets) == ["layer0/h", "layer0/c", "all"]
    unit = {"states": "layer0/c", "unit": 5}
    start = int(planted.sequence_starts[3])
    expected = planted.features(["layer0/c"], "pre")[start : start + 10, 5]
    np.testing.assert_array_equal(study.activation(unit, start, start + 10), expected.astype(np.float64))
    assert study.activation(unit, start, start + 10)[0] == 0.25
    post = Study(planted, ProbeConfig(), seed=0).activation(unit, start, start + 10)
    np.testing.assert_array_equal(post[:-1], expected[1:].astype(np.float64))


@pytest.mark.parametrize("ranking", ["auroc", "weight_sd", "weight"])
def test_continuous_hypotheses_replace_ranking_by_auroc_with_correlation(planted, ranking):
    study = Study(planted, ProbeConfig(ranking=ranking), seed=0)
    assert study.ranking("plain") == study.ranking("balanced") == ranking
    assert study.ranking("none") == ("correlation" if ranking == "auroc" else ranking)


def test_scores_are_not_probed_as_states(tmp_path):
    def study(name, arrays):
        attributes = {"vocabulary": list("abcd")}
        starts = np.arange(0, 41, 4, dtype=np.int64)
        spec = DumpSpec(arrays, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), attributes)
        with DumpWriter(tmp_path / name, spec) as writer:
            writer.append(0, np.arange(40) // 10, {array: np.ones((40, width)) for array, width in arrays.items()})
        return Study(StateDump.open(tmp_path / name), ProbeConfig(), seed=0)

    scores = {"layer1/log_probability": 1, "layer1/entropy": 1}
    assert study("both", {"layer0/h": 3, **scores}).state_sets == {"layer0/h": ["layer0/h"]}
    with pytest.raises(
        InputError,
        match="only has layer1/log_probability, layer1/entropy, but no states for probes with alignment 'post': record",
    ):
        study("only", scores)


def test_shared_inputs_are_computed_once_per_set_of_hypotheses(planted):
    study, (some, others) = Study(planted, ProbeConfig(), seed=0), (labels("some"), labels("others"))
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    assert [study.shared(some, key, make) for key in ("key", "key", "other key")] == [0, 0, 1]
    assert study.shared(Labels(some.hypotheses, ~some.values, some.defined), "key", make) == 0
    assert study.shared(others, "key", make) == 2
    assert study.shared(some, "key", make) == 3


def labels(name):
    return Labels((hypothesis(name),), np.zeros((N, 1), bool), np.ones((N, 1), bool))


def test_the_test_digest_depends_on_characters_sequences_and_labels(tmp_path):
    """The two tested sequences are neighbours, so their border may move without changing which rows are tested."""
    label, text = np.arange(40) % 3 == 0, np.random.default_rng(0).integers(4, size=40)

    def digest(border=10, vocabulary="abcd", tokens=text, values=label):
        starts = np.array([0, border, 20, 30, 40])
        np.savez(
            tmp_path / "s.npz", h=np.ones((40, 2)), tokens=tokens, vocabulary=list(vocabulary), sequence_starts=starts
        )
        study = Study(open_states(tmp_path / "s.npz"), ProbeConfig(test_share=0.5), seed)
        assert study.test.tolist() == [0, 1]
        labels = Labels(
            (hypothesis("other"), hypothesis("third")), np.stack([~label, values], axis=1), np.ones((40, 2), bool)
        )
        return study.tested_sha256(labels)[1]

    seed = next(s for s in range(99) if sorted(np.random.default_rng(s).permutation(4)[:2]) == [0, 1])
    assert digest() == digest(vocabulary="badc", tokens=np.array([1, 0, 3, 2])[text])
    changed = label.copy()
    changed[30] = ~label[30]
    assert digest(values=changed) == digest()
    changed[5] = ~label[5]
    others = [digest(border=11), digest(vocabulary="abce"), digest(tokens=np.arange(40) // 10), digest(values=changed)]
    assert len({digest(), *others}) == 5
