"""Which sequences train a probe and which test it, and the rows that belong to them.

Neighbouring characters of one sequence share almost their whole hidden state, so a split by character puts near copies
of the training rows into the test set and the score measures memory. Every split of gatescope is therefore a split of
whole sequences. A sequence s owns the rows `sequence_starts[s]:sequence_starts[s + 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatescope.engine.errors import InputError


def split_sequences(n_sequences: int, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide sequences at random into a training and a test part.

    The test part has the whole number of sequences nearest to `test_share * n_sequences`, but both parts keep at least
    one sequence.

    Args:
        n_sequences: S, the number of sequences.
        test_share: share of the sequences to test on, strictly between 0 and 1.
        seed: of the random choice; equal seeds give equal splits.

    Returns:
        train, test: sorted int64 sequence indices, disjoint, together 0 ... S - 1.

    Raises:
        InputError: fewer than two sequences, or a share outside (0, 1).
    """
    if not 0.0 < test_share < 1.0:
        raise InputError(f"test share is {test_share}, expected a number between 0 and 1: give 0.2 to test on a fifth")
    if n_sequences < 2:
        raise InputError(
            f"{n_sequences} sequence(s) cannot be split into training and test, expected at least 2: "
            "sample or extract more sequences"
        )
    n_test = min(max(round(test_share * n_sequences), 1), n_sequences - 1)
    order = np.random.default_rng(seed).permutation(n_sequences)
    return np.sort(order[n_test:]), np.sort(order[:n_test])


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
    # A running index over the output, moved in each sequence's segment from where it stands there to the sequence's
    # first row.
    segment_starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts[chosen] - segment_starts, lengths)


def sequence_ids_of(rows: np.ndarray, sequence_starts: np.ndarray) -> np.ndarray:
    """The sequence that each row belongs to; empty sequences own no row.

    Args:
        rows: [n] row indices in 0 ... N - 1, in any order.
        sequence_starts: [S + 1] first row of each sequence, then the number of rows N.

    Returns:
        [n] int64 sequence indices.
    """
    return np.searchsorted(np.asarray(sequence_starts), rows, side="right") - 1
