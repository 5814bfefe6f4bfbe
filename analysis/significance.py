"""Which findings would chance alone produce: many hypotheses, the best of many units, or any units held.

The best of H units looks good even for labels that have nothing to do with the text, and the neighbouring characters of
a text are no independent rows, which rules out textbook p-values. Shifting each sequence's labels around in a circle
keeps the runs of the labels and of the states as they are and breaks only the tie between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gatescope.analysis.split import sequence_ids_of

# Effects, in nats per character, that float32 does not tell apart: one set of units read beside other ones.
SAME = 1e-6


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that bound the share of false ones among the findings (Benjamini & Hochberg, 1995).

    `q_(i) = min over j >= i of p_(j) m / j` for the m sorted p-values. Calling every hypothesis with `q <= 0.05` known
    keeps the expected share of false calls at 5%, for independent or positively dependent tests.

    Args:
        p: p-values of all hypotheses and state sets together, any shape; NaN where there was no test.

    Returns:
        float64 of the same shape; NaN stays NaN and does not count among the m.
    """
    # Here because SciPy's statistics take a second to import, and most commands need none of them.
    from scipy.stats import false_discovery_control

    adjusted, tested = np.full(np.shape(p), np.nan), ~np.isnan(p)
    adjusted[tested] = false_discovery_control(p[tested])
    return adjusted


def circular_shift(rows: np.ndarray, sequence_starts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions that move each sequence's rows around in a circle by a distance of its own.

    Args:
        rows: [n] row indices that make up whole sequences, each sequence's rows in order and together.
        sequence_starts: [S + 1] first row of each sequence, then N.
        generator: draws each sequence's distance, 0 included, from all its rows.

    Returns:
        [n] int64 positions in 0 ... n - 1: index labels at these rows with them, not the labels of the whole text.
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
        statistics: each maps labels [n, K] and weights [n, K] to [K], and the largest of all counts: the larger, the
            stronger. They hold the states themselves; one at a time is asked for.
        Y, weight: [n, K] labels and where they are defined; both are shifted together.
        rows: [n] the rows they belong to, whole sequences.
        sequence_starts: [S + 1] first row of each sequence, then N.
        n_shifts: shifts to draw; p is never below 1 / (1 + n_shifts).
        seed: of the shifts.

    Returns:
        [K], NaN where the observed statistic is, and where labels differ between sequences only: every shift leaves
        such labels as they are. A shift whose statistic is NaN counts against the finding.
    """
    observed, null = np.full(Y.shape[1], -np.inf), np.full((n_shifts, Y.shape[1]), -np.inf)
    for statistic in statistics:
        observed = np.maximum(observed, statistic(Y, weight))
        generator = np.random.default_rng(seed)
        for of_shift in null:
            moved = circular_shift(rows, sequence_starts, generator)
            np.maximum(of_shift, statistic(Y[moved], weight[moved]), out=of_shift)
    # Not-below rather than at-least, so that NaN counts.
    p = (1 + (~(null < observed)).sum(axis=0)) / (1 + n_shifts)
    of_sequence = sequence_ids_of(rows, sequence_starts)
    within = (of_sequence[1:] == of_sequence[:-1])[:, None]
    moves = (within & ((Y[1:] != Y[:-1]) | (weight[1:] != weight[:-1]))).any(axis=0)
    return np.where(np.isnan(observed) | ~moves, np.nan, p)


def p_value(found: float, random: np.ndarray) -> float:
    """P-value of an intervention's effect among those of random ones: the share that have at least its effect.

    The tested one counts among them.

    Args:
        found: the effect, in nats per character.
        random: [R] effects of random sets of units or directions; NaN where states were not finite.

    Returns:
        At least 1 / (R + 1); NaN where the effect is.
    """
    if np.isnan(found):
        return np.nan
    # Not-below rather than at-least, so that NaN counts: with a direction erased states may grow beyond all bounds.
    return float((1 + (~(random < found - SAME)).sum()) / (1 + len(random)))
