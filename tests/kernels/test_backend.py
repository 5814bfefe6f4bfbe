"""backend.py: the implementation that runs if none is forced."""

from types import SimpleNamespace

import pytest
import torch

from gatescope.kernels import backend


def test_a_gpu_without_triton_runs_the_loop(monkeypatch):
    on_gpu = SimpleNamespace(is_cuda=True, dtype=torch.float16, shape=(1, 1, 1), device="cuda")
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    for there in (True, False):
        monkeypatch.setattr(backend, "has_triton", lambda there=there: there)
        assert backend.choose_backend(None, on_gpu) == ("triton" if there else "loop")
    with pytest.raises(ValueError, match="backend 'triton': expected"):
        backend.choose_backend("triton", on_gpu)


@pytest.mark.filterwarnings("error")
def test_the_search_for_triton_is_not_traced(monkeypatch):
    """By no version of torch: later ones are made to refuse it, as the oldest supported one does."""
    known = SimpleNamespace(util=SimpleNamespace(find_spec=object()), metadata=SimpleNamespace(version=object()))
    monkeypatch.setattr("torch._dynamo.variables.functions.importlib", known, raising=False)
    compiled = torch.compile(lambda x: x + backend.has_triton(), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)) == backend.has_triton()
