"""Findings that chance alone could produce: with many hypotheses, the best of many units, or any units held.

The best of H units looks good even for labels that have nothing to do with the text, and the neighbouring characters of
a text are not independent rows, which rules out textbook p-values. A circular shift of each sequence's labels keeps the
runs of the labels and of the states as they are, and breaks only the link between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gatescope.analysis.split import sequence_ids_of

# Effects, in nats per character, that float32 does not distinguish: of one set of units, run along with other sets.
SAME = 1e-6


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that bound the share of false findings (Benjamini & Hochberg, 1995).

    `q_(i) = min over j >= i of p_(j) m / j` for the m sorted p-values. Calling every hypothesis with `q <= 0.05` known
    keeps the expected share of false calls at no more than 5%, for independent or positively dependent tests.

    Args:
        p: p-values of all hypotheses and state sets together, any shape; NaN where there was no test.

    Returns:
        float64 of the same shape; NaN stays NaN and is not counted in m.
    """
    # Here because SciPy's statistics take a second to import, and most commands need none of them.
    from scipy.stats import false_discovery_control

    adjusted, tested = np.full(np.shape(p), np.nan), ~np.isnan(p)
    adjusted[tested] = false_discovery_control(p[tested])
    return adjusted


def circular_shift(rows: np.ndarray, sequence_starts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions that shift each sequence's rows circularly by a distance of its own.

    Args:
        rows: [n] row indices of whole sequences, each sequence's rows in order and together.
        sequence_starts: [S + 1] first row of each sequence, then N.
        generator: draws each sequence's distance, from 0 to its length less 1.

    Returns:
        [n] int64 positions in 0 ... n - 1: use them to index the labels at these rows, not those of the whole text.
    """
    sequence = sequence_ids_of(rows, sequence_starts)
    _, first, of_row, lengths = np.unique(sequence, return_index=True, return_inverse=True, return_counts=True)
    distance = generator.integers(lengths)
    within = np.arange(len(rows)) - first[of_row]
    return first[of_row] + (within + distance[of_row]) % lengths[of_row]


def shift_test(
    statistics: Iterable[Callable[[np.ndarray, np.ndarray], np.ndarray]],
    Y: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    sequence_starts: np.ndarray,
    n_shifts: int,
    seed: int,
) -> np.ndarray:
    """P-value of a statistic, such as the best unit's |AUROC - 1/2|, against circularly shifted labels.

    `p = (1 + #{shifts whose statistic is at least the observed one}) / (1 + n_shifts)` (Phipson & Smyth, 2010). With
    the best of all units as the statistic, p accounts for the search among them.

    Args:
        statistics: each maps labels [n, K] and weights [n, K] to [K], larger for a stronger finding; the largest of all
            counts. They hold the states themselves, so only one is requested at a time.
        Y, weight: [n, K] labels and where they are defined; both are shifted together.
        rows: [n] the rows that they belong to, whole sequences.
        sequence_starts: [S + 1] first row of each sequence, then N.
        n_shifts: shifts to draw; p is never below 1 / (1 + n_shifts).
        seed: of the shifts.

    Returns:
        [K], NaN where the observed statistic is NaN, and where labels differ only between sequences, since no shift
        changes such labels. A shift whose statistic is NaN counts against the finding.
    """
    observed, null = np.full(Y.shape[1], -np.inf), np.full((n_shifts, Y.shape[1]), -np.inf)
    for statistic in statistics:
        observed = np.maximum(observed, statistic(Y, weight))
        generator = np.random.default_rng(seed)
        for of_shift in null:
            moved = circular_shift(rows, sequence_starts, generator)
            np.maximum(of_shift, statistic(Y[moved], weight[moved]), out=of_shift)
    # "Not below" rather than "at least", so that NaN counts.
    p = (1 + (~(null < observed)).sum(axis=0)) / (1 + n_shifts)
    of_sequence = sequence_ids_of(rows, sequence_starts)
    within = (of_sequence[1:] == of_sequence[:-1])[:, None]
    moves = (within & ((Y[1:] != Y[:-1]) | (weight[1:] != weight[:-1]))).any(axis=0)
    return np.where(np.isnan(observed) | ~moves, np.nan, p)


def p_value(found: float, random: np.ndarray) -> float:
    """P-value of an intervention's effect: the share of random interventions with at least that effect.

    The tested one is counted among them.

    Args:
        found: the effect, in nats per character.
        random: [R] effects of random sets of units or directions; NaN where states were not finite.

    Returns:
        At least 1 / (R + 1); NaN if the effect is NaN.
    """
    if np.isnan(found):
        return np.nan
    # "Not below" rather than "at least", so that NaN counts: states may grow without bound if a direction is erased.
    return float((1 + (~(random < found - SAME)).sum()) / (1 + len(random)))
