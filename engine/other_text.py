"""What was read beside states that another program recorded: tokens, and the word of each where it is known."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path
from gatescope.engine.other_sequences import Cube
from gatescope.engine.vocabulary import EASILY_MISSED

TOKENS = ("tokens", "token_ids", "word_ids", "words", "chars")


def stored_text(
    name: str, arrays: dict[str, Any], cube: Cube | None, n_rows: int
) -> tuple[np.ndarray | None, list[str] | None]:
    """Return the tokens of a file, uint32 [N], and the word of each number, both as far as they are known.

    Numbers are taken as they are, before words, which are numbered in their order.

    Args:
        name: of the file, for messages.
        arrays: all that are in it.
        cube: how sequences lie in states of three dimensions, if there are such.
        n_rows: N.

    Raises:
        InputError: tokens that do not fit the states, or are neither whole numbers from 0 nor words.
    """
    there = [each for each in TOKENS if each in arrays]
    chosen = next((each for each in there if arrays[each].dtype.kind in "iu"), there[0] if there else None)
    if chosen is None:
        return None, None
    dtype, shape = np.dtype(arrays[chosen].dtype), list(arrays[chosen].shape)
    if dtype.kind not in "iuUSOT":
        raise InputError(f"{name}: {chosen} are {dtype}: expected whole numbers from 0, or words")
    are_words = dtype.kind not in "iu"
    shapes = [[n_rows], *([list(cube.shape)] if cube else [])]
    if shape not in shapes:
        problem = f"{name}: {chosen} {shape} are not one for each state: expected {' or '.join(map(str, shapes))}"
        if not are_words:
            raise InputError(problem)
        # A list of all words has that name too.
        warnings.warn(f"{problem}; they are ignored", stacklevel=4)
        return None, None
    tokens = np.asarray(arrays[chosen][:])
    tokens = tokens if tokens.ndim == 1 or cube is None else cube.rows(tokens)
    if are_words:
        words, tokens = np.unique(tokens, return_inverse=True)
        return tokens.astype(np.uint32), _words(name, chosen, words)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < 2**32 - 1:
        raise InputError(f"{name}: {chosen} are not {n_rows} whole numbers from 0")
    vocabulary = None
    if "vocabulary" in arrays:
        vocabulary = _words(name, "vocabulary", np.asarray(arrays["vocabulary"][:]))
    if vocabulary is not None and tokens.size and tokens.max() >= len(vocabulary):
        raise InputError(f"{name}: {chosen} go up to {tokens.max()}, but vocabulary has {len(vocabulary)} entries")
    return tokens.astype(np.uint32), vocabulary


def text_of_file(name: str, path: str | os.PathLike[str], n_rows: int) -> tuple[np.ndarray, list[str]]:
    """Return the tokens of a text, uint32 [N], and the character of each.

    Args:
        name: of the states, for messages.
        path: a UTF-8 text of N characters.
        n_rows: N.

    Raises:
        InputError: it cannot be read, or has another length.
    """
    try:
        text = local_path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"--text {path} is not UTF-8 at offset {error.start}: convert it (iconv -t UTF-8)") from None
    except OSError as error:
        raise InputError(f"--text {path} cannot be read: {error.strerror}") from None
    if len(text) != n_rows:
        more = [f"{text.count(sign)} of them {word}" for sign, word in EASILY_MISSED.items() if sign in text]
        found = counted(len(text), "character") + (f" ({', '.join(more)})" if more else "")
        raise InputError(f"--text {path} has {found}, but {name} has {counted(n_rows, 'row')}")
    codes, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    return tokens.astype(np.uint32), [chr(code) for code in codes]


def _words(name: str, array: str, values: np.ndarray) -> list[str]:
    """Return words, bytes in UTF-8 or code points as strings."""
    try:
        if values.dtype.kind in "iu":
            return [chr(code) for code in values]
        words = [str(value, "utf-8", "surrogatepass") if isinstance(value, bytes) else str(value) for value in values]
        if values.dtype.kind in "US":
            # NumPy takes the NUL at the end of a word for none.
            words = [word or "\0" for word in words]
    except (OverflowError, ValueError) as error:
        raise InputError(f"{name}: {array} is not text: {error}") from None
    return words
