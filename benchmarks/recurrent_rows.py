"""Which shapes, dtypes and implementations of a recurrent layer are measured, on a CPU and on a GPU."""

import pytest
from recurrent import CHUNK, SCHEDULES

from gatescope.kernels.products import multiplies_bfloat16

ON_CPU = [(128, 200, 128, 2), (128, 200, 512, 3)]
ON_GPU = [
    (128, 200, 512, 3),
    (128, 200, 512, 1),
    (128, 200, 128, 2),
    (32, 200, 512, 3),
    (1024, 200, 512, 1),
    (16, 1024, 768, 1),
    (128, 200, 1024, 2),
    (64, 200, 2048, 1),
]
ALONE = (128, 200, 512, 1)  # the time of a step of one layer
IN_FLOAT32 = ON_GPU[:3]
FEW_ROWS = (32, 200, 512, 3)  # a third of the device is enough for a layer: there is nothing to choose


def rows_on_cpu(impls):
    """Parameters device, shape, dtype, impl, graph of every row on a CPU."""
    found = [
        pytest.param("cpu", shape, "float32", impl, False, id=f"cpu-{row_name(shape)}-{impl}")
        for shape in ON_CPU
        for impl in impls
    ]
    why = "not measured: this processor does not multiply bfloat16"
    mark = pytest.mark.skipif(not multiplies_bfloat16(), reason=why)
    shape = ON_CPU[1]
    return found + [
        pytest.param("cpu", shape, "bfloat16", impl, False, marks=mark, id=f"cpu-{row_name(shape)}-{impl}-bfloat16")
        for impl in ("gatescope", "torch")
    ]


def rows_on_gpu(gated=True):
    """Parameters device, shape, dtype, impl, graph of every row on a GPU.

    Each shape has float16 compared with cuDNN, with and without a graph, with cuDNN layer by layer, and with the loop
    over cells, whose time without a graph is the host's; bfloat16 compared with cuDNN; and, where it matters, captures
    and all schedules of stacked layers. Three shapes have float32, which is TF32 on both sides. Without gates there is
    little to fuse, so only float16 is compared with cuDNN.
    """
    found = []
    for shape in ON_GPU:
        rows = [("float16", impl, True) for impl in ("gatescope", "cudnn")]
        if gated:
            if splits(shape):
                rows.append(("float16", "cudnn-stacked", True))
            if shape != ALONE:
                rows += [
                    ("float16", "torch-loop", True),
                    *(("float16", impl, False) for impl in ("gatescope", "cudnn")),
                ]
            rows += [("bfloat16", impl, True) for impl in ("gatescope", "cudnn")]
        if gated and shape in IN_FLOAT32:
            rows += [("float32", impl, graph) for graph in (True, False) for impl in ("gatescope", "cudnn")]
        if gated and shape == ON_GPU[0]:
            rows.append(("float16", "gatescope-capture", True))
        if shape[3] > 1 and (gated or shape == ON_GPU[0]) and shape != FEW_ROWS:
            rows += [("float16", impl, True) for impl in SCHEDULES]
        for dtype, impl, graph in rows:
            name = "-".join([row_name(shape), dtype, impl, "graph" * graph]).rstrip("-")
            found.append(pytest.param("cuda", shape, dtype, impl, graph, marks=pytest.mark.cuda, id=f"cuda-{name}"))
    return found


def splits(shape):
    """Whether `Stacked` differs from a single call of cuDNN."""
    return shape[0] > CHUNK or shape[3] > 1


def row_name(shape):
    return f"B{shape[0]}-T{shape[1]}-H{shape[2]}-L{shape[3]}"
