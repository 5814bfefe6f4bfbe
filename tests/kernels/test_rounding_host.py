"""Rounding kept steps to float16 against torch's own rounding."""

import pytest
import torch

from gatescope.kernels.register_tile import HALVES
from gatescope.kernels.rounding_host import round_steps, rounds

pytestmark = pytest.mark.skipif(not HALVES, reason="the processor has no such instruction")


def test_every_float16_and_the_values_around_it_round_correctly():
    halves = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    values = halves[halves.isfinite()].float().sort().values
    between = (values[1:].double() + values[:-1].double()) / 2
    near = torch.cat([between.float().nextafter(torch.tensor(side)) for side in (-1e9, 1e9)])
    kept = torch.cat([values, between.float(), near, torch.tensor([65519.0, -65519.0])]).view(1, 1, -1)
    out = torch.empty(kept.shape, dtype=torch.float16)
    assert round_steps(kept, out)
    assert torch.equal(out.view(torch.int16), kept.half().view(torch.int16))


@pytest.mark.parametrize("value", [65520.0, -65520.0, float("inf"), -float("inf"), float("nan")])
def test_nonfinite_values_are_detected(value):
    kept, out = torch.ones(3, 4, 5), torch.empty(4, 3, 5, dtype=torch.float16)
    assert round_steps(kept, out)
    kept[2, 3, 4] = value
    assert not round_steps(kept, out)
    torch.testing.assert_close(out, kept.transpose(0, 1).half(), rtol=0, atol=0, equal_nan=True)


def test_a_slice_is_rounded_into_a_slice_of_the_output():
    kept, memory = torch.randn(6, 7, 20), torch.full((9, 10, 8), -1.0, dtype=torch.float16)
    kept[:, 5:] = kept[4:] = kept[..., :3] = float("nan")  # none of it is read
    out = memory[2:7, 3:7, :]
    assert round_steps(kept[:4, :5, 3:11], out)
    assert torch.equal(out, kept[:4, :5, 3:11].transpose(0, 1).half())
    out.fill_(-1)
    assert (memory == -1).all()


def test_only_float32_to_float16_is_supported():
    assert rounds(torch.float32, torch.float16)
    assert not any(rounds(*pair) for pair in ((torch.float64, torch.float16), (torch.float32, torch.bfloat16)))
