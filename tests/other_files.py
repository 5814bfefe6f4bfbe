"""Files of states as other programs write them."""

import h5py
import numpy as np
import torch
import zarr
from safetensors.torch import save_file

T, B, H = 40, 3, 5
N = T * B
RANDOM = np.random.default_rng(0)
CUBE = RANDOM.normal(size=(T, B, H)).astype(np.float32)
ROWS = CUBE.swapaxes(0, 1).reshape(N, H)  # sequence by sequence
STARTS = np.arange(0, N + 1, T)


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def write_zarr(path, **arrays):
    group = zarr.create_group(path)
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values), chunks=(7, *np.shape(values)[1:]))
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def write_compressed(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def write_safetensors(path, **arrays):
    save_file({name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}, path)
    return path


WRITERS = {
    "stored.npz": write_npz,
    "deflated.npz": write_compressed,
    "file.h5": write_h5,
    "file.hdf5": write_h5,
    "file.safetensors": write_safetensors,
    "file.zarr": write_zarr,
}
