"""Arrays of a dump side by side on disk, and probes that read them in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traced import traced

from gatescope.engine.blas_threads import thread_count
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.neurons import STATISTICS, NeuronProbes
from gatescope.engine.read_ahead import is_on_disk
from gatescope.engine.ridge import RidgeProbes

NAMES = ["layer0/h", "layer0/c"]
N, H = 20_000, 40


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """A dump of N rows of h and c, with H units each, in blocks of 3000 rows."""
    generator = np.random.default_rng(0)
    hidden = np.tanh(generator.standard_normal((N, H)) @ generator.standard_normal((H, H)) / 5)
    cell = 2 * generator.standard_normal((N, H))
    spec = DumpSpec(
        arrays=dict.fromkeys(NAMES, H),
        sequence_starts=np.array([0, N]),
        document_starts=np.array([0, N]),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": ["a"]},
        block_rows=3000,
    )
    path = tmp_path_factory.mktemp("columns") / "states.zarr"
    with DumpWriter(path, spec) as writer:
        writer.append(0, np.zeros(N, np.uint8), {"layer0/h": hidden, "layer0/c": cell})
    return StateDump.open(path)


def labels(X):
    noise = np.random.default_rng(1).logistic(size=(len(X), 3))
    return X[:, [0, H, 2 * H - 1]].astype(np.float64) + noise > [0, 1, 3]


places = st.integers(-50, 49)
chosen_rows = st.one_of(
    st.slices(50),
    st.just(...),
    places,
    st.lists(places, max_size=9).map(lambda rows: np.array(rows, dtype=np.int64)),
    st.lists(st.booleans(), min_size=50, max_size=50).map(np.array),
)
chosen_columns = st.one_of(st.none(), st.slices(6), st.integers(-6, 5), st.lists(st.integers(-6, 5), max_size=8))


@settings(max_examples=200, deadline=None)
@given(rows=chosen_rows, columns=chosen_columns)
def test_rows_and_columns_match_the_arrays(dump, rows, columns):
    units = [7, 0, 39]
    whole = np.hstack([np.asarray(dump.array(name))[2980:3030, units] for name in NAMES])
    lazy = dump.states(NAMES, units).rows(2900, 3100).rows(80, 130)
    assert (lazy.shape, lazy.dtype, len(lazy)) == ((50, 6), np.float16, 50)
    if columns is None:
        np.testing.assert_array_equal(lazy[rows], whole[rows])
        return
    columns = np.array(columns, dtype=np.int64) if isinstance(columns, list) else columns
    expected = whole[rows][..., columns]
    got = lazy[rows, columns]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def test_units_are_a_sequence_or_a_mask(dump):
    whole = dump.features(["layer0/h"])[:9]
    mask = np.arange(H) % 3 == 1
    for units in ((1, 2), range(3), mask, mask.tolist(), [], [-1], slice(5, 9)):
        expected = whole[:, units if isinstance(units, slice) else np.array(units, bool if len(units) == H else int)]
        assert np.array_equal(dump.states(["layer0/h"], units)[:9], expected)
        assert np.array_equal(next(dump.blocks(["layer0/h"], units, rows=9)), expected)
    for units in (3, "3", {1, 2}, [1.5], [[1, 2]]):
        with pytest.raises(InputError, match="expected a slice, integers"):
            dump.states(["layer0/h"], units)


def test_all_rows_are_read_at_once(dump):
    assert is_on_disk(dump.states(NAMES).rows(17, 9001))
    np.testing.assert_array_equal(np.asarray(dump.states(NAMES)), dump.features(NAMES))
    np.testing.assert_array_equal(np.asarray(dump.states(NAMES).rows(17, 9001)), dump.features(NAMES)[17:9001])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda dump: dump.states(["layer9/h"]), "has no 'layer9/h'"),
        (lambda dump: dump.states(NAMES, [99_999]), r"units \[99999\]: .*; layer0/h has \d+, layer0/c has \d+"),
        (lambda dump: dump.states(NAMES, np.ones(3, bool)), r"units \[ True  True  True\]: .*; layer0/h has \d+"),
        (lambda dump: dump.states([]), "no array of .* is chosen: it has layer0/h, layer0/c"),
        (lambda dump: dump.states(NAMES).rows(10, N + 1), f"has no rows 10 to {N + 1}"),
        (lambda dump: dump.states(NAMES).rows(-1, 5), "has no rows -1 to 5"),
        (
            lambda dump: LogisticProbes().fit(dump["h"], np.zeros((N, 1), bool)),
            r"X is a tuple of lazy arrays: take one of them, or dump\.states\(\['layer0/h'\]\)",
        ),
        (lambda dump: LogisticProbes().fit(dump, np.zeros((N, 1), bool)), r"is a state dump: choose .*\.states\("),
    ],
)
def test_invalid_rows_and_units_are_refused(dump, call, message):
    with pytest.raises(InputError, match=message):
        call(dump)


def test_logistic_probes_of_several_arrays_within_a_limit_below_their_size(dump):
    X = dump.features(NAMES)
    Y = labels(X)
    expected = LogisticProbes(tol=1e-12).fit(X, Y)
    got, peak = traced(lambda: LogisticProbes(tol=1e-12, memory_limit="3MB").fit(dump.states(NAMES), Y))
    # X takes 3.2 MB, and 12.8 in the float64 that this tolerance requires.
    assert peak < 3e6 < X.nbytes
    assert got.status_.tolist() == expected.status_.tolist() == ["converged"] * 3
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=0, atol=1e-10)
    lazy = dump.states(NAMES)
    np.testing.assert_allclose(got.decision_function(lazy), expected.decision_function(X), rtol=1e-6, atol=1e-6)


def test_ridge_probes_of_several_arrays_within_a_limit(dump):
    X = dump.features(NAMES)
    targets = X[:, :2].astype(np.float64) ** 2
    expected = RidgeProbes().fit(X, targets)
    got, peak = traced(lambda: RidgeProbes(memory_limit="2MB").fit(dump.states(NAMES), targets))
    assert peak < 2e6 + 8 * 8 * X.shape[1] ** 2
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=0, atol=1e-10)


def test_single_units_of_several_arrays_within_a_limit(dump):
    X = dump.features(NAMES)
    Y = labels(X)[:, :1]
    expected = NeuronProbes().fit(X, Y)
    got, peak = traced(lambda: NeuronProbes(memory_limit="4MB").fit(dump.states(NAMES), Y))
    # Each core has tables of the 65,536 float16 codes; all of X, 3.2 MB, beside them would exceed the limit.
    assert peak < 3e6 + 1e6 * thread_count()
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-12, atol=1e-13, err_msg=name)
