"""Fits shared by two processes, against the fit of one."""

from __future__ import annotations

import host_kernels
import numpy as np
import pytest
import strict_arrays
import torch
from forked import SERVER
from torch._subclasses.fake_tensor import FakeTensorMode

from gatescope.engine.errors import InputError
from gatescope.engine.hessian_sampler import HessianSampler
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.neurons import STATISTICS, NeuronProbes
from gatescope.engine.processes import ALONE, Processes
from gatescope.engine.ridge import RidgeProbes
from gatescope.engine.row_blocks import RowBlocks

OPTIONS = {
    "plain": {"tol": 1e-12},
    "weighted": {"tol": 1e-12, "class_weight": "balanced", "standardize": True},
    "unpenalised": {"C": np.inf, "tol": 1e-12, "max_iter": 60},
}


def _thresholds(X, processes=ALONE):
    """The random numbers by which rows are drawn."""
    with RowBlocks(X, np.float64, processes=processes) as rows:
        return HessianSampler(rows, None, np.ones(12), np.ones(12), True).threshold


def _fit_own_rows(folder, rank):
    """Fit a process's share of every problem in the file, and write the results into a file of its own."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    data = np.load(f"{folder}/data.npz")
    rows = slice(0, 2113) if rank == 0 else slice(2113, None)
    X, Y, weight, groups = (data[name][rows] for name in ("X", "Y", "weight", "groups"))
    results = {}
    for name, options in OPTIONS.items():
        s = weight if name == "weighted" else None
        probes = LogisticProbes(**options, distributed=True).fit(X, Y, s)
        for key in ("coef_", "intercept_", "objective_", "status_", "n_passes_"):
            results[f"{name} {key}"] = getattr(probes, key)
    marked = LogisticProbes(float("inf"), distributed=True).fit(np.hstack([X, data["marks"][rows]]), data["torn"][rows])
    results["marked"] = marked.status_
    probes = LogisticProbes(float("inf"), tol=1e-12, distributed=True).fit(X, Y[:, :2])
    results["errors"] = probes.standard_errors(X, Y[:, :2], groups=groups).coef
    for name in ("none", "shared", "each"):
        for memory_limit, dtype in ((None, np.float16), (10**5, np.float64)):
            # The processes cannot share these units out evenly, and one unit does not vary.
            varied = np.where(np.arange(12) == 4, 2.0, X).astype(dtype)[:, :11]
            s = {"none": None, "shared": weight[:, 0], "each": weight}[name]
            units = NeuronProbes(memory_limit, distributed=True).fit(varied, Y, s)
            for key in (*STATISTICS, "status_"):
                results[f"units {name} {np.dtype(dtype)} {key}"] = getattr(units, key)
    results["units alone"] = NeuronProbes(only_auroc=True, distributed=True).fit(X, Y, weight).auroc_
    processes = Processes(True)
    results["union"] = processes.union(np.arange(rank, 5 * rank + 3, rank + 1))
    results["first row"] = processes.first_row(len(X))
    results["largest"] = processes.largest(np.array([rank, -rank, np.nan if rank else 0.0]))
    results["thresholds"] = _thresholds(X, processes)
    if rank == 1:
        X = X.copy()
        X[17, 3] = np.nan
    try:
        LogisticProbes(distributed=True).fit(X, Y)
    except InputError as error:
        results["refused"] = str(error)
    try:
        NeuronProbes(distributed=True).fit(X, Y)
    except InputError as error:
        results["refused unit"] = str(error)
    own_rows = 1.0 if rank == 0 else np.nan
    for name, call in {
        "weight": lambda: LogisticProbes(distributed=True).fit(data["X"][rows], Y, np.full(len(Y), own_rows)),
        "weights of one": lambda: NeuronProbes(distributed=True).fit(
            data["X"][rows], Y, weight if rank else weight[:, 0]
        ),
        "labels": lambda: RidgeProbes(distributed=True).fit(data["X"][rows], Y * own_rows),
        "width": lambda: LogisticProbes(distributed=True).fit(data["X"][rows][:, rank:], Y),
        "C": lambda: LogisticProbes(C=1.0 + rank, distributed=True).fit(data["X"][rows], Y),
        "class weight": lambda: LogisticProbes(class_weight={1: 1 + rank}, distributed=True).fit(data["X"][rows], Y),
        "balance": lambda: LogisticProbes(class_weight=[None, "balanced"][rank], distributed=True).fit(
            data["X"][rows], Y
        ),
        "precision": lambda: LogisticProbes(distributed=True).fit(data["X"][rows].astype(["f4", "f8"][rank]), Y),
        "memory": lambda: LogisticProbes(memory_limit=["1GB", "much"][rank], distributed=True).fit(data["X"][rows], Y),
        "ridge": lambda: RidgeProbes(C=1.0 + rank, distributed=True).fit(data["X"][rows], Y * 1.0),
    }.items():
        try:
            call()
        except InputError as error:
            results[f"refused {name}"] = str(error)
    ridge = RidgeProbes(distributed=True).fit(data["X"][rows], data["X"][rows][:, :3] ** 2, weight[:, [0, 1, 0]])
    results["ridge"], results["ridge objective"] = ridge.coef_, ridge.objective_
    np.savez(f"{folder}/{rank}.npz", **results)
    torch.distributed.destroy_process_group()


def _fit_rows_of_a_gpu(folder, rank, stands_in):
    """Fit a process's share on a GPU, or on its stand-in."""
    if stands_in:
        cupy = strict_arrays.stand_in(pytest.MonkeyPatch())
    else:
        import cupy
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    data, rows = np.load(f"{folder}/data.npz"), slice(0, 613) if rank == 0 else slice(613, None)
    X, Y, weight, groups = (cupy.asarray(data[name][rows]) for name in ("X", "Y", "weight", "groups"))
    probes = LogisticProbes(standardize=True, tol=1e-10, distributed=True).fit(X, Y, weight)
    results = {"logistic": probes.coef_, "ridge": RidgeProbes(distributed=True).fit(X, X[:, :2], weight[:, 0]).coef_}
    results["errors"] = probes.standard_errors(X, Y, weight, groups).coef
    units = NeuronProbes(distributed=True).fit(X.astype(np.float16), Y, weight)
    results |= {name: getattr(units, name) for name in STATISTICS}
    np.savez(f"{folder}/{rank}.npz", **results)
    torch.distributed.destroy_process_group()


