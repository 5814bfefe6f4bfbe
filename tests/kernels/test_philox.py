"""Philox against its authors' known answers and against the uniform distribution."""

import pytest
import torch
from scipy import stats

from gatescope.kernels.philox import philox, uniform

# Random123's kat_vectors: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_matches_the_published_test_vectors(counter, key, expected):
    words = philox(key, tuple(torch.tensor([word]) for word in counter))
    assert [int(word) for word in words] == list(expected)


def test_uniform_depends_only_on_seed_sequence_and_step():
    sequences, steps = torch.arange(40), torch.arange(30)
    whole = uniform(7, sequences, steps)
    assert whole.shape == (30, 40)
    torch.testing.assert_close(uniform(7, sequences[11:13], steps[5:9]), whole[5:9, 11:13], rtol=0, atol=0)
    assert not torch.equal(uniform(8, sequences, steps), whole)
    assert len(whole.unique()) == whole.numel()


def test_uniform_is_uniform_and_inside_the_open_interval():
    numbers = uniform(3, torch.arange(1000), torch.arange(100)).flatten()
    assert numbers.min() > 0 and numbers.max() < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3


def test_sequences_beyond_32_bits_differ():
    low = uniform(0, torch.tensor([5]), torch.arange(4))
    high = uniform(0, torch.tensor([5 + 2**32]), torch.arange(4))
    assert not torch.equal(low, high)
