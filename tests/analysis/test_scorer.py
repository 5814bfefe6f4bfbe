"""The scores of a record, against scikit-learn's and against each other."""

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, r2_score, roc_auc_score

from gatescope.analysis.influence import auroc_influence, r2_influence
from gatescope.analysis.intervals import SHARE, UNBOUNDED, t_interval
from gatescope.analysis.metrics import moments_by_sequence
from gatescope.analysis.ordering import auroc, resampled_auroc
from gatescope.analysis.record_fields import SCORES
from gatescope.analysis.results import verdict
from gatescope.analysis.scorer import Scorer

GROUPS = np.repeat(np.arange(30), 20)
N = len(GROUPS)


@pytest.fixture
def labelled():
    """Labels of two hypotheses, where they are defined, a probe that knows the first, a table that knows neither."""
    rng = np.random.default_rng(0)
    Y = rng.random((N, 2)) < [0.4, 0.2]
    defined = rng.random((N, 2)) < 0.9
    probability = np.clip(np.stack([0.7 * Y[:, 0], 0 * Y[:, 1]], axis=1) + 0.4 * rng.random((N, 2)), 0.01, 0.99)
    return Y, defined, probability, 0.6 * rng.random((N, 2))


def effective(Y, defined):
    """(sum n)^2 / sum n^2 over the rows n of a class in each sequence; the smaller of both classes, [K]."""
    n = [[np.bincount(GROUPS, here[:, k] & defined[:, k]) for k in range(2)] for here in (Y, ~Y)]
    return (np.sum(n, axis=2) ** 2 / np.sum(np.square(n), axis=2)).min(axis=0)


def classified(scorer, Y, probability, text, defined):
    return scorer.classification(Y, logit(probability), scorer.text(Y, [text], defined), defined)


def test_scores_equal_scikit_learn_on_defined_labels(labelled):
    Y, defined, probability, text = labelled
    scores = classified(Scorer(GROUPS, 200, 0), Y, probability, text, defined)
    for k in range(2):
        y, p = Y[defined[:, k], k], probability[defined[:, k], k]
        assert scores["f1"][k] == pytest.approx(f1_score(y, p > 0.5))
        assert scores["balanced_accuracy"][k] == pytest.approx(balanced_accuracy_score(y, p > 0.5))
        assert scores["auroc"][k] == pytest.approx(roc_auc_score(y, p))
        assert scores["log_loss_bits"][k] == pytest.approx(log_loss(y, p) / np.log(2))
    assert set(scores) <= set(SCORES) | {"brier", "ece"}


def test_influences_cover_only_the_scored_parts(labelled):
    Y, defined, probability, _ = labelled
    parts = [slice(0, 200), slice(200, N)]
    # Logits of different parts have no common scale, so no pair of rows across parts counts.
    logits = logit(probability) + 5.0 * (np.arange(N) < 200)[:, None]
    found = Scorer(GROUPS, 50, 0, parts).influence(Y, logits, defined)
    np.testing.assert_array_equal(found, auroc_influence(Y, logits, defined, GROUPS, parts))
    assert not np.allclose(found, Scorer(GROUPS, 50, 0).influence(Y, logits, defined))
    target = Y + 0.5 * probability
    moments = moments_by_sequence(target, probability, defined, GROUPS, parts)
    np.testing.assert_array_equal(
        Scorer(GROUPS, 50, 0, parts).influence(target, probability, defined), r2_influence(moments)
    )


def test_each_hypothesis_is_compared_with_its_best_table(labelled):
    Y, defined, probability, text = labelled
    tables = [
        np.stack([probability[:, 0], text[:, 1]], axis=1),
        np.stack([text[:, 0], 0.3 * Y[:, 1] + text[:, 1]], axis=1),
    ]
    found = Scorer(GROUPS, 50, 0).text(Y, tables, defined)
    f1, area = (
        np.array([[by(Y[rows, k], each[rows, k]) for k, rows in enumerate(defined.T)] for each in tables])
        for by in (lambda y, p: f1_score(y, p > 0.5), roc_auc_score)
    )
    assert area.argmax(axis=0).tolist() == f1.argmax(axis=0).tolist() == [0, 1]
    np.testing.assert_allclose(found.f1, f1.max(axis=0))
    np.testing.assert_allclose(found.auroc, area.max(axis=0))
    best = np.stack([tables[0][:, 0], tables[1][:, 1]], axis=1)
    np.testing.assert_allclose(found.resampled, resampled_auroc(Y, best, defined, GROUPS, 50, 0))


