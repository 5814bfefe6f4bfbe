"""Reading and writing a state dump, compared with numpy.memmap, zarr-python and h5py.

The files read are in the operating system's cache, and opening them is timed too. Writing starts from float32 states,
which torch rounds for all sides, since NumPy and HDF5 are slow at it, and ends when the bytes are on the disk: `fsync`
runs after every block, except in the row that says otherwise.
"""

import os

import h5py
import numpy as np
import pytest
import torch
import zarr

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.files import remove

N, H, BLOCK = 131_072, 512, 8192
NAMES = ["layer0/h", "layer0/c"]


@pytest.fixture(scope="module")
def states():
    return {name: np.random.default_rng(layer).random((N, H), dtype=np.float32) for layer, name in enumerate(NAMES)}


def half(values):
    return torch.from_numpy(values).half().numpy()


def write_gatescope(path, states):
    spec = DumpSpec(
        arrays=dict.fromkeys(NAMES, H),
        sequence_starts=np.array([0, N], dtype=np.int64),
        document_starts=np.array([0, N], dtype=np.int64),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": ["a"]},
        block_rows=BLOCK,
    )
    with DumpWriter(path, spec) as writer:
        for start in range(0, N, BLOCK):
            rows = slice(start, start + BLOCK)
            writer.append(start, np.zeros(BLOCK, np.uint8), {name: values[rows] for name, values in states.items()})


def write_h5py(path, states, sync=True):
    with h5py.File(path, "w") as file:
        arrays = {name: file.create_dataset(name, (N, H), np.float16, chunks=(BLOCK, H)) for name in states}
        for start in range(0, N, BLOCK):
            for name, array in arrays.items():
                array[start : start + BLOCK] = half(states[name][start : start + BLOCK])
            file.flush()
            if sync:
                os.fsync(file.id.get_vfd_handle())


def write_h5py_unsynced(path, states):
    write_h5py(path, states, sync=False)


def write_zarr(path, states):
    group = zarr.create_group(path, overwrite=True)
    for name, values in states.items():
        array = group.create_array(
            name, shape=(N, H), chunks=(BLOCK, H), dtype=np.float16, compressors=None, fill_value=np.nan
        )
        for index, start in enumerate(range(0, N, BLOCK)):
            array[start : start + BLOCK] = half(values[start : start + BLOCK])
            with open(path / name / "c" / str(index) / "0") as file:
                os.fsync(file.fileno())


def write_memmap(path, states):
    path.mkdir(exist_ok=True)
    arrays = {name: np.memmap(path / name.replace("/", "."), np.float16, "w+", shape=(N, H)) for name in states}
    for start in range(0, N, BLOCK):
        for name, array in arrays.items():
            array[start : start + BLOCK] = half(states[name][start : start + BLOCK])
            array.flush()


WRITERS = {
    "gatescope": write_gatescope,
    "h5py": write_h5py,
    "h5py-unsynced": write_h5py_unsynced,
    "zarr": write_zarr,
    "numpy.memmap": write_memmap,
}


def read_gatescope(path, out):
    for index, block in enumerate(StateDump.open(path)["h"][0].blocks()):
        out[index * BLOCK : (index + 1) * BLOCK] = block


def read_gatescope_into(path, out):
    StateDump.open(path)["h"][0].read_into(out, 0)


def read_memmap(path, out):
    array = np.memmap(path / "layer0.h", np.float16, "r", shape=(N, H))
    for start in range(0, N, BLOCK):
        out[start : start + BLOCK] = array[start : start + BLOCK]


def read_zarr(path, out):
    array = zarr.open_array(path / "layer0/h", mode="r")
    for start in range(0, N, BLOCK):
        out[start : start + BLOCK] = array[start : start + BLOCK]


def read_h5py(path, out):
    with h5py.File(path) as file:
        for start in range(0, N, BLOCK):
            file["layer0/h"].read_direct(out, np.s_[start : start + BLOCK], np.s_[start : start + BLOCK])


READERS = {
    "gatescope": ("gatescope", read_gatescope),
    "gatescope-read-into": ("gatescope", read_gatescope_into),
    "zarr-of-our-dump": ("gatescope", read_zarr),
    "zarr": ("zarr", read_zarr),
    "numpy.memmap": ("numpy.memmap", read_memmap),
    "h5py": ("h5py", read_h5py),
}


@pytest.fixture(scope="module")
def written(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for name, write in WRITERS.items():
        write(folder / name, states)
    return folder


def note(benchmark, n_bytes, **facts):
    median = benchmark.stats.stats.median
    versions = {module.__name__: module.__version__ for module in (np, zarr, h5py)}
    benchmark.extra_info.update(
        rows=N,
        units=H,
        dtype="float16",
        bytes=n_bytes,
        gigabytes_per_second=n_bytes / median / 1e9,
        **facts,
        **versions,
    )


@pytest.mark.benchmark(group="dump read, 131072 x 512 float16")
@pytest.mark.parametrize("impl", READERS)
def test_read(benchmark, written, states, impl):
    source, read = READERS[impl]
    out = np.zeros((N, H), np.float16)
    read(written / source, out)
    assert np.array_equal(out, states["layer0/h"].astype(np.float16))
    benchmark.pedantic(read, args=(written / source, out), rounds=9, warmup_rounds=1)
    note(benchmark, out.nbytes)


@pytest.mark.benchmark(group="dump read, 32 of 512 units")
@pytest.mark.parametrize("impl", ["gatescope", "numpy.memmap"])
def test_read_columns(benchmark, written, states, impl):
    columns = np.arange(7, H, 16)
    out = np.zeros((N, len(columns)), np.float16)

    def read():
        if impl == "gatescope":
            pieces = (block[:, columns] for block in StateDump.open(written / impl)["h"][0].blocks())
        else:
            array = np.memmap(written / impl / "layer0.h", np.float16, "r", shape=(N, H))
            pieces = (array[start : start + BLOCK, columns] for start in range(0, N, BLOCK))
        for index, piece in enumerate(pieces):
            out[index * BLOCK : (index + 1) * BLOCK] = piece

    read()
    assert np.array_equal(out, states["layer0/h"][:, columns].astype(np.float16))
    benchmark.pedantic(read, rounds=9, warmup_rounds=1)
    note(benchmark, out.nbytes)


@pytest.mark.benchmark(group="dump verify")
def test_verify(benchmark, written):
    dump = StateDump.open(written / "gatescope")
    assert benchmark.pedantic(dump.verify, rounds=5, warmup_rounds=1) == []
    note(benchmark, 2 * N * H * 2)


@pytest.mark.benchmark(group="dump write, two arrays of 131072 x 512 float16")
@pytest.mark.parametrize("impl", WRITERS)
def test_write(benchmark, states, tmp_path, impl):
    write = WRITERS[impl]

    def setup():
        # All start with nothing there, and with an idle disk.
        remove(tmp_path / "dump")
        os.sync()

    benchmark.pedantic(write, args=(tmp_path / "dump", states), setup=setup, rounds=5, warmup_rounds=1)
    note(benchmark, 2 * N * H * 2, synced=not impl.endswith("unsynced"))
