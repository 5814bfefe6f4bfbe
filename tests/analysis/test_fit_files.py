"""Fits stored until their probe is complete."""

import numpy as np
import pytest
from safetensors.numpy import save

from gatescope.analysis.fit_files import holds_fit, load_fit, save_fit
from gatescope.engine.errors import InputError

FIT = (
    [{"hypothesis": "a", "f1": 0.25, "r2": None, "top_units": [{"states": "h", "unit": 3, "coefficient": 1 / 3}]}],
    {"coefficient": np.arange(6.0).reshape(2, 3).T, "intercept": np.array([np.nan, np.inf])},
    [{"hypothesis": "a", "text": "x\n", "prediction": [0.1, None], "unit": {"states": "h", "unit": 3}}],
)


def test_a_saved_fit_loads_unchanged(tmp_path):
    path = tmp_path / "fits" / "0.safetensors"
    assert not holds_fit(path, ["a"])
    save_fit(path, FIT)
    assert holds_fit(path, ["a"]) and not holds_fit(path, ["a", "b"])
    records, weights, painted = load_fit(path)
    assert (records, painted) == (FIT[0], FIT[2]) and weights.keys() == FIT[1].keys()
    for name, values in FIT[1].items():
        np.testing.assert_array_equal(weights[name], values)


NESTED = save({"a": np.zeros(1)}, {"gatescope": "[" * 100_000})


@pytest.mark.parametrize("content", [b"", b"xyz", b"\xff" * 40, NESTED], ids=["empty", "short", "long", "nested"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "0.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"0\.safetensors is damaged.*--overwrite"):
        holds_fit(tmp_path / "0.safetensors", ["a"])


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "0.safetensors").mkdir()
    for read in (lambda path: holds_fit(path, ["a"]), load_fit):
        with pytest.raises(InputError, match=r"0\.safetensors is damaged.*--overwrite"):
            read(tmp_path / "0.safetensors")
