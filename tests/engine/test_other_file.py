"""Other programs' states are passed to other processes as a location alone, and close their file."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import ReadConfig, open_states

VALUES = np.random.default_rng(0).normal(size=(9_000, 4)).astype(np.float32)
NAMES = ["x.npy", "x.npz", "packed.npz", "x.h5", "x.safetensors", "x.zarr"]
# Far fewer bytes than the values take.
MOST = 4_000


def write(path):
    if path.name == "x.npy":
        np.save(path, VALUES)
    elif path.suffix == ".npz":
        (np.savez if path.name == "x.npz" else np.savez_compressed)(path, x=VALUES)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["x"] = VALUES
    elif path.suffix == ".safetensors":
        save_file({"x": torch.from_numpy(VALUES)}, path)
    else:
        zarr.save_group(path, x=VALUES)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_pickled_by_its_path(tmp_path, name):
    source = open_states(write(tmp_path / name), ReadConfig(sequence_length=90))
    assert np.array_equal(source.array("x")[3:9], VALUES[3:9])
    for each in (source.array("x"), source.states(["x"]), source.of_sequences(["x"], range(100))):
        stored = pickle.dumps(each)
        assert len(stored) < MOST and np.array_equal(np.asarray(pickle.loads(stored)), VALUES)
    stored = pickle.dumps(source)
    again = pickle.loads(stored)
    assert len(stored) < MOST and np.array_equal(again.features(["x"]), VALUES)
    assert (again.name, again.names) == (source.name, source.names)
    assert np.array_equal(again.sequence_starts, source.sequence_starts)


def test_given_sequences_are_pickled_along(tmp_path):
    ids = np.repeat([5, 3], [4_000, 5_000])
    source = open_states(write(tmp_path / "x.h5"), sequence_ids=ids)
    assert pickle.loads(pickle.dumps(source)).sequence_starts.tolist() == [0, 4_000, 9_000]


def test_a_spawned_process_opens_the_file_itself(tmp_path):
    arrays = [open_states(write(tmp_path / name)).array("x") for name in NAMES]
    for array in arrays:
        array[0:5]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for values in pool.map(np.asarray, arrays):
            assert np.array_equal(values, VALUES)


def test_pickling_an_array_omits_its_cached_block(tmp_path, small_dump):
    array = StateDump.open(small_dump(tmp_path / "states.zarr")).array("layer0/h")
    before = len(pickle.dumps(array))
    values = array[0:3].copy()
    stored = pickle.dumps(array)
    assert len(stored) == before and np.array_equal(pickle.loads(stored)[0:3], values)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_closed(tmp_path, name):
    path = write(tmp_path / name)
    with open_states(path) as source:
        array = source.array("x")
        assert array.shape == VALUES.shape
    with pytest.raises(InputError, match=f"{name} is closed: open it again"):
        array[0:3]
    source.close()
    if name == "x.h5":
        # HDF5 refuses to write a file that is open.
        with h5py.File(path, "w") as file:
            file["x"] = -VALUES
        assert np.array_equal(open_states(path).features(["x"]), -VALUES)
