"""The rows of benchmarks/: every listed shape and dtype of every cell, beside every form of the peer."""

import importlib

import pytest
from recurrent import ON_GPU, SIDE_BY_SIDE

PEERS = ("cudnn", "cudnn-stacked", "torch-loop")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_shape_on_a_gpu(cell):
    rows = {row.values for row in importlib.import_module(f"bench_{cell}").ROWS}
    for shape in ON_GPU:
        for dtype in ("float16", "bfloat16"):
            for graph in (False, True):
                for impl in ("gatescope", "gatescope-capture", *PEERS[: 3 if dtype == "float16" else 2]):
                    assert ("cuda", shape, dtype, impl, graph) in rows
            for impl in SIDE_BY_SIDE:
                assert (("cuda", shape, dtype, impl, True) in rows) == (shape[3] > 1)


def test_the_training_iteration():
    import bench_train

    rows = [row.values for row in bench_train.ROWS]
    assert ("cuda", (128, 200, 512, 3), "bfloat16", "gatescope") in rows
    taker, ours = bench_train.taker_of("cpu", (2, 5, 8, 2), "float32", "torch")
    bench_train.assert_same_logits(taker.model, ours, "cpu")
    before = [parameter.detach().clone() for parameter in taker.model.parameters()]
    taker.take(0, 1e-3)
    assert taker.model.rnn.__class__.__module__.startswith("torch") and taker.model.training
    assert all((a != b).any() for a, b in zip(before, taker.model.parameters(), strict=True))
