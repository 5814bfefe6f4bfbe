"""The characters of a model, and their ids."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gatescope.engine.errors import InputError

UNKNOWN = "\ufffd"  # stands for every character that a vocabulary does not list, where it has an id
N_CODE_POINTS = 0x110000
# Characters that editors hide, so that whoever counts may not have counted them.
EASILY_MISSED = {"\r": "carriage returns", "\ufeff": "byte order marks"}


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a model: the place of a character is its id.

    Args:
        characters: the V characters, each once; U+FFFD, where present, stands for every character that is not listed.
    """

    characters: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(len(self.characters) - 1)

    def encode(self, text: str, errors: str = "strict", offset: int = 0) -> np.ndarray:
        """Return the id of every character, [N].

        Args:
            text: N characters.
            errors: "strict" refuses a character that the vocabulary lacks, "replace" reads it as U+FFFD.
            offset: where the text begins in what the user gave, for the message.

        Raises:
            InputError: with errors="strict", a character that the vocabulary lacks; with "replace", such a character
                where the vocabulary has no U+FFFD to stand for it.
        """
        points = code_points(text)
        ids = self._table[points]
        lacking = np.flatnonzero(ids < 0)
        if len(lacking):
            unknown = self.characters.index(UNKNOWN) if UNKNOWN in self.characters else None
            if errors == "strict" or unknown is None:
                place = int(lacking[0])
                remedy = (
                    "--errors replace reads it as U+FFFD"
                    if unknown is not None
                    else "this vocabulary has no U+FFFD to replace it: remove it from the text"
                )
                raise InputError(
                    f"character {text[place]!r} (U+{points[place]:04X}) at offset {offset + place:,} is not among the "
                    f"{len(self)} characters of the model's vocabulary; {remedy}"
                )
            ids[lacking] = unknown
        return ids.astype(self.dtype)

    def decode(self, ids: np.ndarray) -> str:
        """Return the text of ids [N]."""
        points = np.array([ord(character) for character in self.characters], dtype="<u4")
        return points[ids].tobytes().decode("utf-32-le")

    def table(self) -> np.ndarray:
        """Return the id of each code point, int32 [1,114,112]; -1 where the vocabulary lacks it."""
        return self._table.copy()

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """Made once: many short texts are encoded one by one."""
        table = np.full(N_CODE_POINTS, -1, dtype=np.int32)
        table[[ord(character) for character in self.characters]] = np.arange(len(self), dtype=np.int32)
        return table


def code_points(text: str) -> np.ndarray:
    """Return the code point of every character, uint32 [N]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
