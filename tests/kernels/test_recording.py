"""recording.py: running layers as a CUDA graph would launch them."""

from types import SimpleNamespace

import pytest
import torch

from gatescope.kernels.recording import as_recorded, recording


def test_warm_up_runs_as_in_a_recorded_graph(monkeypatch):
    on_gpu, on_cpu = SimpleNamespace(is_cuda=True), SimpleNamespace(is_cuda=False)
    for capturing in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda capturing=capturing: capturing)
        assert recording(on_gpu) == capturing
        with pytest.raises(KeyError), as_recorded(), as_recorded():
            assert recording(on_gpu) and not recording(on_cpu)
            raise KeyError
        assert recording(on_gpu) == capturing
