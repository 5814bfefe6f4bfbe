"""How often 95% intervals cover: `python -m benchmarks.interval_coverage [draws]`, about twelve minutes with 300 draws.

The data are random sequences of 300 characters that resemble a recurrent network's: a label comes in runs and only in
some sequences, a score follows it with noise that persists and that differs from sequence to sequence, and a second
score shares most of that noise. Each draw of S sequences gives intervals, which should cover the score of 6,000 other
sequences. The figures in a cell of the table are for intervals of central quantiles of the resamples, for those of
`intervals`, and, if one score is compared with another, for those of `paired_interval`.
"""

import sys

import numpy as np

from gatescope.analysis.influence import auroc_influence, r2_influence
from gatescope.analysis.intervals import (
    EXPLAINED,
    SHARE,
    UNBOUNDED,
    effective_sequences,
    paired_interval,
    resampled_metric,
    t_interval,
)
from gatescope.analysis.metrics import (
    classification_metrics,
    confusion_by_sequence,
    moment_metrics,
    moments_by_sequence,
)
from gatescope.analysis.ordering import auroc, resampled_auroc

LENGTH = 300
N_BOOTSTRAP = 1000
SEQUENCES = (8, 12, 20, 40)
POPULATION = 6000
KINDS = ("quantiles", "t", "influence")
# Share of the sequences in which the label occurs at all; how far the score moves with it (None: the label is a value);
# and how far the second score moves, as a fraction of that.
CASES = {
    "in 90% of sequences": (0.9, 2.5, 0.9),
    "in 40% of sequences": (0.4, 2.5, 0.9),
    "in 15% of sequences": (0.15, 2.5, 0.9),
    "predicted nearly always": (0.6, 5.0, 0.9),
    "predicted by both alike": (0.6, 2.5, 1.0),
    "hardly predicted": (0.6, 0.6, 0.9),
    "not predicted": (0.6, 0.0, 1.0),
    "a value": (1.0, None, 0.9),
}


def lasting(rng, shape, memory):
    """Noise of variance 1 that persists along sequences, [S, T]."""
    noise = rng.normal(size=shape)
    for t in range(1, shape[1]):
        noise[:, t] = memory * noise[:, t - 1] + np.sqrt(1 - memory**2) * noise[:, t]
    return noise


def runs(rng, n_sequences, share):
    """Labels in runs of 20 characters on average, [S, T]."""
    begins = np.where(rng.random(n_sequences) < share, rng.gamma(1.5, 0.01, n_sequences), 0)
    ends = 1 / 20
    holds = np.empty((n_sequences, LENGTH), dtype=bool)
    now = rng.random(n_sequences) < begins / (begins + ends)
    for t in range(LENGTH):
        chance = rng.random(n_sequences)
        now = np.where(now, chance > ends, chance < begins)
        holds[:, t] = now
    return holds


def draw(rng, n_sequences, share, strength, of_second):
    """Labels or values and two scores, [n, 1] each, and the sequence of each row."""
    shape = (n_sequences, LENGTH)

    def noise(of_sequence):
        return lasting(rng, shape, 0.8) + of_sequence * rng.normal(size=(n_sequences, 1))

    if strength is None:
        truth = lasting(rng, shape, 0.97) + rng.normal(size=(n_sequences, 1))
        scores = [truth + 0.7 * noise(0.6), truth + 0.7 * noise(0.6) + 0.3 * noise(0)]
    else:
        truth, shared = runs(rng, n_sequences, share), noise(0.5)
        scores = []
        for part in (1.0, of_second):
            own = 0.6 * noise(0.3) + 0.7 * truth * rng.normal(size=(n_sequences, 1))
            scores.append(part * strength * truth - 1.5 + 0.8 * shared + own)
    return [each.reshape(-1, 1) for each in (truth, *scores)], np.repeat(np.arange(n_sequences), LENGTH)


def scored(truth, first, second, ids, n_bootstrap, seed):
    """For each score its name, value, resamples [n_bootstrap, 1], effective number of sequences and bounds.

    For differences also the influence of each sequence [S].
    """
    everywhere = np.ones(truth.shape, dtype=bool)
    if truth.dtype == bool:
        areas = [auroc(truth, each, everywhere) for each in (first, second)]
        counts = confusion_by_sequence(truth, first > 0, everywhere, ids)
        f1, n = classification_metrics(counts.sum(axis=0))["f1"], effective_sequences(counts)
        yield "F1", f1, resampled_metric(counts, "f1", n_bootstrap, seed), n, SHARE, None
        drawn = [resampled_auroc(truth, each, everywhere, ids, n_bootstrap, seed) for each in (first, second)]
        yield "AUROC", areas[0], drawn[0], n, SHARE, None
        moved = [auroc_influence(truth, each, everywhere, ids)[:, 0] for each in (first, second)]
        yield "AUROC above another", areas[0] - areas[1], drawn[0] - drawn[1], n, UNBOUNDED, moved[0] - moved[1]
        return
    moments = [moments_by_sequence(truth, each, everywhere.astype(float), ids) for each in (first, second)]
    found = [moment_metrics(each.sum(axis=0))["r2"] for each in moments]
    drawn, n = [resampled_metric(each, "r2", n_bootstrap, seed) for each in moments], effective_sequences(moments[0])
    yield "R2", found[0], drawn[0], n, EXPLAINED, None
    moved = [r2_influence(each)[:, 0] for each in moments]
    yield "R2 above another", found[0] - found[1], drawn[0] - drawn[1], n, UNBOUNDED, moved[0] - moved[1]


def covered(rng, case, n_draws):
    """Shares of draws whose interval covers, `{score: {kind: [a number of SEQUENCES]}}`, and the value to cover."""
    population, ids = draw(rng, POPULATION, *case)
    truths = {name: value[0] for name, value, *_ in scored(*population, ids, 1, 0)}
    shares = {name: {kind: [] for kind in KINDS} for name in truths}
    for n_sequences in SEQUENCES:
        hits = {name: {kind: [] for kind in KINDS} for name in truths}
        for seed in range(n_draws):
            variables, ids = draw(rng, n_sequences, *case)
            for name, value, resampled, n, bounds, moved in scored(*variables, ids, N_BOOTSTRAP, seed):
                low, high = t_interval(value, resampled, n, bounds)
                if np.isnan(low[0]):
                    continue
                ends = [np.nanquantile(resampled[:, 0], [0.025, 0.975]), (low[0], high[0])]
                if moved is not None:
                    ends.append(paired_interval(value[0], moved, n[0])[:2])
                for kind, (below, above) in zip(KINDS, ends, strict=False):
                    hits[name][kind].append(below <= truths[name] <= above)
        for name, kinds in hits.items():
            for kind, each in kinds.items():
                # A draw in which the label occurs in hardly any sequence has no interval.
                shares[name][kind].append(np.mean(each) if len(each) > n_draws / 2 else np.nan)
    return shares, truths


def main():
    n_draws = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print("| hypothesis | score | is | " + " | ".join(f"S = {n}" for n in SEQUENCES) + " |")
    print("|---|---|---|" + "---|" * len(SEQUENCES))
    for title, case in CASES.items():
        shares, truths = covered(np.random.default_rng(0), case, n_draws)
        for name, kinds in shares.items():
            several = (
                [f"{each:.2f}" for each in of_each if not np.isnan(each)]
                for of_each in zip(*kinds.values(), strict=True)
            )
            cells = " | ".join(" / ".join(each) or "–" for each in several)
            print(f"| {title} | {name} | {truths[name]:.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
