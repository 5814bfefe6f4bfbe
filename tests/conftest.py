"""Fixtures of all tests: how kernels run here, where real text is, and memory that never happens to be zero.

The device of the solver's tests is a GPU, or a stand-in on the host."""

import os
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import strict_arrays
import torch

# Without a GPU the kernels run under Triton's interpreter, which must be chosen before they are first imported. With a
# GPU it must never be on: it would copy CUDA tensors to the CPU silently.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton") is not None:
        import quick_interpreter

        quick_interpreter.install()

# A property test must not fail because the machine is busy; its examples are the same in every run.
hypothesis.settings.register_profile("gatescope", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gatescope")

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(autouse=True)
def same_numbers():
    """Give tests that draw from torch's generator the same numbers in whatever process they run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def unclean_memory():
    """Make torch.empty return NaN, so that reading uninitialised memory is noticed."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def data():
    """The folder with real text and NLTK data."""
    folder = Path(os.environ.get("GATESCOPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real text at {folder}: set GATESCOPE_DATA")
    return folder


class Device:
    """Moves arrays to where the solver's GPU code works.

    Args:
        xp: cupy, or its stand-in.
        to_device: moves a tensor.
        on_gpu: whether the arrays are on a GPU.
    """

    def __init__(self, xp, to_device, on_gpu):
        self.xp, self.to_device, self.on_gpu = xp, to_device, on_gpu

    def __call__(self, array):
        if isinstance(array, torch.Tensor):
            return self.to_device(array)
        return None if array is None else self.xp.asarray(array)


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request, monkeypatch):
    """A GPU; without one, arrays as strict as CuPy's, with kernels built by the host's compiler."""
    if request.param == "gpu":
        return Device(pytest.importorskip("cupy"), torch.Tensor.cuda, True)
    module = strict_arrays.stand_in(monkeypatch)
    return Device(module, lambda tensor: tensor.as_subclass(strict_arrays.DeviceTensor), False)
