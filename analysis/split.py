"""Which sequences train a probe and which test it, and the rows that belong to them.

Neighbouring characters of one sequence share almost all of their hidden state, so a split by character puts near copies
of the training rows into the test set, and the score measures memory. So gatescope always splits by whole sequences.
A sequence s owns the rows `sequence_starts[s]:sequence_starts[s + 1]`.

Sequences that depend on each other share a group, and a group is never divided: copies of one text, and the sequences
into which a document was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.state_source import StateSource

# With fewer, a test part would have hardly more than one document.
FEWEST_DOCUMENTS = 10


def groups_of(source: StateSource) -> np.ndarray:
    """The group of each sequence: its document if there are at least 10, else itself; copies are one group.

    A copy has the same text and ends in the same state. Fewer documents than that are divided.

    Returns:
        int64 [S], equal where sequences belong together; numbered from 0.
    """
    starts, borders = source.sequence_starts, source.document_starts
    if divides_documents(source):
        borders = starts
    groups = np.searchsorted(borders, starts[:-1], side="right") - 1
    if source.tokens is not None:
        last = source.array(source.names[0])[borders[1:] - 1]
        numbers: dict[bytes, int] = {}
        copies = []
        for start, stop, state in zip(borders[:-1].tolist(), borders[1:].tolist(), last, strict=True):
            digest = hashlib.sha256(source.tokens[start:stop].tobytes() + state.tobytes()).digest()
            copies.append(numbers.setdefault(digest, len(numbers)))
        groups = np.array(copies, dtype=np.int64)[groups]
    return np.unique(groups, return_inverse=True)[1]


def divides_documents(source: StateSource) -> bool:
    """Whether documents are too few to be kept whole, so that a test sequence may follow a training one."""
    return len(source.document_starts) <= min(FEWEST_DOCUMENTS, len(source.sequence_starts) - 1)


def split_sequences(
    groups: np.ndarray, test_share: float, seed: int, n_folds: int = 1, fold: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the groups of sequences at random into a training and a test part.

    The test part has the whole number of groups nearest to `test_share` of all, but both parts keep at least one. If
    all sequences are one group, they are divided nevertheless: scores of a single group have no interval and so decide
    nothing. With several folds each tests its own part of nearly equal size; the first tests the part that a single
    split with test share `1 / n_folds` would.

    Args:
        groups: [S], the group of each sequence, numbered from 0, as returned by `groups_of`.
        test_share: share of the groups to test on, strictly between 0 and 1.
        seed: of the random choice; equal seeds give equal splits.
        n_folds: number of folds; with several, the test share is ignored.
        fold: index of the fold, from 0.

    Returns:
        train, test: sorted int64 sequence indices, disjoint, together 0 ... S - 1.

    Raises:
        InputError: fewer than two sequences, fewer groups than folds, or a share outside (0, 1).
    """
    if not 0.0 < test_share < 1.0:
        raise InputError(f"test share is {test_share}, expected a number between 0 and 1: give 0.2 to test on a fifth")
    if len(groups) < 2:
        raise InputError(
            f"{len(groups)} sequence(s) cannot be split into training and test, expected at least 2: sample or extract "
            "more, or mark the sequences of another program's states with --sequence-length or a column sequence_id of "
            "--labels"
        )
    n_groups = int(groups.max()) + 1
    if n_groups == 1:
        groups, n_groups = np.arange(len(groups)), len(groups)
    if n_folds > n_groups:
        raise InputError(f"--folds {n_folds}: expected at most {n_groups}, as many as there are sequences (documents)")
    first, last = (round(number * n_groups / n_folds) for number in (fold, fold + 1))
    if n_folds == 1:
        last = min(max(round(test_share * n_groups), 1), n_groups - 1)
    tested = np.zeros(n_groups, dtype=bool)
    tested[np.random.default_rng(seed).permutation(n_groups)[first:last]] = True
    return np.flatnonzero(~tested[groups]), np.flatnonzero(tested[groups])


@dataclass(frozen=True)
class Fold:
    """One division of the sequences into those that train probes and those that test them, with their rows.

    Args:
        train, test: sorted sequence indices.
        train_rows, test_rows: row indices.
    """

    train: np.ndarray
    test: np.ndarray
    train_rows: np.ndarray
    test_rows: np.ndarray


def folds_of(groups: np.ndarray, sequence_starts: np.ndarray, test_share: float, n_folds: int, seed: int) -> list[Fold]:
    """Return every division; arguments as for `split_sequences` and `rows_of`."""
    divided = [split_sequences(groups, test_share, seed, n_folds, fold) for fold in range(n_folds)]
    return [Fold(*parts, *(rows_of(part, sequence_starts) for part in parts)) for parts in divided]


def rows_of(sequences: Sequence[int] | np.ndarray, sequence_starts: np.ndarray) -> np.ndarray:
    """Row indices of the given sequences, one sequence after another in the order given.

    Args:
        sequences: sequence indices.
        sequence_starts: [S + 1] first row of each sequence, then the number of rows N.

    Returns:
        int64 row indices.
    """
    starts = np.asarray(sequence_starts, dtype=np.int64)
    chosen = np.asarray(sequences, dtype=np.int64)
    lengths = starts[chosen + 1] - starts[chosen]
    # A running index over the output, moved in each sequence's segment from its position there to the first row of the
    # sequence.
    segment_starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts[chosen] - segment_starts, lengths)


def sequence_ids_of(rows: np.ndarray, sequence_starts: np.ndarray) -> np.ndarray:
    """The sequence that each row belongs to; empty sequences have no row.

    Args:
        rows: [n] row indices in 0 ... N - 1, in any order.
        sequence_starts: [S + 1] first row of each sequence, then the number of rows N.

    Returns:
        [n] int64 sequence indices.
    """
    return np.searchsorted(np.asarray(sequence_starts), rows, side="right") - 1
