"""Rows on their way into a dump: rounding, order, and the bytes of a block."""

import numpy as np
import pytest
import torch

from gatescope.engine.block_file import sealed
from gatescope.engine.block_table import BlockTable
from gatescope.engine.errors import InputError

F16, F32, U8 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.uint8)


def table(path, dtype=F16, n_rows=10, block_rows=4, received=0):
    return BlockTable(path, {"tokens": ((), U8), "h": ((3,), dtype)}, n_rows, block_rows, received)


def rows(n, values=None):
    tokens = np.arange(n, dtype=np.int64)
    return {"tokens": tokens, "h": np.outer(tokens, [1.0, 10.0, 0.1]).astype(np.float32) if values is None else values}


def test_blocks_are_released_when_full(tmp_path):
    blocks = table(tmp_path)
    data = rows(10)
    files = [
        *blocks.fill(0, {k: v[:3] for k, v in data.items()}),
        *blocks.fill(1, {k: v[1:10] for k, v in data.items()}),
    ]
    assert [sorted(path.relative_to(tmp_path).as_posix() for path in block) for block in files] == [
        ["h/c.0.0", "tokens/c.0"],
        ["h/c.1.0", "tokens/c.1"],
    ]
    for index, block in enumerate(files):
        part = slice(4 * index, 4 * index + 4)
        assert bytes(block[tmp_path / f"h/c.{index}.0"][:-4]) == data["h"][part].astype(F16).tobytes()
        assert bytes(block[tmp_path / f"tokens/c.{index}"][:-4]) == data["tokens"][part].astype(U8).tobytes()
    assert blocks.received == 10
    last = blocks.partial()
    padded = np.vstack([data["h"][8:].astype(F16), np.full((2, 3), np.nan, F16)])
    assert bytes(last[tmp_path / "h/c.2.0"][:-4]) == padded.tobytes()
    assert bytes(last[tmp_path / "tokens/c.2"][:-4]) == bytes([8, 9, 0, 0])
    assert blocks.partial() == {}


def test_released_blocks_do_not_change(tmp_path):
    blocks = table(tmp_path)
    data = rows(4)
    list(blocks.fill(0, {name: values[:1] for name, values in data.items()}))
    partial = blocks.partial()
    early = {file: bytes(block) for file, block in partial.items()}
    list(blocks.fill(1, {name: values[1:] for name, values in data.items()}))
    assert {file: bytes(block) for file, block in partial.items()} == early


@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", [F16, F32])
def test_any_dtype_is_rounded_to_nearest(tmp_path, source, dtype):
    values = np.random.default_rng(3).normal(size=(4, 3)) * 100
    given = torch.from_numpy(values).to(source) if isinstance(source, torch.dtype) else values.astype(source)
    (files,) = table(tmp_path, dtype).fill(0, rows(4, given))
    exact = given.double().numpy() if isinstance(given, torch.Tensor) else given.astype(np.float64)
    assert bytes(files[tmp_path / "h/c.0.0"][:-4]) == exact.astype(dtype).tobytes()


@pytest.mark.parametrize(
    "view",
    [
        lambda values: values[:, ::-1],
        lambda values: np.asfortranarray(values),
        lambda values: np.lib.stride_tricks.as_strided(values, writeable=False),
    ],
    ids=["reversed", "columns first", "read-only"],
)
@pytest.mark.filterwarnings("error")
def test_any_memory_layout_is_accepted(tmp_path, view):
    values = view(np.random.default_rng(3).normal(size=(4, 3)))
    (files,) = table(tmp_path).fill(0, rows(4, values))
    assert bytes(files[tmp_path / "h/c.0.0"][:-4]) == values.astype(F16).tobytes()


@pytest.mark.parametrize(
    ("value", "dtype", "source", "message"),
    [
        (65519.0, F16, np.float32, None),
        (
            65520.0,
            F16,
            np.float32,
            r"h: 65520 at row 5, unit 1 is beyond float16 \(at most 65504\): use --dtype float32",
        ),
        (-1e39, F32, np.float64, r"h: -1e\+39 at row 5, unit 1 is beyond float32 \(at most 3.40282e\+38\)"),
        (np.nan, F32, np.float32, "h: nan at row 5, unit 1: expected finite states"),
        (np.inf, F16, np.float32, "h: inf at row 5, unit 1: expected finite states"),
        (np.inf, F16, np.float16, "h: inf at row 5, unit 1 is beyond float16"),
    ],
)
def test_states_beyond_the_dtype_are_refused(tmp_path, value, dtype, source, message):
    values = np.ones((9, 3), source)
    values[5, 1] = value
    for given in (values, torch.from_numpy(values)):
        blocks = table(tmp_path, dtype)
        if message is None:
            assert len(list(blocks.fill(0, rows(9, given)))) == 2
            continue
        with pytest.raises(InputError, match=message):
            list(blocks.fill(0, rows(9, given)))
        assert blocks.received == 4


def test_resumes_in_the_block_where_it_stopped(tmp_path):
    first = table(tmp_path)
    data = rows(6)
    for files in [*first.fill(0, data), first.partial()]:
        for file, block in files.items():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(sealed(block))
    second = table(tmp_path, received=6)
    (files,) = second.fill(6, {name: values[:2] for name, values in data.items()})
    assert bytes(files[tmp_path / "tokens/c.1"][:-4]) == bytes([4, 5, 0, 1])
    (tmp_path / "tokens" / "c.1").unlink()
    with pytest.raises(InputError, match=r"tokens/c.1 is missing or damaged"):
        table(tmp_path, received=6)
