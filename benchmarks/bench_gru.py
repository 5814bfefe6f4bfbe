"""The GRU compared with torch.nn's and, on a GPU, cuDNN's: forward, and forward + backward."""

import pytest
from recurrent import measure
from recurrent_rows import rows_on_cpu, rows_on_gpu

ROWS = [*rows_on_cpu(("gatescope", "gatescope-capture", "torch")), *rows_on_gpu()]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("device", "shape", "dtype", "impl", "graph"), ROWS)
def test_gru(benchmark, peak, device, shape, dtype, impl, graph, backward):
    measure(benchmark, "gru", device, shape, dtype, impl, graph, backward, peak=peak(device))


@pytest.mark.cuda
@pytest.mark.parametrize("impl", ["gatescope", "torch-loop"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_gru_of_cho(benchmark, peak, impl, backward):
    """The form that cuDNN lacks, compared with the loop over the same cell."""
    options = {"reset_after": False, "backend": "loop"} if impl == "torch-loop" else {"reset_after": False}
    shape = (128, 200, 512, 3)
    measure(benchmark, "gru", "cuda", shape, "float16", "gatescope", False, backward, options, peak("cuda"))
    benchmark.extra_info["impl"] = f"{impl}, reset_after=False"