def test_differences_use_the_same_resamples(labelled):
    Y, defined, probability, text = labelled
    scores = classified(Scorer(GROUPS, 200, 3), Y, probability, text, defined)
    probe, table = (resampled_auroc(Y, p, defined, GROUPS, 200, 3) for p in (logit(probability), text))
    found = np.stack([auroc(Y, p, defined) for p in (probability, text)])
    for name, *case in (
        ("auroc", found[0], probe, effective(Y, defined), SHARE),
        ("auroc_over_text", found[0] - found[1], probe - table, effective(Y, defined), UNBOUNDED),
    ):
        low, high = t_interval(*case)
        np.testing.assert_allclose(scores[f"{name}_low"], low)
        np.testing.assert_allclose(scores[f"{name}_high"], high)
    np.testing.assert_allclose(scores["n_sequences"], effective(Y, defined))
    for k in range(2):
        rows = defined[:, k]
        assert scores["baseline_text_auroc"][k] == pytest.approx(roc_auc_score(Y[rows, k], text[rows, k]))
        assert scores["baseline_text_f1"][k] == pytest.approx(f1_score(Y[rows, k], text[rows, k] > 0.5))
    records = [converged(scores, k) for k in range(2)]
    assert [verdict(record) for record in records] == ["known", "undecided"]


def test_above_gives_the_same_interval_as_the_text_comparison(labelled):
    Y, defined, probability, text = labelled
    scorer = Scorer(GROUPS, 200, 3)
    scores = classified(scorer, Y, probability, text, defined)
    found = scorer.above(Y, logit(probability), text, defined)
    for values, name in zip(found, ("baseline_text_auroc", "auroc_over_text_low", "auroc_over_text_high"), strict=True):
        np.testing.assert_array_equal(values, scores[name])
    target, predicted = Y + 0.0, probability
    scores, found = (each(target, predicted, text, defined) for each in (scorer.regression, scorer.above))
    for values, name in zip(found, ("baseline_text_r2", "r2_over_text_low", "r2_over_text_high"), strict=True):
        np.testing.assert_array_equal(values, scores[name])


def test_each_hypothesis_uses_its_best_prediction(labelled):
    Y, defined, probability, text = labelled
    swapped = [np.stack([probability[:, 0], text[:, 1]], axis=1), np.stack([text[:, 0], Y[:, 1]], axis=1)]
    scorer = Scorer(GROUPS, 200, 3)
    best, area = scorer.best_of(swapped, Y, defined)
    np.testing.assert_array_equal(best, np.stack([probability[:, 0], Y[:, 1]], axis=1))
    assert area[1] == 1 and area[0] == scorer.text(Y, [probability], defined).auroc[0]
    target, constant = Y + 0.25, np.zeros((N, 2))
    undefined = np.full((N, 2), np.nan)
    np.testing.assert_array_equal(scorer.best_of([constant, Y], target, defined)[0], Y)
    np.testing.assert_array_equal(scorer.best_of([undefined, text], Y, defined)[0], text)


def test_a_probe_worse_than_the_table_is_below_a_baseline(labelled):
    Y, defined, probability, text = labelled
    scores = classified(Scorer(GROUPS, 200, 3), Y, text, probability, defined)
    assert verdict(converged(scores, 0)) == "below a baseline"


def converged(scores, k):
    return {"status": "converged", "kind": "boolean"} | {name: values[k] for name, values in scores.items()}


def test_scores_over_text_are_nan_without_a_table(labelled):
    Y, defined, probability, _ = labelled
    scores = Scorer(GROUPS, 50, 0).classification(Y, logit(probability), None, defined)
    assert np.isnan(scores["auroc_over_text_low"]).all() and np.isfinite(scores["auroc_low"]).all()
    assert np.isnan([scores["baseline_text_f1"], scores["baseline_text_auroc"]]).all()


