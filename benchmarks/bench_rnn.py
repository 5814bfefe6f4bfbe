"""The RNN beside torch.nn's and, on a GPU, cuDNN's: forward, and forward + backward."""

import pytest
from recurrent import SIDE_BY_SIDE, measure, rows

ROWS = rows(
    ("gatescope", "gatescope-capture", "torch"),
    ("gatescope", "gatescope-capture", *SIDE_BY_SIDE, "cudnn", "cudnn-stacked", "torch-loop"),
)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("device", "shape", "dtype", "impl", "graph"), ROWS)
def test_rnn(benchmark, peak, device, shape, dtype, impl, graph, backward):
    measure(benchmark, "rnn", device, shape, dtype, impl, graph, backward, peak=peak(device))
