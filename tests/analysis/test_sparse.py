"""Probes of few units, on states in which one hypothesis is known by one unit, one by three, and one by none."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.sparse import SparseScores, sparse_records, sparse_scores
from gatescope.analysis.study import Study
from gatescope.analysis.study_fit import fit_study
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes

S, T, H = 50, 30, 20
N = S * T


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(N, H))
    starts = np.arange(S + 1) * T
    arrays = {"layer0/h": H // 2, "layer0/c": H // 2}
    about = {"vocabulary": list("abcd")}
    spec = DumpSpec(arrays, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float32), about)
    path = tmp_path_factory.mktemp("sparse") / "states.zarr"
    with DumpWriter(path, spec) as writer:
        parts = dict(zip(arrays, np.split(states, 2, axis=1), strict=True))
        writer.append(0, rng.integers(4, size=N).astype(np.uint8), parts)
    return StateDump.open(path), states.astype(np.float32)


def labels_of(states, continuous=False):
    """Labels of unit 7, of units 3, 5 and 12 together, and of no unit, with rows at which they are undefined."""
    rng = np.random.default_rng(1)
    value = np.stack([states[:, 7], states[:, [3, 5, 12]].sum(axis=1), rng.normal(size=N)], axis=1)
    value += 0.1 * rng.normal(size=value.shape)
    kind = "continuous" if continuous else "boolean"
    named = tuple(Hypothesis(name, "any", kind, "past", "", list) for name in ("one", "three", "none"))
    return Labels(named, value if continuous else value > 0.5, rng.random((N, 3)) < 0.9)


def records_of(dump, labels, weighting="plain", name="all", **config):
    study = Study(dump, ProbeConfig(bootstrap=20, sparse=True, **config), seed=0)
    return study, fit_study(study, name, labels, weighting)[0]


@pytest.mark.parametrize("memory_limit", ["4GB", "50KB"])
def test_units_needed_equals_the_number_planted(dump, memory_limit):
    _, (one, three, none) = records_of(dump[0], labels_of(dump[1]), memory_limit=memory_limit)
    assert one["sparse"]["units"] == [1, 2, 4, 8, 16]
    assert one["units_needed"] == 1 and three["units_needed"] == 4
    columns = [
        [H // 2 * (unit["states"] == "layer0/c") + unit["unit"] for unit in each["selected_units"]]
        for each in (one, three)
    ]
    assert columns[0][0] == 7 and set(columns[1][:3]) == {3, 5, 12} and [len(set(each)) for each in columns] == [16, 16]
    assert three["sparse"]["auroc"][0] < 0.85 < 0.97 < three["sparse"]["auroc"][2]
    assert max(map(abs, np.array(none["sparse"]["weight_sd"]) - 0.5)) < 0.1
    # The last units carry nothing of it, and random ones seldom do.
    assert one["sparse"]["reversed"][3] < 0.6 and one["sparse"]["random"][0] < 0.8


@pytest.mark.parametrize("continuous", [False, True])
def test_scores_equal_scikit_learn_on_the_same_columns(dump, continuous):
    labels = labels_of(dump[1], continuous)
    study, records = records_of(dump[0], labels, "none" if continuous else "plain", C=(0.3,))
    train, test = study.train_rows, study.test_rows
    for k, record in enumerate(records):
        y, defined, X = labels.values[:, k], labels.defined[:, k], dump[1]
        rows, of_test = train[defined[train]], test[defined[test]]

        def score(columns, y=y, rows=rows, of_test=of_test, X=X):
            model = Ridge(alpha=1 / 0.3) if continuous else LogisticRegression(C=0.3, tol=1e-8)
            model.fit(X[np.ix_(rows, columns)], y[rows])
            tested = X[np.ix_(of_test, columns)]
            if continuous:
                return r2_score(y[of_test], model.predict(tested))
            return roc_auc_score(y[of_test], model.decision_function(tested))

        units = [H // 2 * (unit["states"] == "layer0/c") + unit["unit"] for unit in record["top_units"]]
        largest = [H // 2 * (unit["states"] == "layer0/c") + unit["unit"] for unit in record["largest_weights"]]
        own = "correlation" if continuous else "auroc"
        generator = np.random.default_rng(0)
        drawn = [generator.permutation(H) for _ in range(4)]
        for place, size in enumerate([1, 2, 4, 8]):
            assert record["sparse"][own][place] == pytest.approx(score(units[:size]), abs=1e-3)
            assert record["sparse"]["weight_sd"][place] == pytest.approx(score(largest[:size]), abs=1e-3)
            expected = np.mean([score(each[:size]) for each in drawn])
            assert record["sparse"]["random"][place] == pytest.approx(expected, abs=1e-3)
        alone = np.array([score([unit]) for unit in range(H)])
        assert record["sparse"]["reversed"][0] < np.quantile(alone, 0.9)


def test_a_label_of_one_class_has_no_ranking(dump):
    labels = labels_of(dump[1])
    labels.values[:, 0] = True
    _, (one, three, _) = records_of(dump[0], labels)
    assert one["units_needed"] is None and set(one["sparse"]["auroc"] + one["sparse"]["random"]) == {None}
    assert one["selected_units"] == [] and three["selected_units"]
    assert three["units_needed"] == 4


def test_sparse_scores_need_all_states_the_plain_fit_and_a_request(dump):
    labels = labels_of(dump[1])
    for name, weighting in (("layer0/h", "plain"), ("all", "balanced")):
        assert "sparse" not in records_of(dump[0], labels, weighting, name)[1][0]
    study = Study(dump[0], ProbeConfig(bootstrap=20), seed=0)
    assert "sparse" not in fit_study(study, "all", labels, "plain")[0][0]
    _, (one, *_) = records_of(dump[0], labels, ranking="weight_sd")
    assert list(one["sparse"]) == ["units", "selected", "weight_sd", "reversed", "random"]


def test_sparse_scores_of_a_single_unit(dump):
    labels, rows = labels_of(dump[1]), slice(0, 200)
    train = test = dump[1][rows, 7:8], labels.values[rows], labels.defined[rows]
    found = sparse_scores(LogisticProbes(), {"auroc": np.zeros((3, 1), int)}, train, test, 0)
    assert found.sizes == [1] and found.scores["selected"][0] > 0.95
    np.testing.assert_array_equal(found.scores["selected"], found.scores["random"])


def test_units_needed_is_the_smallest_size_that_reaches_the_full_probe(dump):
    def needed(selected, full):
        scores = {name: np.ones((1, 3)) for name in ("auroc", "reversed", "random")}
        fold = SparseScores([1, 2, 4], scores | {"selected": np.array([selected])}, np.ones(1), np.zeros((1, 4)))
        return sparse_records([fold], np.array([full]), 0.5)[0]["units_needed"]

    assert needed([0.88, 0.89, 0.9], 0.9) == 1 and needed([0.87, 0.89, 0.9], 0.9) == 2
    assert needed([0.7, 0.87, 0.88], 0.9) == 4 and needed([0.7, 0.87, 0.87], 0.9) is None
    assert needed([0.5, 0.5, 0.5], 0.5) is None
    # A score that fewer units reach by chance must also be reached by more.
    assert needed([0.9, 0.87, 0.88], 0.9) == 4 and needed([0.9, 0.9, 0.87], 0.9) is None


@pytest.mark.parametrize("continuous", [False, True])
def test_folds_are_weighted_by_pairs_or_squares(dump, continuous):
    labels, rows = labels_of(dump[1], continuous), slice(0, 200)
    train = test = dump[1][rows], labels.values[rows], labels.defined[rows]
    model = RidgeProbes() if continuous else LogisticProbes()
    found = sparse_scores(model, {"auroc": np.tile(np.arange(H), (3, 1))}, train, test, 0).weight
    for k in range(3):
        y = labels.values[rows, k][labels.defined[rows, k]]
        expected = ((y - y.mean()) ** 2).sum() if continuous else y.sum() * (~y).sum()
        assert found[k] == pytest.approx(expected)


def test_scores_of_folds_are_weighted_means():
    """AUROC is weighted by the pairs of each fold; a fold without pairs does not count."""

    def fold(scores, weight):
        given = {"selected": np.array(scores), "random": np.array(scores) / 2}
        return SparseScores([1, 2], given, np.array(weight), np.zeros((len(scores), 2)))

    folds = [fold([[0.6, 0.7], [0.9, 0.9]], [3.0, 1.0]), fold([[0.8, 0.9], [np.nan] * 2], [1.0, 0.0])]
    one, other = sparse_records(folds, np.array([0.9, 0.9]), 0.5)
    assert one["sparse"] == {"units": [1, 2], "selected": [0.65, 0.75], "random": [0.325, 0.375]}
    assert other["sparse"]["selected"] == [0.9, 0.9] and other["units_needed"] == 1
    assert sparse_records([fold([[np.nan] * 2], [0.0])], np.array([np.nan]), 0.5)[0]["sparse"]["selected"] == [
        None,
        None,
    ]
