"""Settings of probes that are refused."""

import sys

import pytest

from gatescope.analysis.probe_config import ProbeConfig, probe_settings
from gatescope.engine.errors import InputError


@pytest.mark.parametrize(("field", "value"), [("C", (1.0, 0.0)), ("C", ()), ("test_share", 1.0), ("bootstrap", 0)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"--{field.replace('_', '-')}"):
        ProbeConfig(**{field: value})


def test_a_gpu_without_cupy_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match=r"needs CuPy.*\(.*\): pip install"):
        ProbeConfig(device="cuda")


def test_unused_settings_do_not_prevent_resuming():
    """Results made before a setting existed can still be resumed."""
    of_sparse, of_all = (probe_settings(ProbeConfig(sparse=sparse), 0)["kinds"].keys() for sparse in (True, False))
    assert of_sparse - of_all == {"units"}
    assert not {"controls", "sparse", "folds"} & probe_settings(ProbeConfig(), 0)["probe"].keys()
