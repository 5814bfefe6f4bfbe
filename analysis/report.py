"""The report: one self-contained page that answers which hypotheses the hidden states know, and which units know them.

It opens with the answer (AUROC with its interval, beside what the text alone tells, and the best unit), then shows
the text of each hypothesis coloured by hypothesis, by prediction and by the most responsible unit, as in Figures 2 and
7 of van der Ouderaa, Quantitatively understanding recurrent networks, and ends with every score. The page needs no
network and no script, and the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatescope.analysis.difference import Pair, pairs_of
from gatescope.analysis.figures import write_figures
from gatescope.analysis.last_characters import LONGEST_CONTEXT
from gatescope.analysis.read_results import read_comparison, read_results
from gatescope.analysis.report_ablation import ablation_tables
from gatescope.analysis.report_difference import difference_section
from gatescope.analysis.report_facts import facts_table, model_line
from gatescope.analysis.report_gates import gates_section
from gatescope.analysis.report_html import escaped
from gatescope.analysis.report_overview import overview_section
from gatescope.analysis.report_reproduction import reproduction_section
from gatescope.analysis.report_scores import controls_words, scores_table, state_set_tables
from gatescope.analysis.report_sparse import sparse_tables
from gatescope.analysis.report_style import POLICY, SCRIPT, STYLE
from gatescope.analysis.report_tables import answer_tables, f1_tables
from gatescope.analysis.report_text import MOST_TEXTS, Texts, texts_section
from gatescope.analysis.results import (
    MEASURES,
    NOT_EVALUATED,
    Record,
    Result,
    Verdict,
    best_unit,
    best_unit_alone,
    headline,
    interval,
    leading,
    number,
    ordered,
    score,
    verdict,
)
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove_partial, remove_partial_of, write_atomic
from gatescope.engine.folder_lock import locked
from gatescope.engine.location import local_path

# Of hypotheses that states do not know, the share that passes all the same: by the interval, and of folds as measured
# on real states (benchmarks/README.md).
BY_CHANCE, BY_CHANCE_OF_FOLDS = 0.025, 0.06
# What the answer means; of several results it is said once.
KNOWN = (
    ": on unseen sequences a probe tells them better than chance and better than the text alone does, with the whole "
    "of both 95% intervals"
)
NONE_KNOWN = (
    ": of none does the score lie above chance and above what the text alone tells, with the whole of both 95% "
    "intervals"
)


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write `report.html` and the folder `figures` for one or several results, side by side.

    Args:
        results: folders with probes.json, and excerpts.json and config.json where there are any; those of the cells
            of a `gatescope reproduce` are set beside the paper.
        out: the folder to write into; made if it is absent, and it may be one of the results.

    Returns:
        The path of report.html. The text of at most 20 hypotheses is painted, the best known; the tables
        hold all.

    Raises:
        InputError: a folder cannot be read as results, holds no record, or `out` is a file or being written by another
            program.
    """
    read, comparison, out = read_results(results), read_comparison(results), local_path(out)
    if not any(result.records for result in read):
        raise InputError(f"{results[0]}: probes.json holds no record: probe at least one hypothesis")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder")
    texts = _excerpts(read)
    page = _page(read, texts, pairs_of(read), comparison)
    path, figures = out / "report.html", out / "figures"
    # Only now: what cannot be read leaves nothing behind.
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        # Of a report that was killed.
        remove_partial_of(path)
        remove_partial(figures)
        write_figures(read, [pair for _, pairs in texts[:MOST_TEXTS] for pair in pairs], figures)
        write_atomic(path, page.encode("utf-8"))
    return path


def _excerpts(results: Sequence[Result]) -> Texts:
    """The excerpts of each hypothesis that is scored, best known first and boolean before continuous."""
    texts, unscored = [], set()
    for result in results:
        records = {name: leading(weightings) for name, weightings in headline(result.records).items()}
        unscored |= {(result.name, name) for name, each in records.items() if verdict(each) == Verdict.UNSCORED}
    for name in [*ordered(results, "boolean"), *ordered(results, "continuous")]:
        pairs = [
            (result, result.excerpts[name])
            for result in results
            if name in result.excerpts and (result.name, name) not in unscored
        ]
        if pairs:
            texts.append((name, pairs))
    return texts


