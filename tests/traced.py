"""The memory that a function takes."""

import tracemalloc


def traced(function):
    """Return what a function returns and the most memory that it took, bytes, when all that it needs was loaded."""
    function()
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
