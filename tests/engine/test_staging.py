"""Rows that wait in files."""

import numpy as np
import pytest
import torch

from gatescope.engine import staging
from gatescope.engine.staging import Staging

N, H = 100, 3
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 70_000, N)
STATES = {
    "layer0/h": torch.from_numpy(RANDOM.normal(size=(N, H)).astype(np.float16)),
    "layer1/h": torch.from_numpy(RANDOM.normal(size=(N, 1)).astype(np.float16)),
}


def put(rows, first, behind):
    rows.put(TOKENS[first:behind], {name: values[first:behind] for name, values in STATES.items()})


def staged(folder):
    rows = Staging(folder, {"layer0/h": H, "layer1/h": 1}, np.dtype(np.float16))
    for first, behind in ((0, 7), (7, 7), (7, 60)):
        put(rows, first, behind)
    return rows


def assert_taken(rows, starts, lengths):
    pieces = list(rows.take(np.array(starts), np.array(lengths)))
    assert all(len(tokens) <= staging.CHUNK_ROWS for tokens, _ in pieces)
    order = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    assert np.array_equal(np.concatenate([tokens for tokens, _ in pieces]), TOKENS[order])
    for name, values in STATES.items():
        assert np.array_equal(np.concatenate([states[name] for _, states in pieces]), values[order].numpy())


@pytest.mark.parametrize("chunk", [1, 10, 8192])
def test_rows_come_back_in_any_order(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(staging, "CHUNK_ROWS", chunk)
    rows = staged(tmp_path)
    put(rows, 60, N)
    assert rows.n_rows == N
    assert_taken(rows, [0], [N])
    assert_taken(rows, [50, 0, 3, 20, 99], [30, 3, 0, 30, 1])


def test_half_written_rows_do_not_count(tmp_path, monkeypatch):
    rows = staged(tmp_path)
    with pytest.raises(KeyError):
        rows.put(TOKENS[:9], {"layer0/h": STATES["layer0/h"][:9]})
    put(rows, 60, N)
    assert_taken(rows, [0], [N])
