"""One unit on a text, against NumPy, SciPy and scikit-learn, on states made for the purpose."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from gatescope.analysis import unit_view
from gatescope.analysis.hypotheses import select
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.label_table import LabelTable
from gatescope.analysis.labels import Labels, label_dump
from gatescope.analysis.own_hypotheses import pattern
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.unit_view import view_unit
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import ReadConfig, open_states

S, T = 20, 90
N = S * T
LAST, SLOW, CONSTANT, NOISE, PAIRS = range(5)


def write(path, n_sequences=S, vocabulary="ab\n"):
    """Units: of the last character, with a memory, constant, noise, one sign in each pair; "z" occurs three times."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(3, size=N).astype(np.uint8)
    tokens[[100, 200, 300]] = 3
    slow = rng.normal(size=(S, T))
    for t in range(1, T):
        slow[:, t] = 0.9 * slow[:, t - 1] + 0.4 * slow[:, t]
    last = np.select([tokens == 0, tokens == 1], [2.0, -1.0], 0.5)
    states = np.stack([last, slow.ravel(), np.full(N, 0.25), rng.normal(size=N), np.arange(N) // 2 % 2 - 0.5], axis=1)
    starts = np.linspace(0, N, n_sequences + 1).astype(np.int64)
    about = {"vocabulary": [*vocabulary, "z"]}
    spec = DumpSpec({"layer0/h": 5}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float32), about)
    with DumpWriter(path, spec) as writer:
        writer.append(0, tokens, {"layer0/h": states})
    return StateDump.open(path)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return write(tmp_path_factory.mktemp("unit") / "states.zarr")


def column(dump, unit):
    return dump.array("layer0/h")[:, [unit]][:, 0].astype(np.float64)


def test_summary_statistics_equal_numpy(dump):
    view, x = view_unit(dump, "layer0/h", NOISE), column(dump, NOISE)
    assert (view.name, view.n_rows, view.n_sequences) == ("layer0/h 3", N, S)
    np.testing.assert_allclose([view.mean, view.sd, view.least, view.greatest], [x.mean(), x.std(), x.min(), x.max()])


@pytest.mark.parametrize("unit", [SLOW, NOISE])
def test_memory_is_the_lag_where_autocorrelation_falls_below_1_e(dump, unit):
    x = column(dump, unit).reshape(S, T) - column(dump, unit).mean()
    correlations = [(x[:, lag:] * x[:, :-lag]).mean() / x.var() for lag in range(1, T)]
    expected = 1 + next(i for i, r in enumerate(correlations) if r < 1 / np.e)
    assert view_unit(dump, "layer0/h", unit).memory == expected == {SLOW: 9, NOISE: 1}[unit]


def test_a_constant_has_neither_memory_nor_variance(dump):
    view = view_unit(dump, "layer0/h", CONSTANT, select(["column", "newline_next"], "any"))
    assert view.memory is None and view.sd == 0 and np.isnan(view.of_last_character)
    assert [(each.hypothesis, each.score) for each in view.told] == [("newline_next", 0.5)]


@pytest.mark.parametrize(("longest", "found"), [(8, None), (9, 9)])
def test_memory_is_searched_up_to_a_limit(dump, monkeypatch, longest, found):
    monkeypatch.setattr(unit_view, "LONGEST_MEMORY", longest)
    assert view_unit(dump, "layer0/h", SLOW).memory == found


def test_memory_ends_with_the_sequence(dump, tmp_path):
    assert view_unit(dump, "layer0/h", PAIRS).memory == 1
    assert view_unit(write(tmp_path / "states.zarr", n_sequences=N // 2), "layer0/h", PAIRS).memory is None


@pytest.mark.parametrize("unit", [LAST, SLOW])
def test_the_share_of_the_last_character_equals_a_regression(dump, unit):
    one_hot, x = np.eye(4)[dump.tokens[:]], column(dump, unit)
    expected = LinearRegression().fit(one_hot, x).score(one_hot, x)
    np.testing.assert_allclose(view_unit(dump, "layer0/h", unit).of_last_character, expected, atol=1e-12)


def test_characters_are_sorted_by_mean_and_rare_ones_omitted(dump):
    times = np.bincount(dump.tokens[:])
    assert view_unit(dump, "layer0/h", LAST).characters == [
        ("a", 2, times[0]),
        ("\n", 0.5, times[2]),
        ("b", -1, times[1]),
    ]


def test_a_character_that_is_read_just_often_enough_is_listed(dump, monkeypatch):
    monkeypatch.setattr(unit_view, "FEWEST_READ", 3)
    assert ("z", 0.5, 3) in view_unit(dump, "layer0/h", LAST).characters


def test_scores_of_hypotheses_equal_scikit_learn_and_scipy(dump):
    hypotheses = [pattern("a=a"), pattern("b=b"), pattern("never=q"), *select(["column"], "any")]
    view, text = view_unit(dump, "layer0/h", LAST, hypotheses), np.array(list(dump.text()))
    assert [each.hypothesis for each in view.told] == ["a", "b", "column"]
    assert [each.rises for each in view.told] == [True, False, False]
    assert [each.score for each in view.told[:2]] == [1, 1]
    values = np.concatenate([hypotheses[3].label(text)[0] for _, _, text in dump.documents()])
    np.testing.assert_allclose(view.told[2].score, -pearsonr(column(dump, LAST), values).statistic)

    told = {each.hypothesis: each for each in view_unit(dump, "layer0/h", NOISE, hypotheses).told}
    for letter in "ab":
        area = roc_auc_score(text == letter, column(dump, NOISE))
        np.testing.assert_allclose(told[letter].score, max(area, 1 - area))
        assert told[letter].rises == (area > 0.5)
        assert 0 < told[letter].low < told[letter].score < told[letter].high < 1


def test_labels_of_a_table_are_scored_beside_hypotheses_of_the_text(dump, monkeypatch):
    monkeypatch.setattr(unit_view, "AT_ONCE", 2)
    rng = np.random.default_rng(1)
    boolean, defined = rng.random((N, 5)) < 0.3, rng.random((N, 5)) < 0.8
    x, values = column(dump, SLOW), rng.normal(size=(N, 1)) + column(dump, SLOW)[:, None]

    def named(kind, n):
        return tuple(Hypothesis(f"{kind} {k}", "any", kind, "unknown", "", None) for k in range(n))

    table = LabelTable(
        Labels(named("boolean", 5), boolean & defined, defined),
        Labels(named("continuous", 1), values, np.broadcast_to(np.True_, values.shape)),
    )
    for rows in (N, 1000):
        monkeypatch.setattr(unit_view, "MOST_ROWS", rows)
        found = {each.hypothesis: each for each in view_unit(dump, "layer0/h", SLOW, [pattern("a=a")], table).told}
        assert len(found) == 7
        for k in range(5):
            where = np.flatnonzero(defined[:rows, k])
            area = roc_auc_score(boolean[where, k], x[where])
            np.testing.assert_allclose(found[f"boolean {k}"].score, max(area, 1 - area))
        np.testing.assert_allclose(found["continuous 0"].score, pearsonr(values[:rows, 0], x[:rows]).statistic)


def test_places_without_a_text_are_rows(dump, tmp_path):
    x = column(dump, NOISE)
    np.savez(tmp_path / "x.npz", h=x[:, None], sequence_starts=dump.sequence_starts)
    view = view_unit(open_states(tmp_path / "x.npz"), "h", 0)
    row = int(x.argmax())
    assert view.highest[0].before == f"row {row:,}, step {row % T} of sequence {row // T}"
    assert (view.of_each_row, view.characters, view.text, view.told) == ("row", [], "", [])
    assert np.isnan(view.of_last_character) and view.memory == 1


def test_places_among_words_are_whole_documents_of_words(dump, tmp_path):
    words, x = np.array(["alpha", "be", "gamma", "zeta"]), column(dump, NOISE)
    arrays = {"h": x[:, None], "tokens": dump.tokens, "sequence_starts": dump.sequence_starts}
    np.savez(tmp_path / "x.npz", vocabulary=words, **arrays)
    view, row = view_unit(open_states(tmp_path / "x.npz"), "h", 0), int(x.argmax())
    first, last = row // T * T, row // T * T + T
    read = "".join(f"{words[token]} " for token in dump.tokens[first : row + 1])
    assert view.highest[0].before == read[-40:]
    assert view.highest[0].after == "".join(f"{words[token]} " for token in dump.tokens[row + 1 : last])[:20]
    letters = view_unit(dump, "layer0/h", NOISE)
    assert [each[1:] for each in view.characters] == [each[1:] for each in letters.characters]
    assert {each[0] for each in view.characters} == {"alpha", "be", "gamma"}
    # Without the words, their numbers.
    np.savez(tmp_path / "x.npz", **arrays)
    numbers = view_unit(open_states(tmp_path / "x.npz"), "h", 0)
    assert {each[0] for each in numbers.characters} == {"0", "1", "2"} and set("".join(numbers.text)) <= set("0123 ")


def test_hypotheses_of_both_kinds_are_sorted_by_score_above_chance(dump):
    of_a = Hypothesis("a", "any", "continuous", "past", "", lambda text: [{"a": 1, "b": 0.1}.get(c, 0) for c in text])
    told = view_unit(dump, "layer0/h", LAST, [pattern("aa=a(?=a)"), of_a]).told
    assert [each.hypothesis for each in told] == ["a", "aa"]
    assert 2 * told[1].score - 1 < told[0].score < told[1].score


def test_intervals_equal_those_of_the_scorer(dump):
    hypotheses = [*select(["newline_next"], "any"), pattern("z=z")]
    boolean, _, _ = label_dump(dump, hypotheses)
    assert not boolean.defined.all()
    told = {each.hypothesis: each for each in view_unit(dump, "layer0/h", NOISE, hypotheses).told}
    for k, each in enumerate(hypotheses):
        found, (Y, defined) = told[each.name], (part[:, [k]] for part in (boolean.values, boolean.defined))
        logit = column(dump, NOISE)[:, None] * (1 if found.rises else -1)
        expected = Scorer(dump.sequence_ids, 1000, 0).classification(Y, logit, None, defined)
        ends = [expected[f"auroc{end}"][0] for end in ("", "_low", "_high")]
        np.testing.assert_allclose([found.score, found.low, found.high], ends)


@pytest.mark.parametrize("n_sequences", [7, 8])
def test_fewer_than_eight_sequences_have_no_interval(tmp_path, n_sequences):
    view = view_unit(write(tmp_path / "states.zarr", n_sequences), "layer0/h", NOISE, [pattern("a=a")])
    assert np.isnan(view.told[0].low) == (n_sequences < 8) and not np.isnan(view.told[0].score)


def test_places_are_the_sorted_extremes_of_stretches(dump, monkeypatch):
    monkeypatch.setattr(unit_view, "STRETCH", 50)
    monkeypatch.setattr(unit_view, "N_PLACES", 30)
    view, x, text = view_unit(dump, "layer0/h", NOISE), column(dump, NOISE), dump.text()
    stretches = [slice(s * T + a, s * T + b) for s in range(S) for a, b in ((0, 50), (50, T))]
    highest = sorted((x[each].max() for each in stretches), reverse=True)[:30]
    assert [place.value for place in view.highest] == highest
    assert [place.value for place in view.lowest] == sorted(x[each].min() for each in stretches)[:30]
    for place in view.highest:
        row = int(np.flatnonzero(x == place.value)[0])
        first = row // T * T
        assert place.before == text[max(first, row - 39) : row + 1]
        assert place.after == text[row + 1 : min(first + T, row + 21)]
    widest = max(stretches, key=lambda rows: x[rows].std())
    assert view.text == text[widest] and (view.values == x[widest]).all()


def test_only_the_first_rows_of_a_long_dump_are_viewed(dump, monkeypatch):
    monkeypatch.setattr(unit_view, "MOST_ROWS", 1000)
    view, x = view_unit(dump, "layer0/h", NOISE, [pattern("a=a")]), column(dump, NOISE)[:1000]
    assert (view.n_rows, view.n_sequences, view.mean) == (1000, 12, x.mean())
    area = roc_auc_score(dump.tokens[:1000] == 0, x)
    np.testing.assert_allclose(view.told[0].score, max(area, 1 - area))


def test_units_that_cannot_be_viewed_are_refused(dump, tmp_path):
    with pytest.raises(InputError, match=r"has units 0 to 4, not 5"):
        view_unit(dump, "layer0/h", 5)
    with pytest.raises(InputError, match=r"has units 0 to 4, not -1"):
        view_unit(dump, "layer0/h", -1)
    with pytest.raises(InputError, match=r"has no 'layer1/h': it has layer0/h"):
        view_unit(dump, "layer1/h", 0)
    states = np.zeros((9, 2), np.float32)
    states[3:, 1] = np.nan
    np.save(tmp_path / "states.npy", states)
    (tmp_path / "text").write_text("a text of")
    source = open_states(tmp_path / "states.npy", ReadConfig(text=tmp_path / "text"))
    with pytest.raises(InputError, match=r"states 1 of .*states.npy is nan at row 3: expected finite states"):
        view_unit(source, "states", 1)
