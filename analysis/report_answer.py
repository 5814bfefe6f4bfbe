"""The report's answer: how many hypotheses the states of each result know, and which of them best."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.analysis.report_facts import model_line
from gatescope.analysis.report_html import escaped
from gatescope.analysis.results import (
    LABELS,
    MEASURES,
    NOT_EVALUATED,
    UNIT_LABELS,
    Record,
    Result,
    Verdict,
    best_unit,
    best_unit_alone,
    interval,
    lacks_text,
    leading_records,
    measure_of,
    number,
    score,
    verdict,
)
from gatescope.engine.counted import counted

# The share of hypotheses unknown to the states that pass all the same: by the interval, and with folds as measured on
# real states (benchmarks/README.md).
BY_CHANCE, BY_CHANCE_OF_FOLDS = 0.025, 0.06
# What the answer means; said once below several results.
KNOWN = (
    ": on unseen sequences a probe tells them better than chance and better than the text alone does, with the whole "
    "of both 95% intervals"
)
NONE_KNOWN = (
    ": of none does the score lie above chance and above what the text alone tells, with the whole of both 95% "
    "intervals"
)


def answer_section(results: Sequence[Result]) -> str:
    """The answer of each result, and below several of them what their verdicts mean."""
    several = len(results) > 1
    answers = "".join(_answer(result, several) for result in results)
    return answers + (f'<p class="muted">Known{KNOWN}.</p>\n' if several else "")


def _answer(result: Result, several: bool) -> str:
    judged = [(record, verdict(record)) for record in leading_records(result.records).values()]
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
    if lacks_text(scored):
        answer += " What was read is not known, so that the text baseline is missing and nothing is decided."
    if scored and all(interval(record, measure_of(record)) is None for record in scored):
        answer += " No score has an interval, for what is tested lies in too few sequences, and so nothing is decided."
    return f'<p class="answer">{answer.strip()}</p>\n{model_line(result.facts)}'


def _best_known(known: Sequence[Record]) -> str:
    """A sentence about the best known hypothesis of one kind, if any."""
    if not known:
        return ""
    kind, measure = known[0]["kind"], measure_of(known[0])
    best = max(known, key=lambda record: record[measure])
    among = "Best known" if kind == "boolean" else "Best of the continuous ones"
    value, text = (score(number(best, key)) for key in (measure, f"baseline_text_{measure}"))
    return (
        f"{among} is <b>{escaped(best['hypothesis'])}</b> ({LABELS[measure]} {value}, text baseline {text}); "
        f"of single units <b>{escaped(best_unit(best) or '–')}</b> tells most of it "
        f"({UNIT_LABELS[kind]} {score(best_unit_alone(best))})."
    )


def _untrained(known: Sequence[Record]) -> str:
    """A sentence about what of the known is owed to training, where a network of random weights was asked, too."""
    ends = [end for record in known if (end := number(record, "above_untrained_low")) is not None]
    if not ends:
        return ""
    learnt = sum(end > 0 for end in ends)
    return f" {learnt} of {len(ends)} are told better than by states of random weights, with the whole of the interval."
