"""How often 95% intervals cover, for one test part and for folds: `python -m benchmarks.fold_coverage STATES`.

STATES is a dump of thousands of sequences. Each draw takes 100 of them and runs `gatescope probe` on their h and c,
with a fifth held out for the test and with five folds. Two intervals are checked: whether that of AUROC covers the
score of such probes on the 1,000 sequences that no draw takes, averaged over draws; and whether that of the difference
from the text baseline covers the average of this difference over draws. A second argument is the number of draws, 100
by default, which take 50 minutes on one core.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from gatescope.analysis.hypotheses import select
from gatescope.analysis.labels import Labels, label_dump
from gatescope.analysis.language import detect_language
from gatescope.analysis.ordering import auroc
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.split import rows_of
from gatescope.analysis.state_sets import state_sets
from gatescope.analysis.study import Study
from gatescope.analysis.study_fit import fit_study
from gatescope.engine.dump import StateDump
from gatescope.engine.other_dumps import open_states

SEQUENCES = 100
POPULATION = 1000
N_FOLDS = 5
ABOVE = "auroc_over_text"
NUMBERS = ("auroc", "auroc_low", "auroc_high", "baseline_text_auroc", f"{ABOVE}_low", f"{ABOVE}_high")


def covered(ends, truth):
    """The shares of intervals [draws, 2] that cover and that lie above the truth; dashes if most are unknown."""
    known = ends[~np.isnan(ends[:, 0])]
    if len(known) <= len(ends) / 2:
        return "–", "–"
    below = known[:, 0] <= truth
    return f"{(below & (truth <= known[:, 1])).mean():.2f}", f"{(~below).mean():.2f}"


def main():
    dump = StateDump.open(sys.argv[1])
    n_draws = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    text = "".join(np.array(dump.vocabulary)[np.asarray(dump.tokens[: 1 << 20])])
    labels, _, _ = label_dump(dump, select(("auto",), detect_language(text)))
    names, starts = state_sets(dump.names, "post")["all"], dump.sequence_starts
    n_drawn_from = len(starts) - 1 - POPULATION
    others = np.arange(n_drawn_from, n_drawn_from + POPULATION)
    population, X_others = rows_of(others, starts), np.asarray(dump.of_sequences(names, others))
    found, truths = [], []
    for draw in range(n_draws):
        chosen = np.sort(np.random.default_rng(draw).permutation(n_drawn_from)[:SEQUENCES])
        rows = rows_of(chosen, starts)
        arrays = {name: np.asarray(dump.of_sequences([name], chosen)) for name in names}
        bounds = np.append(0, np.cumsum(starts[chosen + 1] - starts[chosen]))
        of_draw = Labels(labels.hypotheses, labels.values[rows], labels.defined[rows])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "draw.npz"
            np.savez(path, tokens=dump.tokens[rows], sequence_starts=bounds, **arrays)
            with open_states(path) as states:
                for folds in (1, N_FOLDS):
                    study = Study(states, ProbeConfig(test_share=1 / N_FOLDS, folds=folds), draw)
                    records, weights, _ = fit_study(study, "all", of_draw, "plain")
                    found.append([[np.nan if r[name] is None else r[name] for name in NUMBERS] for r in records])
        says = X_others.astype(np.float32) @ weights["coefficient"].T.astype(np.float32) + weights["intercept"]
        truths.append(auroc(labels.values[population], says, labels.defined[population]))
    warnings.simplefilter("ignore", RuntimeWarning)  # for hypotheses that hold in no sequence
    truth = np.nanmean(truths, axis=0)
    found = np.array(found).reshape(n_draws, 2, len(truth), len(NUMBERS))
    of_difference = "above text | covered | of folds | too high | of folds"
    print(f"| hypothesis | AUROC | sd | of folds | covered | of folds | {of_difference} |")
    print("|" + "---|" * 11)
    for k, hypothesis in enumerate(each.name for each in labels.hypotheses):
        of_score, difference = found[:, :, k, :3], np.nanmean(found[:, :, k, 0] - found[:, :, k, 3], axis=0)
        cells = [f"{truth[k]:.2f}", *(f"{each:.3f}" for each in np.nanstd(of_score[..., 0], axis=0))]
        cells += [covered(of_score[:, i, 1:], truth[k])[0] for i in (0, 1)]
        above = [covered(found[:, i, k, 4:], difference[i]) for i in (0, 1)]
        cells += [f"{difference[1]:.2f}", *(each[0] for each in above), *(each[1] for each in above)]
        print(f"| {hypothesis} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
