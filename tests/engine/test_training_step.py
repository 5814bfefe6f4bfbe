"""training_step.py and processes.py: precisions, and several processes that give the same result as one."""

import json
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import SERVER
from safetensors import safe_open
from safetensors.torch import load_file
from torch import distributed

from gatescope.analysis.cli import main
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.kept_models import kept_folder
from gatescope.engine.model import CharacterModel
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.training_step import NEVER, TrainingStep, cut_lanes, signed_ids

TEXT = "the quick brown fox jumps over the lazy dog; " * 400
SMALL = TrainConfig(hidden=12, layers=2, dropout=0.3, batch=4, length=20, steps=12, evaluate_every=5, keep=(0, 7))


def _train_together(rank, n_processes, text, folder, dtype, cell):
    torch.set_default_dtype(dtype)
    if n_processes > 1:
        store = f"file://{folder}.store"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=n_processes)
    train_model(survey_corpus(text), Path(folder), replace(SMALL, cell=cell))
    if n_processes > 1:
        distributed.destroy_process_group()


def together(n_processes, text, folder, dtype, cell):
    ranks = [
        SERVER.Process(target=_train_together, args=(rank, n_processes, text, str(folder), dtype, cell))
        for rank in range(n_processes)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * n_processes
    return load_file(folder / "checkpoint.safetensors")


def assert_same_weights(found, expected, rtol):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == found[name].dtype
        scale = value.abs().max().item()
        assert (found[name] - value).abs().max().item() <= rtol * max(scale, 1e-3), name


def logged(folder):
    """The logged losses, step by step."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["nats"]) for line in lines if "nats" in line]


PRECISIONS = [("lstm", torch.float64, 1e-10), ("lstm", torch.float32, 1e-5), ("gru", torch.float64, 1e-10)]


@pytest.mark.parametrize(("cell", "dtype", "rtol"), PRECISIONS, ids=["lstm-float64", "lstm-float32", "gru-float64"])
def test_two_processes_train_the_same_model_as_one(text, tmp_path, cell, dtype, rtol):
    one, two = (together(n, text, tmp_path / str(n), dtype, cell) for n in (1, 2))
    assert_same_weights(two, one, rtol)
    for step in SMALL.keep:
        kept = [load_file(kept_folder(tmp_path / name, step) / "model.safetensors") for name in ("1", "2")]
        assert_same_weights(kept[1], kept[0], rtol)
    losses = [logged(tmp_path / name) for name in ("1", "2")]
    assert len(losses[0]) == len(losses[1]) >= 4
    for (step, nats), (other_step, other) in zip(*losses, strict=True):
        assert step == other_step and nats == pytest.approx(other, rel=rtol)


def test_lanes_that_processes_cannot_divide_are_refused(text, tmp_path, monkeypatch):
    monkeypatch.setattr("gatescope.engine.train.everybody", lambda: SimpleNamespace(rank=0, size=3))
    with pytest.raises(InputError, match="--batch 4 lanes cannot be shared by 3 processes"):
        train_model(survey_corpus(text), tmp_path / "model", SMALL)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_in_16_bit_precision_learns_and_resumes(text, tmp_path, precision):
    config = TrainConfig(hidden=32, batch=8, length=30, steps=150, evaluate_every=75, precision=precision)
    assert train_model(survey_corpus(text), tmp_path / "model", config)["validation_nats"] < 1.0
    with safe_open(tmp_path / "model" / "checkpoint.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
        about = json.loads(file.metadata()["gatescope"])
    assert bool(about["scale"]) == (precision == "float16")


def taker_of(device, precision="float32", dropout=0.0, width=101):
    torch.manual_seed(0)
    config = TrainConfig(hidden=16, layers=2, dropout=dropout, precision=precision)
    tokens = torch.randint(7, (4 * width,), generator=torch.Generator().manual_seed(1)).numpy().astype("uint16")
    model = CharacterModel(config.architecture, 7).to(device).train()
    return TrainingStep(model, cut_lanes(tokens, 4), 10, 1.0, precision, model.zero_state(4))


def test_an_overflowing_gradient_leaves_the_weights_unchanged():
    taker = taker_of("cpu", "float16")
    taker.take(0, 0.01)
    taker.scaler.load_state_dict(taker.scaler.state_dict() | {"scale": 3e38})
    before = [p.detach().clone() for p in taker.model.parameters()]
    taker.take(1, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(before, taker.model.parameters(), strict=True))
    assert taker.scaler.get_scale() < 3e38


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_first_step_that_is_not_finite_is_kept(device):
    taker = taker_of(device)
    for step in range(10):
        if step == 6:
            with torch.no_grad():
                taker.model.output.bias[0] = torch.nan
        taker.take(step, 0.01)
        assert taker.first_bad.item() == (6 if step >= 6 else NEVER)
    assert taker.bad.isnan().all()


@pytest.mark.parametrize(("width", "windows"), [(100, 9), (101, 10), (110, 10)])
def test_the_state_resets_when_the_text_restarts(width, windows):
    """After the last window one more character is needed, which the window predicts."""
    taker = taker_of("cpu", width=width)
    assert taker.windows == windows
    for step in range(windows + 1):
        taker.take(step, 0.0)
    fresh = taker_of("cpu", width=width)
    fresh.take(0, 0.0)
    for mine, expected in zip(taker.state, fresh.state, strict=True):
        assert torch.equal(mine, expected)


def test_steps_on_a_noncurrent_gpu_wait_for_its_stream(monkeypatch):
    """That stream fills the learning rate and window; here the step runs on the CPU, and fake streams note waits."""
    taker, waits = taker_of("cpu"), []

    def stream(name):
        return SimpleNamespace(name=name, wait_stream=lambda other: waits.append((name, other.name)))

    taker._device, taker._side = torch.device("cuda", 1), stream("side")
    taker._first, taker.optimizer.param_groups[0]["lr"] = torch.zeros(()), torch.zeros(())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device="cuda:0": stream(str(device)))
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(taker, "_resident_step", lambda: waits.append("step"))
    taker.take(3, 0.01)
    assert waits == [("side", "cuda:1"), "step", ("cuda:1", "side")]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_memory_mapped_ids_are_copied_for_a_gpu_without_a_warning(tmp_path, dtype):
    largest = np.iinfo(dtype).max
    np.save(tmp_path / "tokens.npy", np.array([0, 1, largest - 1, largest, 5, 6], dtype))
    lanes = cut_lanes(np.load(tmp_path / "tokens.npy", mmap_mode="r"), 2)
    # The warning comes once per process, so an earlier test may have used it up.
    warned_always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signed = signed_ids(lanes)
    finally:
        torch.set_warn_always(warned_always)
    assert signed.itemsize == lanes.itemsize and not np.shares_memory(signed.numpy(), lanes)
    assert (signed.long() & int(largest)).tolist() == lanes.tolist()


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_graph_equals_steps_on_the_cpu(precision, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    takers = [taker_of(device, precision) for device in ("cpu", "cuda")]
    for step in range(25):
        for taker in takers:
            taker.take(step, 0.01)
    assert takers[1]._graph is not None
    losses = [taker.loss.item() for taker in takers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "float32" else 3e-2)


@pytest.mark.cuda
def test_no_step_waits_for_the_device():
    taker = taker_of("cuda", "float16", dropout=0.3)
    for step in range(5):
        taker.take(step, 0.01)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(5, 15):
            taker.take(step, 0.01)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert taker.loss.isfinite()


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_torchrun_trains_the_model_that_one_process_trains(text, tmp_path, cell):
    """Run two processes through the real command line: one folder, one line, the weights and losses of one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gatescope.analysis.cli"]
    flags = ["--cell", cell, "--hidden", "8", "--layers", "2", "--dropout", "0.3", "--batch", "4", "--length", "10"]
    flags += ["--steps", "4", "--keep", "0", "2", "--device", "cpu"]
    done = subprocess.run(
        [*command, "train", text, "--out", str(tmp_path / "two"), *flags],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation loss") == 1
    assert main(["train", text, "--out", str(tmp_path / "one"), *flags]) == 0
    for kept in ("", "steps/000000", "steps/000002"):
        one, two = (load_file(tmp_path / name / kept / "model.safetensors") for name in ("one", "two"))
        assert_same_weights(two, one, 1e-5)
    losses = [logged(tmp_path / name) for name in ("one", "two")]
    assert len(losses[0]) >= 2
    assert losses[1] == [(step, pytest.approx(nats, rel=1e-5)) for step, nats in losses[0]]


def test_a_refusal_of_the_first_process_is_one_line(text, tmp_path):
    (tmp_path / "zarr.json").write_text("{}")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gatescope.analysis.cli"]
    flags = ["--hidden", "8", "--batch", "4", "--length", "10", "--steps", "4", "--device", "cpu"]
    done = subprocess.run(
        [*command, "train", text, "--out", str(tmp_path), *flags],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.count("gatescope: ") == 1 and "holds a state dump" in done.stderr
    assert "[rank" not in done.stderr


def test_lanes_are_contiguous():
    lanes = cut_lanes(np.arange(23), 3)
    assert lanes.tolist() == [list(range(7)), list(range(7, 14)), list(range(14, 21))]
