"""Several dumps of one model as one: those of processes that worked side by side, or more text after the first.

The rows of the parts follow each other, and so do their sequences and documents. What all parts say
of their origin is kept as it is, and the rest goes into the attribute `parts`, one entry for each. A part that says
`continues_document` goes on in the last document of the part before. Concatenating the parts of one run gives the dump
that the run would have written alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.engine.array_name import layer_and_state
from gatescope.engine.block_file import block_name, write_block
from gatescope.engine.block_table import BlockTable
from gatescope.engine.differences import shortened
from gatescope.engine.dump import BOUNDS, GROUP_FILE, StateDump, read_group
from gatescope.engine.dump_folder import put_in_place, reserved
from gatescope.engine.dump_spec import INITIAL_ROWS, DumpSpec, create_skeleton, difference
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, sync_folder, write_json
from gatescope.engine.location import local_path
from gatescope.engine.progress import progress_bar

CONTINUES = "continues_document"
# What must be the same in all parts: their states would mean different things.
SHARED = ("vocabulary", "weights_sha256", "cell", "gates", "alignment", "prime")


def concatenate(
    parts: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> int:
    """Write the rows of several dumps, one dump after another, into one; go on with one that was interrupted.

    At most a few blocks are in memory. Every part is verified first.

    Args:
        parts: the dumps, in order.
        out: the dump to write; where it is the first of the parts, the others are appended to it, unless it ends with
            them already.
        overwrite: start anew if `out` is there.

    Returns:
        The number of rows.

    Raises:
        InputError: no part, a part that is not whole, parts of different models or arrays (the first difference is
            named), or an `out` that is one of the parts, a URL or something else.
    """
    parts = [parts] if isinstance(parts, str | os.PathLike) else parts
    paths, out = [local_path(part) for part in parts], local_path(out)
    if not paths:
        raise InputError("no dumps: give the dumps to concatenate")
    places = [part.resolve() for part in paths]
    twice = next((part for number, part in enumerate(paths) if places[number] in places[:number]), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice: give each dump once")
    if out.resolve() == places[0]:
        return _append(paths)
    if out.resolve() in places:
        raise InputError(f"{out} is one of the dumps: give another --out, or name it first to append to it")
    dumps = [_whole(path) for path in paths]
    spec = concatenated_spec(dumps)
    if (out / GROUP_FILE).exists() and not overwrite:
        _refuse_another(out, spec)
    out.parent.mkdir(parents=True, exist_ok=True)
    with DumpWriter(out, spec, overwrite=overwrite) as writer:
        _copy(dumps, writer)
    return spec.n_rows


def _refuse_another(out: Path, spec: DumpSpec) -> None:
    """Refuse a dump that was not made of the parts, saying what it is."""
    there = StateDump.open(out, finished=False)
    if difference(there, spec):
        n_parts = len(there.attributes.get("parts", ()))
        kinds = dict.fromkeys(each.get("kind") for each in (there.attributes, *there.attributes.get("parts", ())))
        made = " and ".join(filter(None, kinds)) + f" in {n_parts} parts" * bool(n_parts)
        raise InputError(
            f"{out} is another dump, of {there.n_rows:,} characters{f' ({made})' if made else ''}, and these have "
            f"{spec.n_rows:,}: choose another --out, name it first to append to it, or start over with --overwrite"
        )


def _append(parts: Sequence[Path]) -> int:
    """Replace the first part by a dump that has the rows of the others after its own.

    The blocks that are full are shared, not copied: the files of committed blocks are never written to. The new dump
    takes the place of the old one at once, when it is whole.
    """
    path = parts[0].resolve()
    with reserved(path):
        dumps = [_whole(part) for part in parts]
        spec = concatenated_spec(dumps)
        if _ends_with(*dumps):
            return dumps[0].n_rows
        partial = partial_name(path)
        try:
            create_skeleton(partial, spec)
            _share_blocks(dumps[0], partial, spec)
            with DumpWriter(partial, spec) as writer:
                _copy(dumps, writer)
            put_in_place(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return spec.n_rows


def _ends_with(first: StateDump, *others: StateDump) -> bool:
    """Whether a dump ends with the rows of the others, as if they had been appended."""
    stop = first.n_rows - sum(dump.n_rows for dump in others)
    if stop <= 0:
        return False
    for dump in others:
        start, stop = stop, stop + dump.n_rows
        if not np.array_equal(first.tokens_of(start, stop), dump.tokens_of(0, dump.n_rows)):
            return False
        # The same text may have been read by another model.
        ends = dump.sequence_starts[1:] - 1
        if any(not np.array_equal(first.array(n)[start + ends], dump.array(n)[ends]) for n in dump.names):
            return False
    return True


def concatenated_spec(dumps: Sequence[StateDump]) -> DumpSpec:
    """Return what the dump of all rows holds.

    Raises:
        InputError: dumps of different models or arrays.
    """
    headers = [read_group(dump.location)["attributes"]["gatescope"] for dump in dumps]
    for dump, header in zip(dumps[1:], headers[1:], strict=True):
        for key in SHARED:
            _compare(dumps[0], dump, key, dumps[0].attributes.get(key), dump.attributes.get(key))
        for key in ("dtype", "token_dtype", "arrays", "initial"):
            _compare(dumps[0], dump, key, headers[0][key], header[key])
    offsets = np.cumsum([0, *(dump.n_rows for dump in dumps)])
    bounds = {
        name: np.concatenate(
            [
                np.zeros(1, np.int64),
                *(getattr(dump, name)[1:] + offset for dump, offset in zip(dumps, offsets[:-1], strict=True)),
            ]
        )
        for name in BOUNDS
    }
    first = headers[0]
    continued = [
        offset for dump, offset in zip(dumps[1:], offsets[1:-1], strict=True) if dump.attributes.get(CONTINUES)
    ]
    return DumpSpec(
        arrays=first["arrays"],
        sequence_starts=bounds["sequence_starts"],
        document_starts=np.setdiff1d(bounds["document_starts"], continued).astype(np.int64),
        initial=tuple(dict.fromkeys(layer_and_state(name)[1] for name in first["initial"])),
        token_dtype=np.dtype(first["token_dtype"]),
        dtype=dumps[0].dtype,
        attributes=_shared_attributes(dumps),
        block_rows=first["block_rows"],
        compression=first["compression"],
    )


def _whole(path: Path) -> StateDump:
    dump = StateDump.open(path)
    dump.require_whole()
    return dump


def _compare(one: StateDump, other: StateDump, key: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise InputError(
            f"{other.name} does not match {one.name}: {key} is {shortened(theirs)} there and {shortened(ours)} here; "
            "only dumps of one model with the same arrays can be concatenated"
        )


def _shared_attributes(dumps: Sequence[StateDump]) -> dict[str, Any]:
    """Return the attributes of all parts that are equal, and for each part the others, with its rows."""
    keys = list(dict.fromkeys(key for dump in dumps for key in dump.attributes if key not in ("parts", CONTINUES)))
    different = [key for key in keys if any(dump.attributes.get(key) != dumps[0].attributes.get(key) for dump in dumps)]
    shared = {key: dumps[0].attributes[key] for key in keys if key not in different}
    # The whole begins where its first part does.
    shared |= {CONTINUES: True} if dumps[0].attributes.get(CONTINUES) else {}
    if not different and not any("parts" in dump.attributes for dump in dumps):
        return shared
    parts: list[dict[str, Any]] = []
    for dump in dumps:
        own = {key: dump.attributes[key] for key in different if key in dump.attributes}
        earlier = dump.attributes.get("parts", [{"rows": dump.n_rows}])
        parts += [{**own, **part} for part in earlier]
    return {**shared, "parts": parts}


def _copy(dumps: Sequence[StateDump], writer: DumpWriter) -> None:
    """Append the rows that are not committed yet."""
    total, there = sum(dump.n_rows for dump in dumps), writer.committed_rows
    row, sequence = 0, 0
    with progress_bar("concatenate", total, "characters", there) as advance:
        for dump in dumps:
            starts, step = dump.sequence_starts, dump.array(dump.names[0]).block_rows
            initial = dump.initial_arrays
            for start in range(0, dump.n_rows, step):
                stop = min(start + step, dump.n_rows)
                first, behind = np.searchsorted(starts[:-1], (start, stop)).tolist()
                if behind > first and initial:
                    writer.write_initial(sequence + first, {name: each[first:behind] for name, each in initial.items()})
                if row + stop > there:
                    states = {name: dump.array(name)[start:stop] for name in dump.names}
                    writer.append(row + start, dump.tokens_of(start, stop), states)
                    advance(row + stop - max(row + start, there))
            row, sequence = row + dump.n_rows, sequence + len(starts) - 1


def _share_blocks(dump: StateDump, path: Path, spec: DumpSpec) -> None:
    """Give a dump without rows the full blocks of another, as links to the same files, and commit them."""
    block_rows = dump.array(dump.names[0]).block_rows
    n_blocks = dump.n_rows // block_rows if block_rows == min(spec.block_rows, spec.n_rows) else 0
    if not n_blocks:
        return
    for name in ("tokens", *spec.arrays):
        for index in range(n_blocks):
            key = f"{name}/{block_name(index, int(name != 'tokens'))}"
            _link(dump.path / key, path / key)
        sync_folder(path / name)
    begun = int(np.searchsorted(spec.sequence_starts[:-1], n_blocks * block_rows))
    named = {f"initial/{name}": array[:begun] for name, array in dump.initial_arrays.items()}
    arrays = {name: (values.shape[1:], spec.dtype) for name, values in named.items()}
    if named:
        table = BlockTable(path, arrays, spec.n_sequences, INITIAL_ROWS, 0)
        for files in (*table.fill(0, named), table.partial()):
            for file, block in files.items():
                write_block(file, block, spec.compression)
    group = read_group(path)
    group["attributes"]["gatescope"]["rows_committed"] = n_blocks * block_rows
    write_json(path / GROUP_FILE, group)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    # A file system without links.
    except OSError:
        shutil.copyfile(source, target)