def test_intervals_compare_only_within_parts(labelled):
    Y, defined, probability, text = labelled
    parts = [slice(0, 200), slice(200, N)]
    shifted = logit(probability)
    shifted[:200] += 3
    scorer = Scorer(GROUPS, 200, 3, parts)
    scores = scorer.classification(Y, shifted, scorer.text(Y, [text], defined), defined)
    probe, table = (resampled_auroc(Y, each, defined, GROUPS, 200, 3, parts) for each in (shifted, text))
    found = [auroc(Y, each, defined, parts) for each in (shifted, text)]
    np.testing.assert_allclose(scores["auroc"], found[0])
    np.testing.assert_allclose(scores["baseline_text_auroc"], found[1])
    n = effective(Y, defined)
    np.testing.assert_allclose([scores["auroc_low"], scores["auroc_high"]], t_interval(found[0], probe, n, SHARE))
    over = t_interval(found[0] - found[1], probe - table, n, UNBOUNDED)
    np.testing.assert_allclose([scores["auroc_over_text_low"], scores["auroc_over_text_high"]], over)


def test_balanced_probabilities_are_restored_to_the_prior(labelled):
    Y, defined, _, _ = labelled
    prevalence = 0.2
    # A probe that knows nothing predicts 1/2 under balanced weights, and the prevalence under the data's.
    restored = np.full((N, 2), logit(prevalence))
    scores = Scorer(GROUPS, 50, 0).classification(Y, np.zeros((N, 2)), None, defined, restored)
    y = Y[defined[:, 1], 1]
    assert scores["log_loss_bits"][1] == pytest.approx(log_loss(y, np.full(len(y), prevalence)) / np.log(2))
    assert scores["ece"][1] == pytest.approx(abs(y.mean() - prevalence))


def test_values_are_scored_with_an_interval(labelled):
    _, defined, _, _ = labelled
    rng = np.random.default_rng(1)
    target = rng.normal(size=(N, 2))
    predicted = target + 0.5 * rng.normal(size=(N, 2))
    predicted[:50, 1] = np.nan
    scores = Scorer(GROUPS, 200, 0).regression(target, predicted, 0 * target, defined)
    for k in range(2):
        rows = defined[:, k] & np.isfinite(predicted[:, k])
        assert scores["r2"][k] == pytest.approx(r2_score(target[rows, k], predicted[rows, k]))
    assert (scores["r2_low"] < scores["r2"]).all() and (scores["r2"] < scores["r2_high"]).all()
    assert (np.abs(scores["baseline_text_r2"]) < 0.02).all() and np.isnan(scores["f1"]).all()
    # A table that predicts 0 has an R2 of about 0, so that the difference is about the R2 itself.
    np.testing.assert_allclose(scores["r2_over_text_low"], scores["r2_low"], atol=0.02)
    np.testing.assert_allclose(scores["r2_over_text_high"], scores["r2_high"], atol=0.02)


def test_hypotheses_without_probabilities_have_no_scores(labelled):
    Y, defined, _, _ = labelled
    probability = np.where(Y, 0.9, 0.1)
    probability[:, 1] = np.nan
    scores = Scorer(GROUPS, 50, 0).classification(Y, logit(probability), None, defined)
    assert scores["f1"][0] == 1
    assert np.isnan([scores[name][1] for name in ("f1", "accuracy", "f1_low", "mcc", "auroc")]).all()


def test_a_single_group_has_no_interval_and_stays_undecided(labelled):
    Y, defined, probability, text = labelled
    scores = classified(Scorer(np.zeros(N, int), 50, 0), Y, probability, text, defined)
    assert np.isnan(scores["f1_low"]).all() and (scores["f1"] > 0).any()
    assert verdict(converged(scores, 0)) == "undecided"


@pytest.mark.parametrize(("n_groups", "has"), [(7, False), (8, True)])
def test_few_groups_have_no_interval(labelled, n_groups, has):
    Y, defined, probability, text = labelled
    groups = np.arange(N) % n_groups
    scores = classified(Scorer(groups, 50, 0), Y, probability, text, defined)
    ends = ("f1_low", "f1_high", "auroc_low", "auroc_over_text_high")
    assert all(np.isfinite(scores[name][0]) == has for name in ends) and scores["f1"][0] > 0
    target = Y.astype(float)
    assert np.isfinite(Scorer(groups, 50, 0).regression(target, probability, None, defined)["r2_low"][0]) == has
