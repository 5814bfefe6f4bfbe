"""What a dump may hold, and the Zarr group that follows from it."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import zarr
from killing import contents

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import INITIAL_ROWS, DumpSpec, create_skeleton, difference
from gatescope.engine.errors import InputError

SPEC = DumpSpec(
    arrays={"layer0/h": 3, "layer0/gates/i": 3, "layer1/h": 4, "layer1/c": 4},
    sequence_starts=np.array([0, 5, 9], dtype=np.int64),
    document_starts=np.array([0, 9], dtype=np.int64),
    initial=("h", "c"),
    token_dtype=np.dtype(np.uint8),
    dtype=np.dtype(np.float16),
    attributes={"vocabulary": ["a", "b"], "lengths": (1, 2), "names": {1: None}},
    block_rows=4,
)


def starts(*values):
    return np.array(values, dtype=np.int64)


def test_a_spec_gives_its_sizes_and_initial_arrays():
    assert (SPEC.n_rows, SPEC.n_sequences) == (9, 2)
    assert SPEC.initial_arrays == ["layer0/h", "layer1/h", "layer1/c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {}}, "the dump has no arrays"),
        ({"arrays": {"h": 3}}, "array 'h' has an invalid name"),
        ({"arrays": {"layer0/../h": 3}}, "has an invalid name"),
        ({"arrays": {"layer0/h\n": 3}}, "has an invalid name"),
        ({"arrays": {"layer0/h": 3, "layer0/h/x": 3}}, "array 'layer0/h' has an invalid name"),
        ({"arrays": {"layer0/h": 0}}, "layer0/h has 0 units"),
        ({"arrays": {"layer0/h": 3, "layer0/c": 4}}, "layer0/c has 4 units: expected one width"),
        ({"dtype": np.dtype(np.float64)}, "states in float64: expected float16 or float32"),
        ({"token_dtype": np.dtype(np.int64)}, "tokens in int64"),
        ({"block_rows": 0}, "blocks of 0 rows"),
        ({"sequence_starts": starts(0)}, "sequence_starts must be int64 and increase"),
        ({"sequence_starts": starts(1, 9)}, "sequence_starts must"),
        ({"sequence_starts": starts(0, 5, 5, 9)}, "sequence_starts must"),
        ({"sequence_starts": starts(0, 5, 9).astype(np.int32)}, "sequence_starts must"),
        ({"sequence_starts": starts(0, 5, 9)[:, None]}, "sequence_starts must"),
        ({"document_starts": starts(0, 4, 9)}, "document_starts must be starts of sequences"),
        ({"document_starts": starts(0, 5)}, "document_starts must be starts of sequences"),
        ({"attributes": {}}, "vocabulary"),
        ({"attributes": {"vocabulary": ["ab", ""]}}, "vocabulary"),
        ({"attributes": {"vocabulary": "ab"}}, "vocabulary"),
        ({"attributes": {"vocabulary": []}}, "vocabulary of 0 entries"),
        ({"attributes": {"vocabulary": [chr(c) for c in range(257)]}}, "257 entries does not fit tokens of uint8"),
        ({"attributes": {"vocabulary": ["a"], "gatescope": 1}}, "reserved"),
        ({"attributes": {"vocabulary": ["a"], "alignment": "pre"}}, "alignment is 'post'"),
        ({"attributes": {"vocabulary": ["a"], "seed": np.int64(1)}}, "must be JSON values: Object of type int64"),
        ({"attributes": {"vocabulary": ["a"], "loss": float("nan")}}, "must be JSON values"),
    ],
)
def test_invalid_specs_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(SPEC, **change)


def test_a_full_vocabulary_fits():
    assert replace(SPEC, attributes={"vocabulary": [chr(c) for c in range(256)]}).n_rows == 9


def test_a_skeleton_has_the_described_arrays(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_skeleton(tmp_path / "dump", SPEC)
    group = zarr.open_group(tmp_path / "dump", mode="r")
    arrays = {name: array for name, array in group.members(max_depth=None) if isinstance(array, zarr.Array)}
    described = {
        name: (array.shape, array.chunks, str(array.dtype), array.metadata.to_dict()["dimension_names"])
        for name, array in arrays.items()
    }
    assert described == {
        "tokens": ((9,), (4,), "uint8", ("row",)),
        "layer0/h": ((9, 3), (4, 3), "float16", ("row", "unit")),
        "layer0/gates/i": ((9, 3), (4, 3), "float16", ("row", "unit")),
        "layer1/h": ((9, 4), (4, 4), "float16", ("row", "unit")),
        "layer1/c": ((9, 4), (4, 4), "float16", ("row", "unit")),
        "initial/layer0/h": ((2, 3), (2, 3), "float16", ("sequence", "unit")),
        "initial/layer1/h": ((2, 4), (2, 4), "float16", ("sequence", "unit")),
        "initial/layer1/c": ((2, 4), (2, 4), "float16", ("sequence", "unit")),
        "sequence_starts": ((3,), (3,), "int64", ("sequence_bound",)),
        "document_starts": ((2,), (2,), "int64", ("document_bound",)),
    }
    assert np.asarray(arrays["sequence_starts"]).tolist() == [0, 5, 9]
    assert np.asarray(arrays["document_starts"]).tolist() == [0, 9]
    # A row that was never written must not look like a state.
    assert np.isnan(arrays["layer0/h"][:]).all()
    assert group.attrs["lengths"] == [1, 2] and group.attrs["names"] == {"1": None}
    assert json.loads((tmp_path / "dump" / "zarr.json").read_text())["attributes"]["gatescope"]["rows_committed"] == 0


def test_the_group_metadata_equals_what_zarr_would_write(tmp_path):
    create_skeleton(tmp_path / "dump", SPEC)
    file = tmp_path / "dump" / "zarr.json"
    ours = file.read_bytes()
    with warnings.catch_warnings():
        # The warning is that the specification does not define consolidated metadata yet.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(tmp_path / "dump")
    assert file.read_bytes() == ours


def test_a_dump_is_the_same_without_assertions(tmp_path):
    create_skeleton(tmp_path / "dump", SPEC)
    script = (
        "import pathlib\nfrom numpy import array, dtype\n"
        "from gatescope.engine.dump import StateDump\n"
        "from gatescope.engine.dump_spec import DumpSpec, create_skeleton\n"
        f"create_skeleton(pathlib.Path('other'), {SPEC!r})\n"
        "print(StateDump.open('other', finished=False).sequence_starts.tolist())"
    )
    done = subprocess.run([sys.executable, "-O", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "other") == contents(tmp_path / "dump")
    assert json.loads(done.stdout) == SPEC.sequence_starts.tolist()


def test_many_sequences_share_blocks(tmp_path):
    bounds = np.arange(1001, dtype=np.int64)
    create_skeleton(tmp_path / "dump", replace(SPEC, sequence_starts=bounds, document_starts=bounds))
    assert zarr.open_array(tmp_path / "dump" / "initial/layer1/c", mode="r").chunks == (INITIAL_ROWS, 4)


def test_equal_specs_have_no_difference(tmp_path):
    create_skeleton(tmp_path / "dump", SPEC)
    dump = StateDump.open(tmp_path / "dump", finished=False)
    assert difference(dump, SPEC) is None
    longer = replace(SPEC, document_starts=starts(0, 5, 9))
    assert difference(dump, longer) == "document_starts is [0, 9] there and [0, 5, 9] now"
    other = replace(SPEC, attributes={**SPEC.attributes, "lengths": [1, 2, 3], "prime": "x" * 99})
    assert difference(dump, other) == "lengths is [1, 2] there and [1, 2, 3] now"
    more = replace(SPEC, attributes={**SPEC.attributes, "prime": "x" * 99})
    assert difference(dump, more) == f"prime is unset there and '{'x' * 56}... now"
    names = {**SPEC.attributes, "names": {}}
    assert difference(dump, replace(SPEC, attributes=names)) == "names.1 is None there and unset now"
