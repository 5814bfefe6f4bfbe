"""A text as integer ids: the built-in corpus, and any UTF-8 file.

A text is read twice in pieces, first to count its characters, then to write their ids, so that a corpus of any size
needs little memory. The ids lie in one `.npy` file that is memory-mapped afterwards.

Vocabulary: the characters of the text in code point order, but those that occur less often than once in each whole
million characters share the single entry U+FFFD. A text of less than two million characters has no rare ones, and a
vocabulary without rare characters has no such entry.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import shlex
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, sync_folder
from gatescope.engine.location import local_path, path_text
from gatescope.engine.vocabulary import EASILY_MISSED, N_CODE_POINTS, UNKNOWN, Vocabulary, code_points

RARE = 1_000_000  # a character is rare if it occurs less often than once in this many
PIECE_BYTES = 1 << 24
HEAD_CHARACTERS = 1_000_000

# Left out of the built-in corpus: tests, other people's packages, and generated tables.
STDLIB_LEFT_OUT = {
    *("test", "tests", "idle_test", "turtledemo", "__pycache__"),
    *("site-packages", "dist-packages", "_bundled"),
    *("encodings", "pydoc_data", "lib-dynload"),
}


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

    @property
    def warning(self) -> str | None:
        """A line on characters that few expect in a text, or None if it has none of them."""
        found = {name: int(self.counts[ord(sign)]) for sign, name in EASILY_MISSED.items()}
        counts = " and ".join(f"{count:,} {name}" for name, count in found.items() if count)
        return f"{self.source} has {counts}, which the model learns as characters" if counts else None


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
        command = f"gatescope corpus {shlex.quote(source)} --glob ... --out FILE"
        raise InputError(f"corpus {source!r} is a folder: make a text from it with `{command}`") from None
    except PermissionError:
        raise InputError(f"corpus {source!r} cannot be read: check its permissions") from None


def _not_utf8(source: str, offset: int) -> InputError:
    return InputError(
        f"{source} is not UTF-8: the byte at offset {offset:,} cannot be decoded; convert the file (iconv -t UTF-8), "
        "or let train and extract read such bytes as U+FFFD with --errors replace"
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
        InputError: the text cannot be read, has fewer than two characters, or there is no such way to read it.
    """
    source = path_text(source)
    if errors not in ("strict", "replace"):
        raise InputError(f"errors {errors!r} is unknown: expected 'strict' or 'replace'")
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
                raise InputError(
                    f"corpus {survey.source!r} changed while it was being read: give a text that nothing changes"
                )
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
