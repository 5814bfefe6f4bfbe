"""A refusal for lack of room states both sizes in suitable units."""

import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import require_room, size


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.00 kB"),
        (2_345_678, "2.35 MB"),
        (10**9, "1.00 GB"),
        (8 * 10**13, "80,000.00 GB"),
    ],
)
def test_sizes_use_a_fitting_unit(n_bytes, said):
    assert size(n_bytes) == said


def test_the_error_names_needed_and_free_size():
    require_room(10, 10, "states", "the disk", "record fewer")
    with pytest.raises(InputError, match=r"^states take 5\.20 MB and the disk has 40\.00 kB free: record fewer$"):
        require_room(5_200_000, 40_000, "states", "the disk", "record fewer")