def make():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((5000, 12)) @ generator.standard_normal((12, 12))
    Y = X[:, :6] + 3 * generator.logistic(size=(5000, 6)) > [0, 2, 4, 8, 12, 16]
    # All positive rows of one hypothesis lie in the first shard, and another hypothesis is separable.
    Y[2113:, 4] = False
    Y[:, 5] = X[:, 0] > 1
    weight = generator.uniform(0, 2, Y.shape) * (generator.random(Y.shape) < 0.8)
    return X, Y, weight, np.arange(5000) // 77


def make_marks(Y):
    """Two units that are 1 at a few rows, and labels: all those rows have one label, or all but one, or both by halves.

    The row that disagrees lies in the other shard.
    """
    marks, torn = np.zeros((5000, 2)), Y[:, [0, 0, 0]].copy()
    marks[3000:3040, 0] = marks[4000:4040, 1] = marks[5, 1] = 1
    torn[3000:3040, 0] = torn[4000:4040, :2] = True
    torn[5, :2] = False
    torn[3000:3040:2, 1:], torn[3001:3040:2, 1:] = True, False
    return marks, torn


def run_two(folder, function, *arguments):
    """Run a function in two processes; return each one's results."""
    workers = [SERVER.Process(target=function, args=(folder, rank, *arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The results of two processes: one mapping for each."""
    folder = tmp_path_factory.mktemp("processes")
    X, Y, weight, groups = make()
    marks, torn = make_marks(Y)
    np.savez(folder / "data.npz", X=X, Y=Y, weight=weight, groups=groups, marks=marks, torn=torn)
    return run_two(folder, _fit_own_rows)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes_equal_one(shared, name):
    X, Y, weight, _ = make()
    alone = LogisticProbes(**OPTIONS[name]).fit(X, Y, weight if name == "weighted" else None)
    for got in shared:
        np.testing.assert_array_equal(got[f"{name} status_"], alone.status_)
        fitted = alone.status_ == "converged"
        assert fitted.sum() >= 5
        for key in ("coef_", "intercept_", "objective_"):
            expected = getattr(alone, key)[fitted]
            np.testing.assert_allclose(
                got[f"{name} {key}"][fitted], expected, rtol=0, atol=1e-10 * max(1, np.abs(expected).max())
            )
    for key in ("coef_", "n_passes_"):
        np.testing.assert_array_equal(shared[0][f"{name} {key}"], shared[1][f"{name} {key}"])


def test_a_plane_is_found_in_the_rows_of_both_processes(shared):
    for got in shared:
        assert got["marked"].tolist() == ["separable", "converged", "converged"]


def test_standard_errors_handle_groups_split_between_processes(shared):
    X, Y, _, groups = make()
    alone = LogisticProbes(np.inf, tol=1e-12).fit(X, Y[:, :2]).standard_errors(X, Y[:, :2], groups=groups)
    for got in shared:
        np.testing.assert_allclose(got["errors"], alone.coef, rtol=1e-9)


def test_exchanged_values_and_refusals_reach_every_process(shared):
    for rank, got in enumerate(shared):
        assert got["union"].tolist() == [0, 1, 2, 3, 5, 7]
        assert got["first row"] == [0, 2113][rank]
        assert got["largest"].tolist() == [1, 0, np.inf]
    for name in ("refused", "refused unit"):
        assert str(shared[1][name]).startswith("X contains NaN at row 17, column 3")
        assert str(shared[0][name]).startswith("X contains NaN or infinity in the rows of another process")


def test_two_processes_draw_the_same_rows_as_one(shared):
    np.testing.assert_array_equal(np.concatenate([got["thresholds"] for got in shared]), _thresholds(make()[0]))


def test_bad_input_in_one_process_is_refused_in_all(shared):
    assert "sample_weight is nan at row 0" in str(shared[1]["refused weight"])
    assert "Y contains NaN" in str(shared[1]["refused labels"])
    for name in ("weight", "labels"):
        assert str(shared[0][f"refused {name}"]) == "another process rejected its input: see its message"
    for got, width in zip(shared, (12, 11), strict=True):
        assert f"the processes differ in columns of X and of Y, here [{width}, 6]" in str(got["refused width"])
        assert "the processes differ in axes of sample_weight" in str(got["refused weights of one"])
        for name in ("C", "class weight", "balance", "precision"):
            assert "the processes differ in settings or in the precision of X" in str(got[f"refused {name}"])
        assert "the processes differ in C and fit_intercept" in str(got["refused ridge"])
    assert "memory_limit is 'much'" in str(shared[1]["refused memory"])
    assert str(shared[0]["refused memory"]) == "another process rejected its input: see its message"


def test_ridge_probes_of_two_processes_equal_one(shared):
    X, _, weight, _ = make()
    alone = RidgeProbes().fit(X, X[:, :3] ** 2, weight[:, [0, 1, 0]])
    for got in shared:
        np.testing.assert_allclose(got["ridge"], alone.coef_, rtol=0, atol=1e-10)
        np.testing.assert_allclose(got["ridge objective"], alone.objective_, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["none", "shared", "each"])
def test_single_units_of_two_processes_equal_one(shared, name, dtype):
    X, Y, weight, _ = make()
    X = np.where(np.arange(12) == 4, 2.0, X).astype(dtype)[:, :11]
    alone = NeuronProbes().fit(X, Y, {"none": None, "shared": weight[:, 0], "each": weight}[name])
    assert {"converged", "constant_feature"} <= set(alone.status_.flat)
    for got in shared:
        for key in (*STATISTICS, "status_"):
            found, expected = got[f"units {name} {np.dtype(dtype)} {key}"], getattr(alone, key)
            if key == "status_":
                np.testing.assert_array_equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_only_auroc_of_two_processes_equals_one(shared):
    X, Y, weight, _ = make()
    alone = NeuronProbes(only_auroc=True).fit(X, Y, weight).auroc_
    for got in shared:
        np.testing.assert_allclose(got["units alone"], alone, rtol=1e-12)


@pytest.mark.parametrize("place", ["stand-in", pytest.param("gpu", marks=pytest.mark.cuda)])
def test_two_processes_with_gpu_arrays_equal_one(tmp_path, place):
    """Both processes may use the same GPU."""
    if place == "stand-in":
        # Checked here, since a process of its own cannot skip the test.
        host_kernels.compiler()
    X, Y, weight, groups = (array[:1500] for array in make())
    X, Y, weight = X[:, :5], Y[:, :3], weight[:, :3]
    np.savez(tmp_path / "data.npz", X=X, Y=Y, weight=weight, groups=groups)
    found = run_two(tmp_path, _fit_rows_of_a_gpu, place == "stand-in")
    probes = LogisticProbes(standardize=True, tol=1e-10).fit(X, Y, weight)
    units = NeuronProbes().fit(X.astype(np.float16), Y, weight)
    expected = {"logistic": probes.coef_, "ridge": RidgeProbes().fit(X, X[:, :2], weight[:, 0]).coef_}
    expected["errors"] = probes.standard_errors(X, Y, weight, groups).coef
    expected |= {name: getattr(units, name) for name in STATISTICS}
    for got in found:
        for name, values in expected.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("places", [("cuda", "cpu"), ("cpu", "cuda"), ("cpu", "cpu")], ids="-".join)
def test_sums_in_either_memory_are_exchanged_together(monkeypatch, places):
    """Tensors without values may belong to a GPU that is not there, and torch refuses to join them with others."""
    strict_arrays.stand_in(monkeypatch)
    processes, joined = Processes(False), []
    processes.size = 2
    monkeypatch.setattr(processes, "_reduced", lambda tensor, _: joined.append(tensor.device.type) or tensor)
    monkeypatch.setattr("gatescope.engine.processes._like", lambda tensor, value: tensor)
    with FakeTensorMode():
        totals = processes.totals([torch.empty(4, device=places[0]), torch.empty((), device=places[1])])
    assert joined == ["cuda" if "cuda" in places else "cpu"]
    assert [(total.device.type, total.shape) for total in totals] == [(places[0], (4,)), (places[1], ())]


def test_a_single_process_needs_no_exchange():
    with pytest.raises(InputError, match="start the script with torchrun"):
        Processes(True)
    values = [np.ones(3)]
    assert ALONE.totals(values) is values
    assert ALONE.first_row(10) == 0 and ALONE.total(3) == 3
    assert ALONE.union(np.array([3, 1, 3])).tolist() == [1, 3]
