"""One text out of a source tree, deterministic, with a manifest of the files in it."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from gatescope.engine.config_values import plain, require_values
from gatescope.engine.differences import first_difference, shortened
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, remove_partial_of, write_json
from gatescope.engine.location import local_path


@dataclass(frozen=True)
class TreeConfig:
    """What of a source tree goes into the text."""

    glob: tuple[str, ...] = ("*.c", "*.h")  # names of the files to take, in all folders
    shuffle: bool = False  # order the files at random (--seed) instead of by path
    limit: int = 0  # stop before the text is larger than this, bytes; 0: no limit

    def __post_init__(self) -> None:
        require_values(self)
        if not self.glob:
            raise InputError("--glob is empty: give patterns such as '*.py'")
        path = next((each for each in self.glob if "/" in each), None)
        if path:
            raise InputError(f"--glob {path!r}: expected a pattern of file names, which is applied in all folders")
        if self.limit < 0:
            raise InputError(f"--limit {self.limit} is negative: give a number of bytes, or 0 for no limit")


def write_corpus(
    tree: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: TreeConfig,
    seed: int = 0,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the files of a tree one after the other, each ending with a newline, and the manifest `OUT.manifest.json`.

    Files are taken in the order of their paths relative to the tree (compared as strings, with `/`), or shuffled from
    that order. Symbolic links are not followed; these and files that are empty or not UTF-8 are left out, as the
    manifest says.

    Args:
        tree: the folder.
        out: the text to write, UTF-8.
        config: which files, in which order, how much.
        seed: of the shuffle.
        overwrite: write the text anew, whatever is there; else one of the same settings is left as it is.

    Returns:
        The manifest: files, bytes, characters, sha256, and each file's path, bytes, characters and sha256.

    Raises:
        InputError: no such folder, no file in it fits, or `out` is there and was made with other settings, or altered.
        OSError: a file or folder cannot be read.
    """
    tree, out = local_path(tree), local_path(out)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: give the text to write")
    settings = plain({"tree": tree.absolute(), "seed": seed, **asdict(config)})
    manifest_path = _manifest_of(out)
    if out.exists() and not overwrite:
        return _earlier(out, manifest_path, settings)
    if not tree.is_dir():
        what = "is not a folder" if tree.exists() else "does not exist"
        raise InputError(f"source tree {str(tree)!r} {what}: give the folder whose files form the text")
    # What an earlier run wrote is no source.
    paths, unfit = _matching(tree, config.glob, {out.resolve(), manifest_path.resolve()})
    if config.shuffle:
        random.Random(seed).shuffle(paths)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in (out, manifest_path):
        remove_partial_of(path)
    temporary = partial_name(out)
    try:
        with open(temporary, "xb") as text:
            summary, files, left_out, beyond = _joined(tree, paths, text, config.limit)
            text.flush()
            os.fsync(text.fileno())
        if not files and beyond:
            raise InputError(f"{tree / beyond} alone is larger than --limit {config.limit:,} bytes: raise the limit")
        if not files:
            raise InputError(
                f"no file under {str(tree)!r} matches --glob {' '.join(config.glob)} and is UTF-8 text: give other "
                "patterns, such as --glob '*.py'"
            )
        # A text without a manifest is written anew; one with another's would pass for it.
        manifest_path.unlink(missing_ok=True)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    manifest = {**summary, "settings": settings, "files": files, "left_out": left_out + unfit}
    write_json(manifest_path, manifest)
    return manifest


def file_lengths(text: str, n_characters: int) -> list[int]:
    """Return the characters of each file in a text that `write_corpus` made, or of any other text those of the whole.

    Args:
        text: its path.
        n_characters: of the whole.
    """
    try:
        manifest = json.loads(_manifest_of(Path(text)).read_text(encoding="utf-8"))
        lengths = [int(file["characters"]) for file in manifest["files"]]
        is_its_own = Path(text).stat().st_size == manifest["bytes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return [n_characters]
    return lengths if is_its_own and min(lengths, default=0) > 0 and sum(lengths) == n_characters else [n_characters]


def _manifest_of(text: Path) -> Path:
    return text.with_name(text.name + ".manifest.json")


def _earlier(out: Path, manifest_path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of a text that is there already, of the same settings."""
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        difference = first_difference(manifest["settings"], settings)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"--out {out} exists, but has no manifest with its settings: choose another, or give --overwrite"
        ) from None
    if difference:
        name, before, now = difference
        raise InputError(
            f"{out} was made with {name} = {shortened(before)}, not {shortened(now)}: choose another --out, or give "
            "--overwrite"
        )
    with out.open("rb") as text:
        if hashlib.file_digest(text, "sha256").hexdigest() != manifest.get("sha256"):
            raise InputError(
                f"{out} is not the text that its manifest describes: choose another --out, or give --overwrite"
            )
    return manifest


def _joined(
    tree: Path, paths: list[str], text: BinaryIO, limit: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], str]:
    """Write files one after the other, up to the limit.

    Returns:
        what they are together, the files, those that were left out, and the one that would go beyond the limit, if any.
    """
    files, left_out, beyond = [], [], ""
    digest, n_bytes, n_characters = hashlib.sha256(), 0, 0
    for path in paths:
        content = (tree / path).read_bytes()
        if content and not content.endswith(b"\n"):
            content += b"\n"
        try:
            characters = len(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            left_out.append({"path": path, "why": f"byte {error.start:,} is not UTF-8"})
            continue
        if not content:
            left_out.append({"path": path, "why": "empty"})
            continue
        if limit and n_bytes + len(content) > limit:
            beyond = path
            break
        text.write(content)
        digest.update(content)
        n_bytes += len(content)
        n_characters += characters
        size = {"bytes": len(content), "characters": characters}
        files.append({"path": path, **size, "sha256": hashlib.sha256(content).hexdigest()})
    return {"bytes": n_bytes, "characters": n_characters, "sha256": digest.hexdigest()}, files, left_out, beyond


def _matching(tree: Path, patterns: Sequence[str], own: set[Path]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the files whose names fit, in order, but for our own, and what else has such a name, with what it is."""

    def refuse(error: OSError) -> None:
        raise error

    paths, others = [], []
    for folder, _, names in os.walk(tree, onerror=refuse):
        for name in names:
            path = Path(folder, name)
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                continue
            inside = path.relative_to(tree).as_posix()
            if path.is_file() and not path.is_symlink():
                paths += [inside] if path.resolve() not in own else []
            else:
                others.append({"path": inside, "why": "a symbolic link" if path.is_symlink() else "no file"})
    return sorted(paths), sorted(others, key=lambda other: other["path"])
