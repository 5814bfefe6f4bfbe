"""The report's notes on method: how to read probes, scores, baselines and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.analysis.last_characters import LONGEST_CONTEXT
from gatescope.analysis.results import Result


def method_section(results: Sequence[Result]) -> str:
    """How the numbers of the page were obtained, and what they mean."""
    return (
        "<h2>How to read the numbers</h2>\n"
        "<p>Probes are fitted on some sequences and scored on others; the sequences of a document stay together "
        "where there are at least 10 documents, and so do copies of a whole one. Scores are those of all states "
        "together unless a state set is named. AUROC is the chance that the probe gives a character where the "
        "hypothesis holds a higher probability than one where it does not: ½ by chance, however rare the "
        "hypothesis. Its 95% interval comes from drawing test sequences (or documents) anew, by Student’s t and the "
        "spread of what was drawn; how far another training of the same model would move it, it does not say. "
        "Sequences count by how many of the characters are theirs where the hypothesis holds (or where it does not, if "
        "these lie in fewer), in the table of all scores as so many of equal size: what holds in a handful, or mostly "
        "in one, has a wide interval, and none if they count for less than two, or if fewer than 8 are tested.</p>\n"
        f"<p>The text baseline predicts from the last {LONGEST_CONTEXT} characters that the state has read, and from "
        "how many it has read since its sequence began, for a text begins at no depth and inside of nothing: what does "
        "not exceed it may be a memory of these and no more. It is a smoothed table of contexts, a linear probe of "
        "characters and number, or one of the number alone, whichever has the best AUROC (R²; for F1 the best F1) on "
        "the test sequences; taking the best makes “known” harder to reach, and “below a baseline” easier, above all "
        "with every sequence tested in turn. Majority is the better F1 of two guesses: always the more frequent label, "
        "or always that the hypothesis holds.</p>\n"
        "<p>Known: AUROC of the plain fit (R² of continuous hypotheses) lies above chance and above that of the "
        "text baseline, each with the whole 95% interval, for which both are scored on the same drawn "
        "sequences. Below a baseline: one of the intervals lies below. Undecided: neither. Each hypothesis is "
        "judged alone, without a correction for their number: of 40 that states do not know one may pass by "
        "chance. What is known may still be known badly; AUROC and F1 say how well. Not scored: it holds everywhere or "
        "nowhere in the training sequences (one_class), or in the test sequences.</p>\n"
        "<p>The best unit is the one that alone predicts best on the training sequences (by AUROC in either "
        "direction, or by Pearson’s r). The number beside its name is of the test sequences; its F1 is at the "
        "threshold that was best on the training sequences. Many units may predict nearly as well, and another text "
        "may put another one first. The largest weights of a probe are listed apart: their units help together, "
        "and one of them may predict nothing alone. F1 depends on how often a hypothesis holds; results of different "
        "texts are better compared by AUROC or MCC.</p>\n" + _folds(results)
    )


def _folds(results: Sequence[Result]) -> str:
    """A paragraph on folds, if a result has them."""
    numbers = {record["folds"] for result in results for record in result.records if record.get("folds")}
    if not numbers:
        return ""
    words = " or ".join(map(str, sorted(numbers)))
    return (
        f"<p>Of {words} folds each is tested once, by probes, text baselines and single units of the others, so that "
        "scores and intervals are of all sequences. AUROC and average precision compare characters of one fold alone, "
        "for probes of different folds have no common scale, and R² and r take values from the mean of their fold. "
        "What is no score of unseen sequences is of the first fold: coefficients, ten first units, participation, "
        "number of training characters, compression, q, coloured texts. The number beside a unit’s name is of the "
        "units that each fold’s training sequences put first, and unit’s folds is the share of folds in which that is "
        "the unit that is named.</p>\n"
    )
