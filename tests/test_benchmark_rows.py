"""The rows of benchmarks/: every listed shape and dtype of every cell, with every form of the peer."""

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tables
import torch
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


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """benchmarks/conftest.py, which keeps its rows in an empty folder."""
    spec = importlib.util.spec_from_file_location("kept_rows", REPOSITORY / "benchmarks" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def keep(kept, name, seconds):
    stats = SimpleNamespace(data=[seconds], rounds=1)
    kept.keep([SimpleNamespace(fullname=f"benchmarks/{name}", group="g", extra_info={}, stats=stats)])


def test_an_interrupted_run_keeps_its_rows(kept, tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        keep(kept, f"x.py::{name}", seconds)
        (path,) = tmp_path.iterdir()
        rows = {row["name"]: row["median_s"] for row in json.loads(path.read_text())["rows"]}
        assert rows[f"x.py::{name}"] == seconds
    assert rows == {"x.py::a": 3.0, "x.py::b": 2.0}


def test_rows_of_different_processors_are_never_in_one_file(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names = {
        "AMD EPYC (family 26, model 2)": "cpu-amd-epyc-26-2",
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz (family 6, model 143)": (
            "cpu-intel-xeon-platinum-8481c-cpu-2-70ghz-6-143"
        ),
        "aarch64": "cpu-aarch64",
    }
    for processor, name in names.items():
        monkeypatch.setattr(kept, "processor", lambda processor=processor: processor)
        keep(kept, "x.py::a", 1.0)
        contents = json.loads((tmp_path / f"{name}.json").read_text())
        assert contents["device"] == name and contents["processor"].startswith(f"{processor}, ")
    assert len(list(tmp_path.iterdir())) == len(names)


def test_a_run_on_a_gpu_continues_where_the_last_one_ended(kept, monkeypatch):
    """Rows of one table are timed one after another, and a row that fails does not come first again."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    names = [f"x.py::t[B{b}-H8-{impl}]" for b in (1, 2, 3) for impl in ("ours", "theirs")]
    config = SimpleNamespace(getoption={"benchmark_only": True}.get)

    def order():
        items = [SimpleNamespace(nodeid=f"benchmarks/{name}") for name in names]
        kept.pytest_collection_modifyitems(config, items)
        return [names.index(item.nodeid.removeprefix("benchmarks/")) for item in items]

    assert order() == [0, 1, 2, 3, 4, 5]
    times = iter(("2026-01-02", "2026-01-03", "2026-01-04"))
    monkeypatch.setattr(kept, "now", lambda: next(times))
    keep(kept, names[0], 1.0)
    assert order() == [2, 3, 4, 5, 0, 1]
    keep(kept, names[3], 1.0)
    assert order() == [4, 5, 0, 1, 2, 3]
    keep(kept, names[1], 1.0)
    assert order() == [4, 5, 2, 3, 0, 1]


def test_a_row_of_a_gpu_runs_once_if_the_clock_is_off():
    from bench_sample import measure_on_gpu

    runs = []
    benchmark = SimpleNamespace(disabled=True, pedantic=lambda run: run())
    measure_on_gpu(benchmark, lambda: runs.append(1), "a group", "gatescope", (1, 8, 2), peak=None)
    assert runs == [1]


def test_the_files_that_make_gpu_compiles_first_exist():
    recipe = (REPOSITORY / "Makefile").read_text().split("\nCOMPILED := $(patsubst %,")[1].split(")")[0]
    pattern, names = recipe.split(",")
    files = {pattern.replace("%", name) for name in names.split()}
    assert len(files) == len(names.split()) >= 7 and all((REPOSITORY / file).is_file() for file in files)


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
