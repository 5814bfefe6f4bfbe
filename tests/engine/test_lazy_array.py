"""Lazy arrays answer as NumPy's do, or refuse what they do not support in one line."""

import numpy as np
import pytest
import torch

from gatescope.engine.dump import StateDump

KINDS = ["array", "columns", "sequences", "tokens"]


@pytest.fixture(params=KINDS)
def array(request, tmp_path, small_dump):
    dump = StateDump.open(small_dump(tmp_path / "states.zarr"))
    return {
        "array": lambda: dump.array("layer0/h"),
        "columns": lambda: dump.states(["layer0/h", "layer0/c"], [1, 0]),
        "sequences": lambda: dump.of_sequences(["layer0/h"], [1, 0], "pre"),
        "tokens": lambda: dump.stored("tokens"),
    }[request.param]()


KEYS = [(), (5,), (5, ...), (...,), (slice(2, 9), ...), ([3, 1],), ([],)]
KEYS_OF_TWO = [
    (..., slice(None), 0),
    (..., 0),
    (3, ..., 1),
    (slice(None), []),
    (3, []),
    (slice(4), ..., [1]),
]


@pytest.mark.parametrize("key", KEYS + KEYS_OF_TWO, ids=str)
def test_keys_select_as_in_numpy(array, key):
    if array.ndim == 1 and (key in KEYS_OF_TWO):
        pytest.skip("one value per row")
    whole = np.asarray(array)
    expected = whole[tuple(np.array(part, int) if part == [] else part for part in key)]
    assert np.shape(array[key]) == expected.shape and np.array_equal(array[key], expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((slice(None), None), "takes no new axis"),
        ((..., None), "takes no new axis"),
        (None, "takes no new axis"),
        ((0, 0, 0), "takes rows, columns and one"),
        ((..., 0, ...), "takes rows, columns and one"),
    ],
)
def test_other_keys_are_refused_in_one_line(array, key, message):
    with pytest.raises(IndexError, match=message) as raised:
        array[key]
    assert "\n" not in str(raised.value)


def test_columns_have_one_dimension(array):
    if array.ndim == 2:
        for rows in (slice(None), [0, 1]):
            with pytest.raises(IndexError, match="columns are a slice, integers or a mask"):
                array[rows, [[0, 1]]]


def test_sizes_equal_those_of_numpy(array):
    whole = np.asarray(array)
    assert (array.size, array.nbytes, array.ndim) == (whole.size, whole.nbytes, whole.ndim)


@pytest.mark.parametrize("convert", [torch.as_tensor, torch.tensor, torch.from_dlpack])
def test_torch_reads_all_rows_at_once(array, convert, monkeypatch):
    whole = np.asarray(array)
    monkeypatch.setattr(type(array), "__getitem__", None)
    values = convert(array)
    assert values.dtype == torch.from_numpy(whole).dtype and np.array_equal(values.numpy(), whole)
