"""The rows of benchmarks/: every listed shape and dtype of every cell, with every form of the peer."""

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tables
from recurrent import SCHEDULES
from recurrent_rows import ON_GPU

REPOSITORY = Path(__file__).parents[1]
LISTED = [shape for shape in ON_GPU if shape != (128, 200, 512, 1)]


def rows_of(cell):
    rows = [row.values for row in importlib.import_module(f"bench_{cell}").ROWS]
    assert len(set(rows)) == len(rows)
    return set(rows)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_listed_shape_has_gpu_rows(cell):
    rows = rows_of(cell)
    for shape in LISTED:
        for graph in (False, True):
            for impl in ("gatescope", "cudnn"):
                assert ("cuda", shape, "float16", impl, graph) in rows
        assert ("cuda", shape, "float16", "torch-loop", True) in rows
        # A single layer of up to 128 rows is one call of cuDNN, stacked or not.
        stacked = ("cuda", shape, "float16", "cudnn-stacked", True)
        assert (stacked in rows) == (shape[0] > 128 or shape[3] > 1)
    for shape in ON_GPU:
        for impl in ("gatescope", "cudnn"):
            assert ("cuda", shape, "float16", impl, True) in rows and ("cuda", shape, "bfloat16", impl, True) in rows
    assert ("cuda", ON_GPU[0], "float16", "gatescope-capture", True) in rows


def test_rnn_rows_compare_gatescope_with_cudnn():
    assert rows_of("rnn") >= {
        ("cuda", shape, "float16", impl, True) for shape in LISTED for impl in ("gatescope", "cudnn")
    }


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_all_schedules_of_a_shape_are_measured(cell):
    rows = rows_of(cell)
    for shape in ON_GPU:
        found = {impl for impl in SCHEDULES if ("cuda", shape, "float16", impl, True) in rows}
        assert found in (set(), set(SCHEDULES)) and (shape[3] > 1 or not found)
    assert ("cuda", ON_GPU[0], "float16", "gatescope-wavefront", True) in rows


def test_an_interrupted_run_keeps_its_rows(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("kept_rows", REPOSITORY / "benchmarks" / "conftest.py")
    kept = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kept)
    monkeypatch.setattr(kept, "RESULTS", tmp_path)
    for name, seconds in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        stats = SimpleNamespace(data=[seconds], rounds=1)
        kept.keep([SimpleNamespace(fullname=f"benchmarks/x.py::{name}", group="g", extra_info={}, stats=stats)])
        (path,) = tmp_path.iterdir()
        rows = {row["name"]: row["median_s"] for row in json.loads(path.read_text())["rows"]}
        assert rows[f"x.py::{name}"] == seconds
    assert rows == {"x.py::a": 3.0, "x.py::b": 2.0}


def test_ratios_compare_rows_of_the_same_kind():
    kinds = [("float16", True), ("bfloat16", True), ("float16", False)]
    rows = [
        {"name": "x.py::t", "impl": impl, "dtype": dtype, "graph": graph, "median_s": n + scale, "p20_s": 1, "p80_s": 1}
        for n, (dtype, graph) in enumerate(kinds, 1)
        for impl, scale in (("gatescope", 0), ("cudnn", n), ("gatescope, other", 4), ("torch-loop, other", 8 + n))
    ]
    ratios = [line.split(" | ")[3] for line in tables.table("group", rows).splitlines()[4:]]
    assert ratios == ["1.00", "2.00", "1.00", "2.00", "1.00", "2.00", "1.00", "2.00", "1.00", "2.00", "1.00", "2.00"]


def test_the_readme_tables_match_the_results():
    assert tables.page() == tables.README.read_text()


def test_the_training_benchmark_compares_equal_models():
    import bench_train

    rows = [row.values for row in bench_train.ROWS]
    assert ("cuda", (128, 200, 512, 3), "bfloat16", "gatescope") in rows
    taker, ours = bench_train.taker_of("cpu", (2, 5, 8, 2), "float32", "torch")
    bench_train.assert_same_logits(taker.model, ours, "cpu")
    before = [parameter.detach().clone() for parameter in taker.model.parameters()]
    taker.take(0, 1e-3)
    assert taker.model.rnn.__class__.__module__.startswith("torch") and taker.model.training
    assert all((a != b).any() for a, b in zip(before, taker.model.parameters(), strict=True))
