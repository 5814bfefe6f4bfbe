"""Memory limits as people write them."""

import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.memory_limit import bytes_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("1GB", 10**9), ("500 mb", 5 * 10**8), ("1.5K", 1500), (12345, 12345), ("7", 7)],
)
def test_sizes_are_parsed_to_bytes(given, expected):
    assert bytes_of(given) == expected


@pytest.mark.parametrize("given", ["", "GB", "-1GB", "0", "1 PB", "many", 0])
def test_invalid_sizes_are_refused(given):
    with pytest.raises(InputError, match=r"memory_limit is .*expected a size such as"):
        bytes_of(given)
