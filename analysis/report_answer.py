"""The report's answer: how many hypotheses the states of each result know, and which one best."""

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

# The share of hypotheses unknown to the states that pass nevertheless: by the level of the interval, and with folds as
# measured on real states (benchmarks/README.md).
BY_CHANCE, BY_CHANCE_OF_FOLDS = 0.025, 0.06
# With a score of the text alone above this, there is no room for an interval above it.
CEILING = 0.99
# The meaning of the answer; given once below several results.
KNOWN = (
    ": on unseen sequences a probe predicts them better than chance and better than the text alone does, each by its "
    "whole 95% interval"
)
NONE_KNOWN = (
    ": none is predicted better than chance and better than from the text alone, each by its whole 95% interval"
)


def answer_section(results: Sequence[Result]) -> str:
    """The answer of each result; below several of them, the meaning of their verdicts."""
    several = len(results) > 1
    answers = "".join(_answer(result, several) for result in results)
    return answers + (f'<p class="muted">Known{KNOWN}.</p>\n' if several else "")


def _answer(result: Result, several: bool) -> str:
    judged = [(record, verdict(record)) for record in leading_records(result.records).values()]
    scored = [record for record, word in judged if word != Verdict.UNSCORED]
    known, below, undecided = (
        [record for record, word in judged if word == each]
        for each in (Verdict.KNOWN, Verdict.BELOW, Verdict.UNDECIDED)
    )
    asked = counted(len(scored), "hypothesis", "hypotheses")
    who = f"<b>{escaped(result.name)}</b> knows" if several else "The states know"
    if known:
        answer = f"{who} {len(known)} of {asked}{'' if several else KNOWN}. "
        answer += " ".join(_best_known([record for record in known if record["kind"] == kind]) for kind in MEASURES)
    elif scored:
        answer = f"{who} none of {asked} for certain{'' if several else NONE_KNOWN}."
    else:
        answer = f"{who} nothing that could be scored."
    answer += _untrained(scored)
    if below:
        answer += f" Below a baseline: {len(below)}."
    if undecided:
        answer += f" Undecided: {len(undecided)}{_of_undecided(undecided)}."
    if len(scored) < len(judged):
        answer += f" Not scored: {len(judged) - len(scored)}."
    failed = result.facts.get(NOT_EVALUATED)
    if failed:
        answer += f" Could not be evaluated (see the facts at the end): {escaped(', '.join(failed))}."
    by_chance = len(scored) * (BY_CHANCE_OF_FOLDS if any(number(each, "folds") for each in scored) else BY_CHANCE)
    if known and by_chance >= 1:
        answer += (
            " Verdicts are not corrected for the number of hypotheses: if the states knew none of these "
            f"{len(scored)}, about {round(by_chance)} would pass by chance."
        )
    if lacks_text(scored):
        answer += " The text is unknown, so there is no text baseline and nothing is decided."
    if scored and all(interval(record, measure_of(record)) is None for record in scored):
        answer += " No score has an interval, because too few sequences are tested, so nothing is decided."
    return f'<p class="answer">{answer.strip()}</p>\n{model_line(result.facts)}'


def _best_known(known: Sequence[Record]) -> str:
    """A sentence about the best known hypothesis of one kind, if any."""
    if not known:
        return ""
    kind, measure = known[0]["kind"], measure_of(known[0])
    best = max(known, key=lambda record: record[measure])
    among = "Best known" if kind == "boolean" else "Best known continuous one"
    value, text = (score(number(best, key)) for key in (measure, f"baseline_text_{measure}"))
    return (
        f"{among} is <b>{escaped(best['hypothesis'])}</b> ({LABELS[measure]} {value}, text baseline {text}); the "
        f"single unit that predicts it best is <b>{escaped(best_unit(best) or '–')}</b> ({UNIT_LABELS[kind]} "
        f"{score(best_unit_alone(best))})."
    )


def _of_undecided(records: Sequence[Record]) -> str:
    """How many of the undecided are above chance, and for how many of these the text alone leaves no room."""
    above, at_ceiling = 0, 0
    for record in records:
        measure, chance = MEASURES[record["kind"]]
        low, text = number(record, f"{measure}_low"), number(record, f"baseline_text_{measure}")
        if low is not None and text is not None and low > chance:
            above += 1
            at_ceiling += text >= CEILING
    if not above:
        return ""
    words = f", {above} of them above chance, but not surely above what the text alone predicts"
    if at_ceiling:
        words += f" (the text alone scores {score(CEILING)} or more for {at_ceiling}, which leaves no room above it)"
    return words


def _untrained(scored: Sequence[Record]) -> str:
    """A sentence on what is due to training, if a network of random weights was probed, too."""
    ends = [
        (each["hypothesis"], low, number(each, "above_untrained_high"))
        for each in scored
        if (low := number(each, "above_untrained_low")) is not None
    ]
    if not ends:
        return ""
    learnt = sum(low > 0 for _, low, _ in ends)
    worse = escaped(", ".join(name for name, _, high in ends if high is not None and high < 0))
    return (
        f" {learnt} of {len(ends)} are predicted better than from states of random weights, by the whole "
        f"interval{f'; worse: {worse}' if worse else ''}."
    )
