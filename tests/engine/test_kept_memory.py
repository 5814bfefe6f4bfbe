"""Memory that is kept between arrays, measured by how many pages the system has to hand out anew.

The heap has holes between the blocks that stay, and glibc serves arrays from those holes, whatever its settings for
fresh memory. So each test runs in a process of its own, and the arrays after the context are larger than all holes.
"""

import ctypes
import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from gatescope.engine.kept_memory import kept_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
PAGES = (64 << 20) // resource.getpagesize()

# How many times as large the arrays after the context are.
LARGER = 8


def fresh_pages(times=20, larger=1):
    """How many pages each of several arrays of 64 MB (times `larger`) takes from the system, one after another.

    The first arrays are not counted: they only find their places.
    """
    for _ in range(times):
        torch.ones(larger * (16 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(larger * (16 << 20))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times


def resident_pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def pages_around_a_block():
    outside = fresh_pages()
    with kept_memory():
        inside, held = fresh_pages(), resident_pages()
    return outside, inside, held, resident_pages(), fresh_pages(3, LARGER)


def pages_around_a_failure():
    try:
        with kept_memory():
            fresh_pages()
            held = resident_pages()
            raise ValueError("as it is")
    except ValueError as error:
        return str(error), held, resident_pages()


def alone(function):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function).result()


def test_repeated_arrays_reuse_their_memory():
    outside, inside, held, left, behind = alone(pages_around_a_block)
    assert inside < outside / 100
    # After the context the kept memory is returned, and arrays are allocated as before.
    assert left < held - PAGES / 2
    assert behind > outside / 4


def test_memory_is_returned_after_a_failure():
    message, held, left = alone(pages_around_a_failure)
    assert message == "as it is"
    assert left < held - PAGES / 2
