"""What LogisticProbes accepts: kinds of arrays, labels and parameters, states on disk; and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from logistic_problems import assert_equal_coefficients, assert_same_fit, fit_alone, make_problem
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits
from traced import traced

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_16_and_32_bit_states_reach_the_float64_minimum(dtype, class_weight):
    generator = np.random.default_rng(5)
    hidden = np.tanh(generator.standard_normal((6000, 30)) @ generator.standard_normal((30, 30)) * 0.4)
    cells = np.cumsum(generator.standard_normal((6000, 6)), axis=0) * 0.1 + 30
    X = np.hstack([hidden, cells, np.ones((6000, 1)), hidden[:, :1]]).astype(dtype)
    Y = X[:, :3].astype(np.float64) + generator.logistic(size=(6000, 3)) * 0.3 > [0, 0.5, 1.2]
    probes = LogisticProbes(class_weight=class_weight).fit(X, Y)
    exact = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X.astype(np.float64), Y)
    assert (probes.status_ == "converged").all() and (probes.grad_norm_ <= 1e-6).all()
    for k in range(3):
        assert np.abs(probes.coef_[k] - exact.coef_[k]).max() <= 1e-4 * np.abs(exact.coef_[k]).max()
    np.testing.assert_allclose(probes.objective_, exact.objective_, rtol=1e-7)


def test_a_fine_tolerance_on_16_bit_states_is_reached_in_float64():
    X, Y = make_problem(1500, 12, 3)
    X = X.astype(np.float16)
    fine = LogisticProbes(tol=1e-12).fit(X, Y)
    assert (fine.status_ == "converged").all() and (fine.grad_norm_ <= 1e-12).all()
    for k in range(3):
        assert_same_fit(fine, k, fit_alone(X.astype(np.float64), Y[:, k]))


@pytest.mark.parametrize(
    "wrap",
    [
        torch.from_numpy,
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.tolist(),
    ],
    ids=["torch", "fortran", "strided", "reversed-twice", "list"],
)
def test_every_kind_of_array_gives_the_same_fit(wrap):
    X, Y = make_problem(300, 5, 2)
    expected = LogisticProbes(tol=1e-11).fit(X, Y)
    got = LogisticProbes(tol=1e-11).fit(wrap(X.copy()), Y)
    assert_equal_coefficients(got.coef_, expected.coef_)
    np.testing.assert_allclose(got.predict_proba(wrap(X.copy())), expected.predict_proba(X), rtol=1e-6)


def test_bfloat16_and_read_only_maps_are_accepted(tmp_path, recwarn):
    X, Y = make_problem(400, 6, 2)
    rounded = torch.from_numpy(X).to(torch.bfloat16)
    bfloat = LogisticProbes(tol=1e-10).fit(rounded, Y)
    exact = LogisticProbes(tol=1e-10).fit(rounded.to(torch.float64).numpy(), Y)
    assert_equal_coefficients(bfloat.coef_, exact.coef_)
    labels = torch.from_numpy(Y).to(torch.bfloat16)
    weighted = LogisticProbes(tol=1e-10).fit(X, labels, torch.full((400,), 2.0, dtype=torch.bfloat16))
    assert_equal_coefficients(weighted.coef_, LogisticProbes(tol=1e-10).fit(X, Y, np.full(400, 2)).coef_)
    np.save(tmp_path / "x.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = (tmp_path / "x.npy").read_bytes()
    LogisticProbes().fit(mapped, Y)
    assert (tmp_path / "x.npy").read_bytes() == before
    assert not recwarn.list


def write_dump(folder, X):
    spec = DumpSpec(
        arrays={"layer0/h": X.shape[1]},
        sequence_starts=np.array([0, len(X)]),
        document_starts=np.array([0, len(X)]),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=X.dtype,
        attributes={"vocabulary": ["a"]},
        block_rows=3000,
    )
    with DumpWriter(folder, spec) as writer:
        writer.append(0, np.zeros(len(X), np.uint8), {"layer0/h": X})
    return StateDump.open(folder).array("layer0/h")


@pytest.mark.parametrize("kind", ["map", "dump"])
def test_states_on_disk_within_a_memory_limit_give_the_same_fit(tmp_path, kind):
    X, Y = make_problem(20_000, 24, 12)
    X = X.astype(np.float16)
    if kind == "map":
        np.save(tmp_path / "x.npy", X)
        source = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        source = write_dump(tmp_path / "states.zarr", X)
    expected = LogisticProbes(tol=1e-12).fit(X, Y)
    got, peak = traced(lambda: LogisticProbes(tol=1e-12, memory_limit="4MB").fit(source, Y))
    # All problems at once would take 3.8 MB for logits and labels alone, and the states 3.8 MB in float64.
    assert peak < 4e6
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(got.decision_function(source), expected.decision_function(X), rtol=1e-6, atol=1e-6)


def test_one_dimensional_labels_follow_scikit_learn():
    X, Y = make_problem(400, 5, 1)
    y = np.where(Y[:, 0], "b", "a")
    probes, alone = LogisticProbes(tol=1e-10).fit(X, y), fit_alone(X, y)
    assert probes.classes_.tolist() == ["a", "b"]
    single = LogisticProbes().fit(X, np.full(len(X), "a"))
    assert (single.predict_proba(X) == np.ones((len(X), 1))).all() and set(single.predict(X)) == {"a"}
    np.testing.assert_array_equal(probes.predict(X), alone.predict(X))
    np.testing.assert_allclose(probes.predict_proba(X), alone.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(probes.decision_function(X), alone.decision_function(X), rtol=1e-6, atol=1e-8)
    assert probes.score(X, y) == alone.score(X, y)
    weighted = LogisticProbes(class_weight={"b": 5.0}, tol=1e-12).fit(X, y)
    assert_same_fit(weighted, 0, fit_alone(X, y, class_weight={"b": 5.0}))


def test_labels_of_many_hypotheses_keep_their_type():
    X, Y = make_problem(300, 4, 3)
    assert LogisticProbes().fit(X, Y).predict(X).dtype == bool
    numbers = LogisticProbes().fit(X, Y.astype(np.int8)).predict(X)
    assert numbers.dtype.kind == "i" and set(np.unique(numbers)) <= {0, 1}
    np.testing.assert_array_equal(numbers, LogisticProbes().fit(X, Y.astype(float)).predict(X))


@pytest.mark.parametrize("n_targets", [1, 2, 3])
def test_scikit_learn_predicts_held_out_rows_of_many_hypotheses(n_targets):
    X, Y = make_problem(300, 4, n_targets)
    folds = list(GroupKFold(5).split(X, Y, groups=np.arange(len(X)) // 20))
    for method in ("predict_proba", "decision_function", "predict"):
        expected = np.empty(Y.shape)
        for train, test in folds:
            expected[test] = getattr(LogisticProbes().fit(X[train], Y[train]), method)(X[test])
        np.testing.assert_array_equal(cross_val_predict(LogisticProbes(), X, Y, method=method, cv=folds), expected)


def test_labels_may_be_a_table_with_columns_of_mixed_types():
    X, Y = make_problem(100, 3, 2)
    table = pandas.DataFrame({"a": Y[:, 0], "b": Y[:, 1].astype(int)})
    for labels in (table, table.astype("boolean"), table.astype("Int64")):
        found = LogisticProbes().fit(X, labels)
        np.testing.assert_array_equal(found.coef_, LogisticProbes().fit(X, Y).coef_)
        assert np.isfinite(found.standard_errors(X, labels).coef).all()
    table = table.astype("boolean")
    table.iloc[3, 1] = pandas.NA
    with pytest.raises(InputError, match="expected real numbers"):
        LogisticProbes().fit(X, table)


def broken(X, value, row, column):
    X = X.copy()
    X[row, column] = value
    return X


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({}, lambda X, Y: (broken(X, np.nan, 7, 2), Y), "X contains NaN at row 7, column 2"),
        ({}, lambda X, Y: (broken(X.astype(np.float16), np.inf, 99, 0), Y), "X contains inf at row 99, column 0"),
        ({}, lambda X, Y: (X[:50], Y), "X has 50 rows and Y 100"),
        ({}, lambda X, Y: (X, Y * 2), "Y is 2 at row .*expected 0 or 1"),
        ({}, lambda X, Y: (X, np.where(Y, np.nan, 0.0)), "Y contains NaN or inf"),
        ({}, lambda X, Y: (X, Y[:, :, None]), "expected labels"),
        ({}, lambda X, Y: (X, Y[:, :0]), "at least one hypothesis"),
        ({}, lambda X, Y: (X, Y, np.ones(99)), "sample_weight has the shape"),
        ({}, lambda X, Y: (X, Y, np.ones((100, 3))), "sample_weight has the shape"),
        ({}, lambda X, Y: (X, Y, broken(np.ones(Y.shape), -1, 4, 1)), "sample_weight is -1.0 at row 4, hypothesis 1"),
        ({}, lambda X, Y: (X, Y, broken(np.ones(Y.shape), np.nan, 4, 1)), "sample_weight is nan at row 4"),
        ({}, lambda X, Y: (X, Y, np.zeros(100)), "zero everywhere"),
        ({}, lambda X, Y: (X, np.arange(100) % 3), "y has 3 classes"),
        ({}, lambda X, Y: (X, np.where(Y[:, 0], "a", None)), "y has missing labels"),
        ({}, lambda X, Y: (X, np.where(Y, True, None)), "undefined ones any label and a sample weight of 0"),
        ({"C": 0.0}, lambda X, Y: (X, Y), "C is 0.0"),
        ({"C": [1.0, 2.0, 3.0]}, lambda X, Y: (X, Y), "one for each of 2 columns of Y"),
        ({"tol": 0}, lambda X, Y: (X, Y), "tol is 0"),
        ({"tol": None}, lambda X, Y: (X, Y), "tol is None: expected a number above 0"),
        ({"max_iter": 0}, lambda X, Y: (X, Y), "max_iter is 0"),
        ({"max_iter": 1.5}, lambda X, Y: (X, Y), "max_iter is 1.5: expected a whole number"),
        ({"C": "a"}, lambda X, Y: (X, Y), "C is a: expected a number above 0"),
        ({"class_weight": {0: "a"}}, lambda X, Y: (X, Y), "class_weight of class False is a: expected a finite number"),
        ({"class_weight": "even"}, lambda X, Y: (X, Y), "class_weight 'even' is unknown"),
        ({"class_weight": {7: 1.0}}, lambda X, Y: (X, Y), "class_weight names the class 7"),
        ({"class_weight": {1: -1.0}}, lambda X, Y: (X, Y), "expected a finite number"),
    ],
)
def test_bad_input_is_named_in_one_line(options, change, message):
    X, Y = make_problem(100, 3, 2)
    with pytest.raises(InputError, match=message) as caught:
        LogisticProbes(**options).fit(*change(X, Y.astype(np.int64)))
    assert "\n" not in str(caught.value)


def test_a_refit_that_is_refused_leaves_the_labels_of_the_fit():
    X, Y = make_problem(100, 3, 1)
    probes = LogisticProbes().fit(X, np.where(Y[:, 0], "verb", "noun"))
    before = probes.predict(X)
    with pytest.raises(InputError, match="sample_weight"):
        probes.fit(X, np.where(Y[:, 0], "open", "shut"), np.ones(99))
    assert probes.classes_.tolist() == ["noun", "verb"]
    np.testing.assert_array_equal(probes.predict(X), before)


def test_prediction_checks_its_input():
    X, Y = make_problem(100, 3, 2)
    with pytest.raises(NotFittedError):
        LogisticProbes().predict(X)
    refused = LogisticProbes()
    with pytest.raises(InputError):
        refused.fit(X, np.full(100, np.nan))
    for use in (refused.predict, lambda X: refused.standard_errors(X, Y)):
        with pytest.raises(NotFittedError):
            use(X)
    probes = LogisticProbes().fit(X, Y)
    with pytest.raises(ValueError, match="4 features"):
        probes.predict(np.ones((5, 4)))
    with pytest.raises(InputError, match="NaN at row 1, column 0"):
        probes.predict(np.array([[1.0, 2, 3], [np.nan, 2, 3]]))


def test_parameters_follow_scikit_learn():
    probes = LogisticProbes(0.5, class_weight="balanced", standardize=True)
    assert clone(probes).get_params() == probes.get_params()
    X, Y = make_problem(200, 4, 1)
    assert make_pipeline(StandardScaler(), LogisticProbes()).fit(X, Y[:, 0]).score(X, Y[:, 0]) > 0.5


def test_scikit_learn_estimator_checks():
    failed = [result for result in check_estimator(LogisticProbes(), on_fail=None) if result["status"] == "failed"]
    assert not failed


@pytest.mark.filterwarnings("ignore:.*probes did not converge")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda X: X.astype(np.float16),
        lambda X: torch.from_numpy(X).to(torch.bfloat16),
        lambda X: X.astype(np.float32),
        lambda X: np.asfortranarray(X.astype(np.float32)),
        lambda X: X,
    ],
    ids=["float16", "bfloat16", "float32", "fortran", "float64"],
)
def test_memory_stays_within_six_row_arrays_and_four_matrices(wrap):
    X, Y = make_problem(20_000, 256, 32)
    X = wrap(X)
    itemsize = 8 if X.dtype == np.float64 else 4
    assert traced(lambda: LogisticProbes(max_iter=8).fit(X, Y))[1] < itemsize * (6 * Y.size + 4 * 256**2)


def test_few_units_do_not_take_more_memory():
    X, Y = make_problem(4096, 16, 128)
    X = X.astype(np.float32)
    # One thread, since each has working memory of its own.
    with threadpool_limits(1, user_api="blas"):
        assert traced(lambda: LogisticProbes().fit(X, Y))[1] < 4 * (6 * Y.size + 4 * 16**2)


def test_a_numpy_matrix_is_accepted_as_an_array():
    X, Y = make_problem(500, 8, 9)
    expected = LogisticProbes().fit(X, Y)
    got = LogisticProbes().fit(np.asmatrix(X), Y)
    np.testing.assert_array_equal(got.coef_, expected.coef_)


def test_continuing_in_float64_does_not_take_more_memory():
    X, Y = make_problem(20_000, 256, 32)
    X = X.astype(np.float32)
    # The tolerance is finer than float32 can resolve, so all problems continue in float64.
    assert traced(lambda: LogisticProbes(tol=1e-8).fit(X, Y))[1] < 4 * (6 * Y.size + 4 * 256**2)


def test_a_hypothesis_of_tiny_weight_does_not_affect_others():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6))
    y = X[:, 0] + rng.normal(size=300) > 0
    alone = LogisticProbes().fit(X, y)
    for light in (np.where(y, 1e-300, 1e100), np.where(y, 1e100, 1e-300), np.where(y, 1.0, 1e-17)):
        both = LogisticProbes().fit(X, np.c_[y, y], np.c_[np.ones(300), light])
        assert both.status_[0] == "converged"
        np.testing.assert_allclose(both.coef_[0], alone.coef_.ravel(), atol=1e-5)


def test_class_weight_may_name_an_absent_class():
    probes = LogisticProbes(class_weight={0: 1, 1: 2}).fit(np.eye(3), np.ones(3, int))
    assert probes.status_.tolist() == ["one_class"]
    with pytest.raises(InputError, match="class_weight names the class 2"):
        LogisticProbes(class_weight={0: 1, 2: 2}).fit(np.eye(3), [0, 1, 1])


def test_masked_arrays_are_accepted_only_if_nothing_is_masked():
    X, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2 == 0
    expected = LogisticProbes().fit(X, y)
    found = LogisticProbes().fit(np.ma.array(X), np.ma.array(y), np.ma.array(np.ones(50)))
    assert np.array_equal(found.coef_, expected.coef_)
    assert np.array_equal(found.predict(np.ma.array(X)), expected.predict(X))
    some = np.zeros(50, bool)
    some[3] = True
    masked = np.ma.array(X, mask=np.repeat(some[:, None], 3, axis=1)), np.ma.array(y, mask=some)
    for given in ((masked[0], y), (X, masked[1]), (X, y, np.ma.array(np.ones(50), mask=some))):
        with pytest.raises(InputError, match="with masked values"):
            LogisticProbes().fit(*given)


@pytest.mark.parametrize(
    "X",
    [
        torch.eye(3).to_sparse(),
        torch.empty(3, 3, device="meta"),
        torch.eye(3).to(torch.float8_e4m3fn),
    ],
    ids=["sparse", "meta", "float8"],
)
def test_input_that_is_not_a_dense_numeric_array_is_refused(X):
    with pytest.raises(InputError):
        LogisticProbes().fit(X, [0, 1, 0])


def test_a_sparse_matrix_of_labels_or_weights_is_named():
    for given in ((np.eye(3), scipy.sparse.eye_array(3)), (np.eye(3), [0, 1, 1], scipy.sparse.eye_array(3))):
        with pytest.raises(InputError, match="cannot be sparse"):
            LogisticProbes().fit(*given)


def test_fields_of_structured_arrays_are_accepted_as_states(tmp_path):
    records = np.zeros(300, [("flag", "u1"), ("x", "f2", (6,))])
    records["x"] = np.random.default_rng(0).normal(size=(300, 6))
    Y = records["x"][:, :2] > 0
    found, expected = (LogisticProbes().fit(X, Y) for X in (records["x"], records["x"].copy()))
    assert np.array_equal(found.coef_, expected.coef_)


def test_one_process_does_not_compare_settings():
    X, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(InputError, match="class_weight of class False is nan"):
        LogisticProbes(class_weight={0: np.nan, 1: 1}).fit(X, y)
    assert LogisticProbes(standardize=None, fit_intercept="yes").fit(X, y).status_.tolist() == ["converged"]