def _page(
    results: Sequence[Result], texts: Texts, pairs: Sequence[Pair], comparison: Sequence[Sequence[Record]]
) -> str:
    anchors = {name: f"text-{number}" for number, (name, _) in enumerate(texts[:MOST_TEXTS], start=1)}
    title = "gatescope: " + ", ".join(result.name for result in results)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n',
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        "<h1>What do the hidden states know, and which units know it?</h1>\n",
        *(_answer(result, several=len(results) > 1) for result in results),
        f'<p class="muted">Known{KNOWN}.</p>\n' if len(results) > 1 else "",
        overview_section(results),
        answer_tables(results, anchors),
        difference_section(pairs),
        f1_tables(results, anchors),
        reproduction_section(comparison),
        state_set_tables(results),
        sparse_tables(results),
        ablation_tables(results),
        gates_section(results),
        texts_section(results, texts),
        scores_table(results),
        _method(results),
        controls_words(results),
        facts_table(results),
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts)


def _answer(result: Result, several: bool) -> str:
    records = [leading(weightings) for weightings in headline(result.records).values()]
    judged = [(record, verdict(record)) for record in records]
    scored = [record for record, word in judged if word != Verdict.UNSCORED]
    known, below = ([record for record, word in judged if word == each] for each in (Verdict.KNOWN, Verdict.BELOW))
    n_open, asked = len(scored) - len(known) - len(below), counted(len(scored), "hypothesis", "hypotheses")
    who = f"<b>{escaped(result.name)}</b> knows" if several else "The states know"
    if known:
        answer = f"{who} {len(known)} of {asked}{'' if several else KNOWN}. "
        answer += " ".join(_best_known([record for record in known if record["kind"] == kind]) for kind in MEASURES)
    elif scored:
        answer = f"{who} none of {asked} for certain{'' if several else NONE_KNOWN}."
    else:
        answer = f"{who} nothing that could be scored."
    answer += _untrained(known)
    if below:
        answer += f" Below a baseline: {len(below)}."
    if n_open:
        answer += f" Undecided: {n_open}."
    if len(scored) < len(judged):
        answer += f" Not scored: {len(judged) - len(scored)}."
    failed = result.facts.get(NOT_EVALUATED)
    if failed:
        answer += f" Could not be evaluated, as the facts at the end say: {escaped(', '.join(failed))}."
    by_chance = len(scored) * (BY_CHANCE_OF_FOLDS if any(number(each, "folds") for each in scored) else BY_CHANCE)
    if known and by_chance >= 1:
        answer += (
            " Verdicts are not corrected for the number of hypotheses: if the states knew none of these "
            f"{len(scored)}, about {round(by_chance)} would pass by chance."
        )
    if scored and all(number(record, f"baseline_text_{MEASURES[record['kind']][0]}") is None for record in scored):
        answer += " What was read is not known, so that the text baseline is missing and nothing is decided."
    if scored and all(interval(record, MEASURES[record["kind"]][0]) is None for record in scored):
        answer += " No score has an interval, for what is tested lies in too few sequences, and so nothing is decided."
    return f'<p class="answer">{answer.strip()}</p>\n{model_line(result.facts)}'


def _best_known(known: Sequence[Record]) -> str:
    """A sentence about the best known hypothesis of one kind, if any."""
    if not known:
        return ""
    measure, _ = MEASURES[known[0]["kind"]]
    best = max(known, key=lambda record: record[measure])
    among, name, of_one = "Best known", "AUROC", "AUROC"
    if measure == "r2":
        among, name, of_one = "Best of the continuous ones", "R²", "r"
    alone = score(number(best, f"baseline_text_{measure}"))
    return (
        f"{among} is <b>{escaped(best['hypothesis'])}</b> ({name} {score(number(best, measure))}, text baseline "
        f"{alone}); of single units <b>{escaped(best_unit(best) or '–')}</b> tells most of it ({of_one} "
        f"{score(best_unit_alone(best))})."
    )


def _untrained(known: Sequence[Record]) -> str:
    """A sentence about what of the known is owed to training, where a network of random weights was asked, too."""
    ends = [end for record in known if (end := number(record, "above_untrained_low")) is not None]
    if not ends:
        return ""
    learnt = sum(end > 0 for end in ends)
    return f" {learnt} of {len(ends)} are told better than by states of random weights, with the whole of the interval."


def _folds(results: Sequence[Result]) -> str:
    """A paragraph on folds, where a result has them."""
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


def _method(results: Sequence[Result]) -> str:
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
        "<p>The best unit is the one that alone tells most on the training sequences (by AUROC in either "
        "direction, or by Pearson’s r). The number beside its name is of the test sequences; its F1 is at the "
        "threshold that was best on the training sequences. Many units may tell nearly the same, and another text "
        "may put another one first. The largest weights of a probe are listed apart: their units help together, "
        "and one of them may tell nothing alone. F1 depends on how often a hypothesis holds; results of different "
        "texts are better compared by AUROC or MCC.</p>\n" + _folds(results)
    )
