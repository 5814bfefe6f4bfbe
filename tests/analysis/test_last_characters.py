"""The last characters of each row, against the text read by hand."""

import numpy as np
import pytest

from gatescope.analysis.last_characters import BEFORE_START, last_characters


@pytest.mark.parametrize("alignment", ["post", "pre"])
def test_last_characters_stay_within_the_sequence(alignment):
    text, starts = "abcdefgh", np.array([0, 3, 8])
    tokens, rows = np.arange(8, dtype=np.uint8), np.array([7, 0, 4, 2])
    found = last_characters(tokens, starts, rows, 3, alignment)
    read = ["".join("." if code == BEFORE_START else text[code - 1] for code in each) for each in found.T]
    assert read == (["hgf", "a..", "ed.", "cba"] if alignment == "post" else ["gfe", "...", "d..", "ba."])
    assert last_characters(tokens, starts, rows, 0).shape == (0, 4)
