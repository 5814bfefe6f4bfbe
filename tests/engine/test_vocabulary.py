"""Characters and ids, both ways."""

import numpy as np
import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.vocabulary import UNKNOWN, Vocabulary, code_points


@pytest.mark.parametrize(("n_characters", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_ids_are_indices_in_the_smallest_dtype(n_characters, dtype):
    characters = tuple(map(chr, range(300, 300 + n_characters)))
    vocabulary, text = Vocabulary(characters), "".join(reversed(characters))
    ids = vocabulary.encode(text)
    assert ids.dtype == vocabulary.dtype == dtype and ids.tolist() == list(range(n_characters))[::-1]
    assert vocabulary.decode(ids) == text
    table = vocabulary.table()
    assert table[299] == -1 and table[300] == 0 and (table >= 0).sum() == n_characters
    # The array is the caller's own.
    table[300] = 7
    assert vocabulary.encode(chr(300)).tolist() == [0]


def test_code_points_cover_surrogates_and_wide_characters():
    assert code_points("aé\ud800\U0001f600").tolist() == [0x61, 0xE9, 0xD800, 0x1F600]


def test_unknown_characters_are_refused_or_replaced():
    with_unknown = Vocabulary(("a", "b", UNKNOWN))
    with pytest.raises(InputError, match=r"'é' \(U\+00E9\) at offset 12 is not among the 3 characters"):
        with_unknown.encode("abé", offset=10)
    assert with_unknown.decode(with_unknown.encode("abé", errors="replace")) == "ab" + UNKNOWN
    with pytest.raises(InputError, match="has no U"):
        Vocabulary(("a", "b")).encode("abé", errors="replace")
