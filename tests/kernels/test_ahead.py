"""The kernels compiled for sm_80 and sm_90: no spills, shared memory that exists, wide loads, tensor cores, and the
barrier's instructions in their order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

CELLS = ("lstm", "gru", "gru-before", "rnn")
SHAPES = [(128, 512), (128, 128), (32, 512), (1024, 512), (16, 768), (128, 1024), (64, 2048), (1024, 128)]
DIRECTIONS = ("forward", "backward")


def compile_ahead(jobs, tmp_path):
    """Compile in a process of its own, without the interpreter and with a cache of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    program = Path(__file__).with_name("ahead.py")
    done = subprocess.run(
        [sys.executable, program, json.dumps(jobs)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {tuple(json.loads(job)): answer for job, answer in json.loads(done.stdout).items()}


def check(job, told):
    name = f"{job}: {told['registers']} registers"
    # Eight rows of a narrow layer with all options: two words, under Triton 3.7.
    assert told["stack"] <= (8 if told["rows"] == 8 else 0), f"{name}, {told['stack']} bytes spilled"
    assert told["shared"] <= told["limit"], f"{name}, {told['shared']} bytes of shared memory of {told['limit']}"
    order = told["order"]
    if told["columns"] is None:
        # Pointwise: each thread moves 16 bytes of every state; narrow loads are a row's resets in two steps, or a seed.
        narrow = [w for w in order if w.startswith(("ld.global", "st.global")) and not w.endswith("v4.b32")]
        assert len([word for word in order if word.startswith("st.global.v4")]) >= 1, name
        assert narrow in ([], ["ld.global.b64"], ["ld.global.b8"], ["ld.global.b8"] * 2), f"{name}: {narrow}"
        return
    assert "mma.sync" in order or "wgmma.mma_async" in order, name
    assert "ld.global.v4.b32" in order, name
    check_products(name, told)
    # The factors in float32 are rounded to TF32, not truncated, and other factors are used as they are.
    assert (told["rounded"] > 0) == (job[4] == "float32"), name
    assert all((".tf32.tf32" in each) == (job[4] == "float32") for each in told["products"]), name
    if told["rows"] * told["units"] >= 512:
        # 16 rows of 32 units are two entries for each of 256 threads: at most 4 bytes of 16-bit states.
        assert not any(word.startswith("st.global") and word.endswith("b16") for word in order), name
    if told["rows"] == 64 and told["limit"] > 200 * 1024:
        # With 64 rows in a program, four warps at a time multiply, and each thread moves 16 bytes of every state and
        # gate, or 8 if 16 units of 16 bits are no more than that for each of 256 threads.
        assert "wgmma.mma_async" in order and "mma.sync" not in order, name
        widths = ("v4.b32",) if told["units"] > 16 else ("v4.b32", "v2.b32")
        narrow = {w for w in order if w.startswith("st.global") and not w.endswith(widths)}
        assert not narrow, f"{name}: {narrow}"
    if told["resident"] and told["columns"] > 1:
        # With weights in registers, shared memory has only the states and the weights that did not fit.
        assert "wgmma.mma_async" in order and "mma.sync" not in order, name
        assert told["shared"] <= 64 * 1024, f"{name}, {told['shared']} bytes of shared memory"
    if told["columns"] == 1:
        assert not any(word.startswith(("atom", "ld.acquire")) for word in order), name
        # A step loads states or gradients from shared memory, four 8 x 8 matrices at once, but no weights.
        assert not told["resident"] or told["matrices"] <= 20, f"{name}: {told['matrices']} loads of matrices"
        return
    exchanged = [word for word in order if word.startswith("ld.global.cg")]
    assert exchanged and set(exchanged) == {"ld.global.cg.v4.b32"}, name
    # Each release: stores, then the threads meet, and only then the addition. Each acquire: before the exchanged loads.
    releases = [k for k, word in enumerate(order) if word.startswith("atom")]
    assert releases and all("release" in order[k] and "gpu" in order[k] for k in releases), name
    for k in releases:
        assert order[k - 1] == "bar.sync", name
        earlier = [word for word in order[:k] if word.startswith(("st.global", "ld.acquire", "mma", "wgmma"))]
        assert earlier[-1].startswith("st.global"), name
    acquires = [k for k, word in enumerate(order) if word == "ld.acquire"]
    assert len(acquires) == len(releases), name
    for k in acquires:
        later = [word for word in order[k + 1 :] if word.startswith(("ld.global", "mma", "wgmma"))]
        assert later[0] == "ld.global.cg.v4.b32", name


def check_products(name, told):
    """Products of warp groups follow each other; if registers were scarce, each would wait for the previous one."""
    waits, products = told["waits"], told["group_products"]
    assert told["instructions"] > 0 and 2 * waits <= max(products, 2), f"{name}: {products} products in {waits}"


def check_sampler(job, told):
    name = f"{job}: {told['registers']} registers"
    # A program of 128 rows, a tenth faster than two of 64, spills: 14 loads in a step of 4,300 instructions. So does
    # one with all weights of two LSTM layers of 128 units: cells and addresses, 32 loads in a step of 800, and up to
    # twice as many if everything is kept. With two GRU layers one case of 18 spills two words, under either Triton.
    full = told["resident"] and job[0] == "lstm" and job[1].endswith("2") and job[3] == 128
    spilled = 96 if told["rows"] == 128 else 512 if full else 8 if told["resident"] else 0
    assert told["stack"] <= spilled, f"{name}, {told['stack']} bytes spilled"
    assert told["shared"] <= told["limit"], f"{name}, {told['shared']} bytes of shared memory of {told['limit']}"
    order, asynchronous = told["order"], told["asynchronous"]
    assert "mma.sync" in order or "wgmma.mma_async" in order, name
    check_products(name, told)
    if told["resident"]:
        # Nothing is in flight to shared memory in a step, and no program waits for another.
        assert not asynchronous and not any(word.startswith(("atom", "ld.acquire")) for word in order), name
        return
    # Weights are in flight before they are needed, and each thread stores 16 bytes of everything that is kept, or 8 or
    # 4 if a program has 16 or 8 units of 64 rows, which are no more than that for each of its threads.
    assert asynchronous.count("0x10") >= 8, name
    wide = 2 if job[1].startswith("states") else {"lstm": 6, "gru": 4, "gru-before": 4, "rnn": 1}[job[0]]
    units = -(-job[3] // 128) * 128 // told["columns"]
    width = {16: "v2.b32", 8: "b32"}.get(units, "v4.b32")
    assert order.count(f"st.global.{width}") >= wide, name
    acquires, releases = order.count("ld.acquire"), [k for k, word in enumerate(order) if word.startswith("atom")]
    if told["columns"] == 1:
        assert not acquires and not releases, name
        return
    # Narrower loads would go through the first-level cache, which does not see other programs' stores; some weights
    # may, if a program has few.
    few = job[0] in ("rnn", "gru-before") or (units == 8 and job[5] != 90)
    assert set(asynchronous) <= ({"0x10", "0x8", "0x4"} if few else {"0x10"}), name
    assert releases and all(
        "release" in order[k] and "gpu" in order[k] and order[k - 1] == "bar.sync" for k in releases
    )
    assert acquires == len(releases), name


SAMPLERS = [("sample 2", 1024, 128), ("read 2", 1024, 128), ("sample 3", 128, 512), ("read 3", 1024, 512)]


def test_sampler_kernels_compile_ahead_of_time(tmp_path):
    jobs = [["lstm", "cut 3", 128, 512, "bfloat16", 90, 1], ["lstm", "states 3", 1024, 512, "bfloat16", 90, 1]]
    jobs += [["lstm", "sample 2", 1024, 128, "float16", 90, 1], ["rnn", "sample 1", 128, 128, "float32", 90, 1]]
    *all_told, exact = compile_ahead(jobs, tmp_path).values()
    for job, told in zip(jobs, all_told, strict=False):
        check_sampler(job, told)
    assert [told["rows"] for told in all_told] == [64, 128, 8] and all_told[2]["resident"] == 6
    # Texts in float32 are drawn in full float32.
    assert exact["stack"] == 0 and not exact["products"] and not exact["rounded"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("cell", CELLS)
def test_every_sampler_shape_compiles_ahead_of_time(cell, architecture, tmp_path):
    shapes = [*SAMPLERS, ("cut 2", 1024, 128), ("cut 3", 128, 512), ("sample 1", 64, 1024)]
    # Besides the weights that stay on chip: those that do not fit, and narrower ones.
    narrow = [("states 2", 1024, 128), ("sample 3", 1024, 128), ("exact 2", 64, 128), ("sample 3", 64, 50)]
    narrow += [("sample 1", 64, 16)]
    shapes += narrow if architecture == 90 else narrow[:2]
    # In columns of 8 or 16 units, of 16, and of 32.
    same = [("sample 3", n_rows, 512) for n_rows in (128, 256, 1024)]
    jobs = [
        [cell, *shape, dtype, architecture, 1] for shape in [*shapes, *same[1:]] for dtype in ("bfloat16", "float16")
    ]
    answers = compile_ahead(jobs, tmp_path)
    for job, told in answers.items():
        check_sampler(job, told)
    # A text must be the same whatever runs beside it, so the multiplying instruction must be the same too: a single
    # warp in the output layer, four together elsewhere if possible.
    for dtype in ("bfloat16", "float16"):
        alone = {answers[cell, *shape, dtype, architecture, 1]["order"].count("mma.sync") for shape in same}
        assert architecture == 80 or len(alone) == 1, alone


def test_the_main_shapes_compile_ahead_of_time(tmp_path):
    """Each kernel of layers once; the slow tests below cover other uses and the shapes of the benchmarks."""
    jobs = [[cell, way, 128, 512, "bfloat16", 90, 1] for cell in ("lstm", "gru") for way in DIRECTIONS]
    jobs += [["gru-before", "backward", 128, 512, "bfloat16", 90, 1]]
    jobs += [["rnn", "forward", 128, 512, "bfloat16", 90, 1], ["rnn", "backward", 128, 512, "float32", 90, 1]]
    jobs += [["lstm", "forward", 128, 128, "bfloat16", 90, 2, "top"], ["gru", "backward", 128, 128, "float16", 90, 2]]
    jobs += [["lstm", "backward", 128, 512, "float32", 90, 1]]
    jobs += [[cell, f"{way} step", 128, 1024, "bfloat16", 90, 1] for cell in ("lstm", "gru") for way in DIRECTIONS]
    jobs += [["dropout", "forward", 128, 512, "bfloat16", 90, 1]]
    # What training launches below the top of a stack.
    jobs += [["lstm", "backward", 128, 512, "bfloat16", 90, 3, "lower, dropped"]]
    for job, told in compile_ahead(jobs, tmp_path).items():
        check(job, told)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [86, 89, 100, 120])
def test_other_architectures_compile_ahead_of_time(architecture, tmp_path):
    shapes = [*((b, h, "bfloat16") for b, h in SHAPES[:3]), (128, 128, "float32")]
    jobs = [[cell, way, *shape, architecture, 1] for cell in ("lstm", "gru") for way in DIRECTIONS for shape in shapes]
    told = compile_ahead(jobs, tmp_path)
    # 128 rows of 512 units do not fit on 82 multiprocessors.
    assert all(told[tuple(job)] is not None for job in jobs if architecture > 86 or job[2:4] != [128, 512])
    for job, answer in told.items():
        if answer is not None:
            check(job, answer)
    for job, answer in compile_ahead([["lstm", *SAMPLERS[2], "bfloat16", architecture, 1]], tmp_path).items():
        check_sampler(job, answer)


@pytest.mark.slow
def test_steps_compile_for_gpus_before_compute_capability_8(tmp_path):
    jobs = [[cell, f"{way} step", 128, 512, "float16", 75, 1] for cell in ("lstm", "gru") for way in DIRECTIONS]
    for job, told in compile_ahead([*jobs, ["dropout", "forward", 128, 512, "float16", 75, 1]], tmp_path).items():
        check(job, told)
    persistent = [[cell, way, 128, 128, "float16", 75, 1] for cell in CELLS for way in (*DIRECTIONS, "sample 2")]
    assert set(compile_ahead(persistent, tmp_path).values()) == {None}


USES = {"forward": ("inference", "top", "lower, dropped"), "backward": ("top", "lower", "lower, dropped")}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("cell", (*CELLS, "rnn-relu"))
def test_every_use_compiles_ahead_of_time(cell, architecture, tmp_path):
    """The launches if nothing is captured or reset: for a layer alone, at the top of a stack, and below it."""
    shapes = [(128, 512, 1), (128, 512, 3), (128, 1024, 2), (128, 1024, 1), (128, 128, 2), (1024, 128, 1)]
    jobs = [
        [cell, direction, b, h, dtype, architecture, layers, use]
        for dtype in ("bfloat16", "float32")
        for b, h, layers in (shapes if architecture == 90 and cell != "rnn-relu" else shapes[:1])
        for direction in DIRECTIONS
        for use in USES[direction]
    ]
    for job, told in compile_ahead(jobs, tmp_path).items():
        if told is not None:
            check(job, told)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("cell", CELLS)
def test_every_benchmark_shape_compiles_ahead_of_time(cell, architecture, tmp_path):
    jobs = [
        [cell, direction, *shape, dtype, architecture, layers]
        for direction in DIRECTIONS
        for shape in SHAPES
        for dtype in ("bfloat16", "float16", "float32")
        for layers in ((1, 3) if shape in SHAPES[:3] else (1,))
    ]
    if cell != "rnn":
        # The kernels used if the plan has no persistent one, and in full float32, which never has one.
        dtypes = ("bfloat16", "float32")
        jobs += [[cell, f"{way} step", 64, 2048, dtype, architecture, 1] for way in DIRECTIONS for dtype in dtypes]
    jobs += [["dropout", "forward", 128, 512, dtype, architecture, 1] for dtype in ("bfloat16", "float16", "float32")]
    answers = compile_ahead(jobs, tmp_path)
    assert sum(told is not None for told in answers.values()) >= 16
    for job, told in answers.items():
        if told is not None:
            check(job, told)
