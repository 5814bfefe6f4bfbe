"""The solver's CUDA C compiles with NVIDIA's compiler for the GPUs that matter, and does not spill registers."""

from __future__ import annotations

import re

import host_kernels
import nvrtc
import pytest

from gatescope.engine import (
    launch_cuda,
    log_loss_cuda,
    quantiles_cuda,
    ranks_cuda,
    split_product,
    step_pairs_cuda,
    univariate_source,
)


def elementwise(inputs, outputs, operation, preamble, types):
    """A kernel like the one that CuPy makes of an elementwise operation, for contiguous arrays."""
    ins, outs = (host_kernels.parameters(text) for text in (inputs, outputs))
    pointers = ", ".join(f"{types[kind]}* {name}_" for kind, name in ins + outs)
    reads = "".join(f"const {types[kind]} {name} = {name}_[i]; " for kind, name in ins)
    locals_ = "".join(f"{types[kind]}& {name} = {name}_[i]; " for kind, name in outs)
    place = "const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;"
    return (
        f'{preamble}\nextern "C" __global__ void run(long long n, {pointers}) '
        f"{{ {place} {reads}{locals_}{operation}; }}"
    )


def split_source(name, n_parts):
    numbers = range(n_parts)
    inputs, outputs = split_product.parameters(n_parts)
    operation = split_product.operation(name, n_parts)
    assert all(f"p{i}" in inputs and f"r{i}" in outputs for i in numbers)
    return elementwise(inputs, outputs, operation, log_loss_cuda.SOURCE + split_product.SOURCE, host_kernels.TYPES)


LOSS = "loss = log_loss(z, s); residual = log_loss_slope(z, s); h = log_loss_curvature(z, s)"
SOURCES = {
    **{
        f"log_loss_{kind}": elementwise("T z, T s", "T loss, T residual, T h", LOSS, log_loss_cuda.SOURCE, {"T": kind})
        for kind in ("float", "double")
    },
    "split_float16": split_source("float16", 2),
    "split_bfloat16": split_source("bfloat16", 3),
    "ranks": launch_cuda.text(ranks_cuda.SOURCE),
    "quantiles": launch_cuda.text(quantiles_cuda.SOURCE),
    "univariate": launch_cuda.text(univariate_source.SOURCE),
    "step_pairs": launch_cuda.text(step_pairs_cuda.SOURCE),
}
# The instruction that each compiled kernel must contain, such as an addition that returns nothing or a warp's sum.
EXPECTED = {
    "transpose_codes": r"st\.shared\.u16",
    "count_codes": r"(red|atom)\.shared\.add\.u32",
    "add_weights": r"red\.global\.add\.f64|atom\.global\.add\.f64",
    "look_up_codes": r"st\.global\.f64",
    "look_up_ranks": r"st\.global\.f64",
    "fill_bins": r"atom\.global\.min\.u64|red\.global\.min\.u64",
    "count_labels": r"(red|atom)\.shared\.add\.u32",
    "add_label_weights": r"red\.global\.add\.f64|atom\.global\.add\.f64",
    "add_moments": r"red\.global\.add\.f64|atom\.global\.add\.f64",
    "place_in_bins": r"(atom|red)\.global\.max\.u64",
    "fit_bins": r"shfl\.sync\.bfly",
    "fit_values": r"shfl\.sync\.bfly",
    "from_the_last": r"shfl\.sync\.bfly",
    "from_the_first": r"shfl\.sync\.bfly",
}


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("name", SOURCES)
def test_kernels_compile_without_register_spills(name, architecture):
    ptx, log = nvrtc.compiled(SOURCES[name], architecture)
    assert ".local" not in ptx
    entries = re.findall(r"\.entry (\w+)\(", ptx)
    assert entries and len(entries) == len(re.findall("Compiling entry function", log))
    # The compiler prints this for each kernel, and for each function that is not inlined.
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(memory) >= len(entries) and all(size == "0" for sizes in memory for size in sizes), log
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    # At least a quarter of a multiprocessor's threads are in flight, and half where a kernel waits for memory.
    assert len(registers) == len(entries) and max(registers) <= (128 if name == "univariate" else 64), log


def test_kernels_contain_the_expected_instructions():
    for name in ("ranks", "quantiles", "univariate", "step_pairs"):
        ptx, _ = nvrtc.compiled(SOURCES[name], 90)
        for body in ptx.split(".entry ")[1:]:
            kernel = body[: body.index("(")]
            assert re.search(EXPECTED[kernel], body), f"{kernel} has no {EXPECTED[kernel]}"
