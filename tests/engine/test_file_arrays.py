"""file_arrays.py: NumPy files, safetensors and plain Zarr are mapped where possible, and nothing is unpickled."""

import json
import mmap
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from other_files import ROWS, WRITERS, H, N, write_npz, write_safetensors
from safetensors.torch import save_file

from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import ReadConfig, open_states


def is_mapped(values):
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap.mmap)


def test_npy_is_mapped(tmp_path):
    for name, values in (("c", ROWS), ("fortran", np.asfortranarray(ROWS)), ("big", ROWS.astype(">f4"))):
        np.save(tmp_path / f"{name}.npy", values)
        source = open_states(tmp_path / f"{name}.npy")
        assert source.names == [name] and source.dtype == np.dtype("float32")
        assert np.array_equal(source.features([name]), ROWS)
    assert is_mapped(open_states(tmp_path / "c.npy").array("c")[3:9])


def test_a_stored_member_is_mapped_and_a_compressed_one_is_not(tmp_path):
    for name, mapped in (("stored.npz", True), ("deflated.npz", False)):
        array = open_states(WRITERS[name](tmp_path / name, other=ROWS[:, :1], states=ROWS)).array("states")
        assert is_mapped(array[3:9]) == mapped


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8])
def test_whole_numbers_of_any_size_are_read(tmp_path, dtype):
    arrays = {"h": np.ones((4, 2), np.float16), "tokens": np.array([0, 3, 1, 2], dtype)}
    source = open_states(write_safetensors(tmp_path / "x.safetensors", **arrays))
    assert source.tokens.tolist() == [0, 3, 1, 2]


def test_bfloat16_of_safetensors_is_read_as_float32(tmp_path):
    values = torch.from_numpy(ROWS).bfloat16()
    save_file({"h": values}, tmp_path / "x.safetensors")
    source = open_states(tmp_path / "x.safetensors")
    assert source.dtype == np.float32 and np.array_equal(source.features(["h"]), values.float().numpy())


def test_a_stored_npz_member_is_verified_by_its_checksum(tmp_path):
    many = np.tile(ROWS, (100, 1))
    path = write_npz(tmp_path / "x.npz", h=many, other=2 * many)
    assert open_states(path).verify() == []
    data = bytearray(path.read_bytes())
    data[data.index(many.tobytes()) + many.nbytes - 4] ^= 1
    path.write_bytes(data)
    assert open_states(path).verify() == [f"h does not match its checksum in {path}"]
    assert open_states(path, ReadConfig(arrays=("other",))).verify() == []


def test_unreadable_members_matter_only_if_requested(tmp_path):
    np.savez(tmp_path / "x.npz", h=ROWS, meta=np.array({"a": 1}))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("README.txt", "no array")
    assert open_states(tmp_path / "x.npz").names == ["h"]
    with pytest.raises(InputError, match=r"meta cannot be read: .*Python objects"):
        open_states(tmp_path / "x.npz", ReadConfig(arrays=("meta",)))
    with pytest.raises(InputError, match=r"README.txt cannot be read"):
        open_states(tmp_path / "x.npz", ReadConfig(arrays=("README.txt",)))
    for name in ("sequence_starts", "document_starts", "sequence_ids", "tokens", "chars", "vocabulary"):
        np.savez(tmp_path / "y.npz", h=ROWS, **{name: np.array([{}] * N, dtype=object)})
        with pytest.raises(InputError, match=rf"y\.npz: {name} cannot be read: .*Python objects"):
            open_states(tmp_path / "y.npz")
    small = torch.zeros(N, H).to(torch.float8_e4m3fn)
    save_file({"h": torch.from_numpy(ROWS), "f8": small}, tmp_path / "x.safetensors")
    assert open_states(tmp_path / "x.safetensors").names == ["h"]
    with pytest.raises(InputError, match=r"f8 cannot be read: .*F8_E4M3"):
        open_states(tmp_path / "x.safetensors", ReadConfig(arrays=("f8",)))


def test_blocks_without_rows_are_refused(tmp_path):
    zarr.create_group(tmp_path / "x.zarr").create_array("h", data=ROWS, chunks=(10, ROWS.shape[1]))
    file = tmp_path / "x.zarr" / "h" / "zarr.json"
    document = json.loads(file.read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
    file.write_text(json.dumps(document))
    (problem,) = open_states(tmp_path / "x.zarr").verify()
    assert "cannot be read" in problem


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_states(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "states.npy")
    with pytest.raises(InputError, match="Python objects"):
        open_states(tmp_path / "x.npz")


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("compression", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_pickle_named_like_an_array_is_not_loaded(tmp_path, compression):
    stored = pickle.dumps(Touch(tmp_path / "loaded"))
    path = tmp_path / "x.npy"
    path.write_bytes(stored)
    if compression is not None:
        path = tmp_path / "x.npz"
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("states.npy", stored)
    with pytest.raises(InputError, match=f"{path.name}.*cannot be read"):
        open_states(path)
    assert not (tmp_path / "loaded").exists()
