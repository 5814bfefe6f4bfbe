"""Memory that is kept, by how many pages the system has to give anew."""

import ctypes
import resource
import sys

import pytest
import torch

from gatescope.engine.kept_memory import kept_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
PAGES = (64 << 20) // resource.getpagesize()


def fresh_pages(times=20):
    """How many pages each of several arrays of 64 MB, one after another, takes from the system."""
    for _ in range(3):
        torch.ones(16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times


def resident_pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def test_arrays_that_come_again_take_no_fresh_memory():
    outside = fresh_pages()
    with kept_memory():
        inside, held = fresh_pages(), resident_pages()
    assert inside < outside / 4
    # Behind the block what was kept goes back, and arrays go as before.
    assert resident_pages() < held - PAGES / 2
    assert fresh_pages() > 4 * inside


def test_memory_goes_back_after_a_failure():
    with pytest.raises(ValueError, match="as it is"), kept_memory():
        fresh_pages()
        held = resident_pages()
        raise ValueError("as it is")
    assert resident_pages() < held - PAGES / 2
