"""A text as integer ids: the built-in corpus, any UTF-8 file, and the character vocabulary.

A text is read twice in pieces, first to count its characters, then to write their ids, so that a corpus of any size
needs little memory. The ids lie in one `.npy` file that is memory-mapped afterwards.

Vocabulary: the characters of the text in code point order, but those that occur less often than once in each whole
million characters share the single entry U+FFFD. A text of less than two million characters has no rare ones, and a
vocabulary without rare characters has no such entry.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, sync_folder
from gatescope.engine.location import local_path

UNKNOWN = "\ufffd"
RARE = 1_000_000  # a character is rare if it occurs less often than once in this many
N_CODE_POINTS = 0x110000
PIECE_BYTES = 1 << 24
HEAD_CHARACTERS = 1_000_000

# Left out of the built-in corpus: tests, other people's packages, and generated tables.
STDLIB_LEFT_OUT = {
    *("test", "tests", "idle_test", "turtledemo", "__pycache__"),
    *("site-packages", "dist-packages", "_bundled"),
    *("encodings", "pydoc_data", "lib-dynload"),
}


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
                    else "this vocabulary has no U+FFFD to read it as: take it out of the text"
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


@dataclass(frozen=True)
class Survey:
    """What is in a text.

    Args:
        source: what the user called it.
        errors: how bytes that are not UTF-8 were read.
        n_characters: N.
        counts: how often each code point occurs, int64 [1,114,112].
        sha256: of the text in UTF-8.
        head: its first million characters.
    """

    source: str
    errors: str
    n_characters: int
    counts: np.ndarray
    sha256: str
    head: str


@dataclass(frozen=True)
class Corpus:
    """An encoded text.

    Args:
        tokens: ids [N] in the vocabulary's type, memory-mapped.
        vocabulary: the characters of the ids.
        rare: how many distinct characters became U+FFFD.
    """

    tokens: np.ndarray
    vocabulary: Vocabulary
    rare: int

    def split(self, validation_share: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Return training and validation ids: the text up to a point and the rest, never interleaved."""
        border = len(self.tokens) - n_held_out(len(self.tokens), validation_share)
        return self.tokens[:border], self.tokens[border:]


def n_held_out(n_characters: int, validation_share: float) -> int:
    """Return how many characters at the end of a text are for validation: two at least, so that one is predicted."""
    return max(2, round(n_characters * validation_share))


def code_points(text: str) -> np.ndarray:
    """Return the code point of every character, uint32 [N]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def read_pieces(source: str, errors: str = "strict") -> Iterator[str]:
    """Yield the text of a corpus piece by piece.

    Args:
        source: "stdlib", the running Python's own library, or the path of a UTF-8 file.
        errors: "strict" refuses bytes that are not UTF-8; "replace" reads them as U+FFFD.

    Raises:
        InputError: no such file, or bytes that are not UTF-8 (with their offset).
    """
    if source == "stdlib":
        for path in stdlib_files():
            yield path.read_bytes().decode("utf-8", "replace")
        return
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    offset = 0
    try:
        with open(local_path(source), "rb") as file:
            while piece := file.read(PIECE_BYTES):
                pending = len(decoder.getstate()[0])
                try:
                    yield decoder.decode(piece)
                except UnicodeDecodeError as error:
                    raise _not_utf8(source, offset - pending + error.start) from None
                offset += len(piece)
        pending = len(decoder.getstate()[0])
        try:
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(source, offset - pending) from None
    except FileNotFoundError:
        raise InputError(f"corpus {source!r} not found: give the path of a UTF-8 text, or stdlib") from None
    except IsADirectoryError:
        raise InputError(
            f"corpus {source!r} is a folder: make one text of it with `gatescope corpus {source} --glob ... --out FILE`"
        ) from None
    except PermissionError:
        raise InputError(f"corpus {source!r} may not be read: check its permissions") from None


def _not_utf8(source: str, offset: int) -> InputError:
    return InputError(
        f"{source} is not UTF-8: the byte at offset {offset:,} cannot be decoded; "
        "convert the file (iconv -t UTF-8); train and extract read such bytes as U+FFFD with --errors replace"
    )


def stdlib_files() -> list[Path]:
    """Return the sources of the running Python's library, sorted, without tests and vendored or generated files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in STDLIB_LEFT_OUT and not name.startswith("config-")]
        files += [Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfig")]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def survey_corpus(source: str | os.PathLike[str], errors: str = "strict") -> Survey:
    """Read a text once and say what is in it; nothing is written.

    Args:
        source: "stdlib" or the path of a UTF-8 file.
        errors: "strict" or "replace", for bytes that are not UTF-8.

    Raises:
        InputError: the text cannot be read, or has fewer than two characters.
    """
    source = os.fspath(source)
    counts = np.zeros(N_CODE_POINTS, dtype=np.int64)
    digest, head = hashlib.sha256(), ""
    for piece in read_pieces(source, errors):
        digest.update(piece.encode("utf-8"))
        present = np.bincount(code_points(piece))
        counts[: len(present)] += present
        head += piece[: HEAD_CHARACTERS - len(head)]
    n_characters = int(counts.sum())
    if n_characters < 2:
        count = ("no character", "1 character")[n_characters]
        raise InputError(f"corpus {source!r} has {count}: at least 2 are needed to predict one")
    return Survey(source, errors, n_characters, counts, digest.hexdigest(), head)


def encode_corpus(survey: Survey, path: Path) -> Corpus:
    """Write the ids of a text to `path` (`.npy`) and return them memory-mapped.

    Args:
        survey: of the text, which is read a second time.
        path: where the ids go; written beside its place and renamed.

    Raises:
        InputError: the text is not the one that was surveyed.
    """
    vocabulary, rare = vocabulary_of(survey)
    table = vocabulary.table()
    table[table < 0] = vocabulary.characters.index(UNKNOWN) if rare else 0
    temporary, digest, start = partial_name(path), hashlib.sha256(), 0
    header = {"descr": vocabulary.dtype.str, "fortran_order": False, "shape": (survey.n_characters,)}
    try:
        # Written and not stored through a mapping, in which a full disk ends the program.
        with temporary.open("xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for piece in read_pieces(survey.source, survey.errors):
                digest.update(piece.encode("utf-8"))
                ids = table[code_points(piece)][: survey.n_characters - start].astype(vocabulary.dtype)
                file.write(ids.data)
                start += len(ids)
            if digest.hexdigest() != survey.sha256:
                raise InputError(f"corpus {survey.source!r} changed while it was read: give a text that stays as it is")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return open_corpus(survey, path)


def open_corpus(survey: Survey, path: Path) -> Corpus:
    """Return the ids that `encode_corpus` wrote for this text."""
    return Corpus(np.load(path, mmap_mode="r"), *vocabulary_of(survey))


def vocabulary_of(survey: Survey) -> tuple[Vocabulary, int]:
    """Return the characters of a text that get an id of their own, and the number of different ones that do not."""
    kept = survey.counts >= max(1, survey.n_characters // RARE)
    rare = int(np.count_nonzero((survey.counts > 0) & ~kept))
    if rare:
        kept[ord(UNKNOWN)] = True
    return Vocabulary(tuple(chr(point) for point in np.flatnonzero(kept))), rare
