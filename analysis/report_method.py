"""The report's notes on method: how to read probes, scores, baselines and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.analysis.last_characters import LONGEST_CONTEXT
from gatescope.analysis.results import Result


def method_section(results: Sequence[Result]) -> str:
    """How the numbers of the page were obtained, and what they mean."""
    return (
        "<h2>How to read the numbers</h2>\n"
        "<p>Probes are fitted on some sequences and scored on others. The sequences of a document stay together if "
        "there are at least 10 documents, and so do copies of a whole sequence. Scores are for all states together "
        "unless a state set is named. AUROC is the probability that the probe scores a character where the hypothesis "
        "holds above one where it does not: ½ by chance, however rare the hypothesis. Its 95% interval comes from "
        "resampling test sequences (or documents), by Student’s t and the spread of the resampled scores. It does not "
        "cover how far training the same model again would move the score. The column “sequences” of all scores gives "
        "the effective number of tested sequences: each counts by its share of the characters where the hypothesis "
        "holds (or where it does not, if these lie in fewer sequences). A hypothesis that holds in a handful of "
        "sequences, or mostly in one, has a wide interval. It has none if this number is below two, or if fewer than 8 "
        "sequences are tested.</p>\n"
        f"<p>The text baseline predicts from the last {LONGEST_CONTEXT} characters read and from how many were read "
        "since the sequence began, because a text begins at depth 0 and outside everything. States that do not exceed "
        "it may remember these and no more. It is a smoothed table of contexts, a linear probe on the characters and "
        "the count, or one on the count alone, whichever has the best AUROC (R²; for F1 the best F1) on the test "
        "sequences. Taking the best makes “known” harder to reach and “below a baseline” easier, above all when every "
        "sequence is tested in turn. Majority is the better F1 of two guesses: always the more frequent label, or "
        "always that the hypothesis holds.</p>\n"
        "<p>Known: AUROC of the plain fit (R² of continuous hypotheses) lies above chance and above that of the text "
        "baseline, each with its whole 95% interval; for the latter both are scored on the same resampled sequences. "
        "Below a baseline: one of the intervals lies below. Undecided: neither. Each hypothesis is judged alone, "
        "without a correction for their number: of 40 that the states do not know, one may pass by chance. A known "
        "hypothesis may still be known badly; AUROC and F1 show how well. Not scored: it holds everywhere or nowhere "
        "in the training sequences (one_class), or in the test sequences.</p>\n"
        "<p>The best unit is the one that alone predicts best on the training sequences (by AUROC in either direction, "
        "or by Pearson’s r). The number next to its name is its score on the test sequences; its F1 is at the "
        "threshold that was best on the training sequences. Many units may predict nearly as well, and another text "
        "may put another one first. The largest weights of a probe are listed separately: their units help together, "
        "and one of them may predict nothing alone. F1 depends on how often a hypothesis holds; compare results of "
        "different texts by AUROC or MCC.</p>\n" + _folds(results)
    )


def _folds(results: Sequence[Result]) -> str:
    """A paragraph on folds, if a result has them."""
    numbers = {record["folds"] for result in results for record in result.records if record.get("folds")}
    if not numbers:
        return ""
    words = " or ".join(map(str, sorted(numbers)))
    return (
        f"<p>Each of {words} folds is tested once, by probes, text baselines and single units fitted on the others, so "
        "scores and intervals cover all sequences. AUROC and average precision compare only characters of one fold, "
        "because probes of different folds have no common scale; R² and r measure values from the mean of their fold. "
        "Everything that is not a score on unseen sequences is from the first fold: coefficients, ten first units, "
        "participation, number of training characters, compression, q, coloured texts. The number next to a unit’s "
        "name is the score of the units that each fold’s training sequences put first; unit’s folds is the share of "
        "folds in which this is the unit named.</p>\n"
    )
