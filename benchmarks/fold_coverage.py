"""How often 95% intervals of AUROC cover, of one test part and of folds: `python -m benchmarks.fold_coverage STATES`.

STATES is a dump of thousands of sequences. Each draw takes 100 of them, fits and scores probes of its h and c as
`gatescope probe` does, with a fifth tested and with five folds, and asks whether the interval covers what such probes
score on the 1,000 sequences that no draw takes: the mean over draws. Another argument is the number of draws, 100,
which take about twelve minutes on one core.
"""

import sys

import numpy as np

from gatescope.analysis.hypotheses import select
from gatescope.analysis.labels import label_dump
from gatescope.analysis.language import detect_language
from gatescope.analysis.ordering import auroc
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.split import folds_of, rows_of, sequence_ids_of
from gatescope.analysis.state_sets import state_sets
from gatescope.engine.dump import StateDump
from gatescope.engine.irls import LogisticProbes

SEQUENCES = 100
POPULATION = 1000
N_FOLDS = 5
N_BOOTSTRAP = 1000


def scored(folds, starts, says, Y, defined, seed):
    """AUROC within folds and the ends of its interval, [3, K], of logits on the rows that they test."""
    rows = np.concatenate([fold.test_rows for fold in folds])
    ends = np.cumsum([len(fold.test_rows) for fold in folds])
    parts = [slice(end - len(fold.test_rows), end) for fold, end in zip(folds, ends, strict=True)]
    scorer = Scorer(sequence_ids_of(rows, starts), N_BOOTSTRAP, seed, parts)
    scores = scorer.classification(Y[rows], np.concatenate(says), None, defined[rows])
    return np.stack([scores[name] for name in ("auroc", "auroc_low", "auroc_high")])


def main():
    dump = StateDump.open(sys.argv[1])
    n_draws = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    text = "".join(np.array(dump.vocabulary)[np.asarray(dump.tokens[: 1 << 20])])
    labels, _, _ = label_dump(dump, select(("auto",), detect_language(text)))
    arrays, all_starts = state_sets(dump.names, "post")["all"], dump.sequence_starts
    n_sequences = len(all_starts) - 1
    population = rows_of(np.arange(n_sequences - POPULATION, n_sequences), all_starts)
    X_population = np.asarray(dump.of_sequences(arrays, np.arange(n_sequences - POPULATION, n_sequences)))
    everyone = labels.values[population], labels.defined[population]
    found, truths = {"one part": [], "folds": []}, []
    for draw in range(n_draws):
        chosen = np.random.default_rng(draw).permutation(n_sequences - POPULATION)[:SEQUENCES]
        rows = rows_of(chosen, all_starts)
        starts = np.append(0, np.cumsum(all_starts[chosen + 1] - all_starts[chosen]))
        X, Y, defined = np.asarray(dump.of_sequences(arrays, chosen)), labels.values[rows], labels.defined[rows]
        folds, says = folds_of(np.arange(SEQUENCES), starts, 1 / N_FOLDS, N_FOLDS, draw), []
        for number, fold in enumerate(folds):
            weight = defined[fold.train_rows].astype(np.float32)
            probes = LogisticProbes().fit(X[fold.train_rows], Y[fold.train_rows], sample_weight=weight)
            says.append(probes.decision_function(X[fold.test_rows]))
            if number == 0:
                truths.append(auroc(everyone[0], probes.decision_function(X_population), everyone[1]))
        found["one part"].append(scored(folds[:1], starts, says[:1], Y, defined, draw))
        found["folds"].append(scored(folds, starts, says, Y, defined, draw))
    truth = np.nanmean(truths, axis=0)
    one, all_folds = (np.array(each) for each in found.values())
    print("| hypothesis | is | spread of one part | of folds | covered by one part | by folds |")
    print("|---|---|---|---|---|---|")
    for k, hypothesis in enumerate(each.name for each in labels.hypotheses):
        cells = [f"{np.nanstd(each[:, 0, k]):.3f}" for each in (one, all_folds)]
        for each in (one, all_folds):
            ends = each[~np.isnan(each[:, 1, k]), 1:, k]
            covers = (ends[:, 0] <= truth[k]) & (truth[k] <= ends[:, 1])
            cells.append(f"{covers.mean():.2f}" if len(ends) > n_draws / 2 else "–")
        print(f"| {hypothesis} | {truth[k]:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
