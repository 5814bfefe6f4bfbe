"""The LSTM compared with torch.nn's and, on a GPU, cuDNN's: forward, and forward + backward."""

import pytest
from recurrent import measure
from recurrent_rows import rows_on_cpu, rows_on_gpu

ROWS = [*rows_on_cpu(("gatescope", "gatescope-capture", "torch")), *rows_on_gpu()]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("device", "shape", "dtype", "impl", "graph"), ROWS)
def test_lstm(benchmark, peak, device, shape, dtype, impl, graph, backward):
    measure(benchmark, "lstm", device, shape, dtype, impl, graph, backward, peak=peak(device))
