"""The report's sections on hypotheses: for each, its text coloured three ways, and the units that carry it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from gatescope.analysis.coloured_text import UNDEFINED, Colouring, colourings, printable, runs
from gatescope.analysis.report_html import MOST_UNITS, escaped, name_html, significant, unit_names
from gatescope.analysis.report_style import tint_class
from gatescope.analysis.results import (
    LABELS,
    UNIT_LABELS,
    Excerpt,
    Record,
    Result,
    holds_at,
    interval,
    leading_records,
    number,
    score,
    unit_name,
)

SEES = {
    "past": "The label follows from what the network has read.",
    "future": "The label may depend on later characters, which the states can only anticipate.",
}
# How many hypotheses have their text painted, in the page and as figures; the tables contain all.
MOST_TEXTS = 20
# The excerpts of each hypothesis, with their results.
Texts = list[tuple[str, list[tuple[Result, Excerpt]]]]


def texts_section(results: Sequence[Result], texts: Texts) -> str:
    """The text of each hypothesis, for each result that has it."""
    if not texts:
        return ""
    more = ""
    if len(texts) > MOST_TEXTS:
        more = f" Shown are the {MOST_TEXTS} best known of {len(texts)} hypotheses; the tables list all."
    intro = (
        '<h2 id="texts">Text, coloured three ways</h2>\n'
        "<p>By hypothesis: where its label holds. By prediction: the probability (or value) that the probe reads from "
        "the states. By unit: the activation of the unit that alone predicts best, teal below its mean over the text "
        f"shown and orange above. Underlined predictions are wrong at the threshold .5.{more}</p>\n"
    )
    several = len(results) > 1
    shown = enumerate(texts[:MOST_TEXTS], start=1)
    return intro + "".join(_section(position, name, pairs, several) for position, (name, pairs) in shown)


def _section(position: int, name: str, pairs: Sequence[tuple[Result, Excerpt]], several: bool) -> str:
    about = [f'<p class="muted">{_about(excerpt)}</p>\n' for _, excerpt in pairs]
    parts = [f'<article aria-labelledby="text-{position}">\n<h3 id="text-{position}">{name_html(name)}</h3>\n']
    # The same name may be another hypothesis in another language.
    alike = len(set(about)) == 1
    if alike:
        parts.append(about[0])
    for (result, excerpt), words in zip(pairs, about, strict=True):
        if several:
            parts.append(f"<h4>{escaped(result.name)}</h4>\n")
        if not alike:
            parts.append(words)
        record = _excerpt_record(list(result.records), excerpt)
        parts.append(f'<p class="line">{_scores_line(excerpt, record)}</p>\n')
        parts.append(_text_panels(excerpt))
        if record is not None:
            parts.append(_units_table(record))
    return "".join([*parts, "</article>\n"])


def _about(excerpt: Excerpt) -> str:
    described = excerpt.description.rstrip(".")
    return (f"{escaped(described)}. " if described else "") + SEES.get(excerpt.sees, "")


def _scores_line(excerpt: Excerpt, record: Any) -> str:
    words = [f"Test sequence {excerpt.sequence}"]
    states = "all states" if excerpt.states == "all" else escaped(excerpt.states)
    fit = "" if excerpt.weighting == "none" else f", {escaped(excerpt.weighting)} fit"
    words.append(f"probe on {states}{fit}")
    if record is not None and record["kind"] == "boolean":
        words += [_with_interval(record, "auroc"), f"F1 {score(number(record, 'f1'))}"]
        words += [f"{key} {score(number(record, key))}" for key in ("precision", "recall", "prevalence")]
        holds = holds_at(record)
        words[-1] += "" if holds is None else f" ({holds} characters)"
        if number(record, "best_unit_auroc") is not None:
            f1 = score(number(record, "best_unit_f1"))
            words.append(f"its unit alone AUROC {score(number(record, 'best_unit_auroc'))}, F1 {f1}")
    elif record is not None:
        words += [_with_interval(record, "r2"), f"text baseline {score(number(record, 'baseline_text_r2'))}"]
        words.append(f"Pearson’s r {score(number(record, 'pearson'))}")
        if number(record, "best_unit_pearson") is not None:
            words.append(f"its unit alone r {score(number(record, 'best_unit_pearson'))}")
    unit: Record = next((each for each in (record or {}).get("top_units") or [] if unit_name(each) == excerpt.unit), {})
    side = _direction(unit)
    if side is not None:
        what = "the hypothesis" if excerpt.kind == "boolean" else "high values"
        words.append(f"{'orange' if side > 0 else 'teal'} in the unit indicates {what}")
    # A line may break between phrases, not within one.
    return "; ".join(word.replace(" ", "&nbsp;") for word in words) + "."


def _with_interval(record: Record, measure: str) -> str:
    return f"{LABELS[measure]} {score(number(record, measure))} [{interval(record, measure) or '–'}]"


def _text_panels(excerpt: Excerpt) -> str:
    """An excerpt coloured by hypothesis, by prediction and by unit, as three figures side by side."""
    panels = "".join(_panel(excerpt.text, colouring) for colouring in colourings(excerpt))
    return f'<div class="panels">{panels}</div>\n'


def _panel(text: str, colouring: Colouring) -> str:
    # The element mark conveys to a screen reader what the tint shows.
    element = "mark" if colouring.two_valued else "span"
    parts = []
    for start, stop in runs(colouring):
        step = int(colouring.step[start])
        classes = ["u"] if step == UNDEFINED else [tint_class(step, colouring.signed)]
        if colouring.wrong[start]:
            classes.append("w")
        content = "".join(map(_character, text[start:stop]))
        if classes in (["s0"], ["n0"]):
            parts.append(content)
        else:
            tag = "span" if step == UNDEFINED else element
            parts.append(f'<{tag} class="{" ".join(classes)}">{content}</{tag}>')
    # The parser drops a newline right after <pre>; here each newline is in an element of its own.
    painted = f"<pre>{''.join(parts)}</pre>"
    caption = f"<figcaption><span>{escaped(colouring.title)}</span>{_legend(colouring)}</figcaption>"
    return f"<figure>{caption}{painted}</figure>\n"


def _character(character: str) -> str:
    if character == "\t":
        return '<i class="t">\t</i>'
    if character == "\n":
        return '<i class="n">\n</i>'
    shown = printable(character)
    return html.escape(shown) if shown == character else f'<i class="c">{shown}</i>'


def _legend(colouring: Colouring) -> str:
    swatches = "".join(f'<i class="{tint_class(step, colouring.signed)}"></i>' for step in colouring.scale())
    keys = ""
    if colouring.wrong.any():
        keys += '<i class="w"></i> wrong'
    if UNDEFINED in colouring.step:
        keys += '<i class="u"></i> undefined'
    words = f"colour scale from {colouring.low} to {colouring.high}"
    scale = f'<span class="scale" role="img" aria-label="{words}">{swatches}</span>'
    return f'<span class="legend">{colouring.low} {scale} {colouring.high}{keys}</span>'


def _excerpt_record(records: list[Record], excerpt: Excerpt) -> Record | None:
    """The record of the probe whose prediction an excerpt shows, or else the leading record of the hypothesis."""
    for record in records:
        if all(record[key] == getattr(excerpt, key) for key in ("hypothesis", "states", "weighting")):
            return record
    return leading_records(records).get(excerpt.hypothesis)


def _units_table(record: Record) -> str:
    """The first units of the ranking on a line that opens to a table of them."""
    units = (record.get("top_units") or [])[:MOST_UNITS]
    if not units:
        return f'<p class="muted">No units: the probe was not fitted ({escaped(record["status"])}).</p>\n'
    rows = "".join(_unit_row(unit) for unit in units)
    alone = UNIT_LABELS[record["kind"]]
    weights = unit_names((record.get("largest_weights") or [])[:MOST_UNITS])
    largest = f'<p class="muted">Largest |w|·sd in the probe: {weights}.</p>' if weights else ""
    return (
        f'<details class="paper"><summary>Most responsible units: {unit_names(units)}</summary>\n'
        f'<table><thead><tr><th scope="col">unit</th><th scope="col" class="r">{alone} alone, training rows</th>'
        '<th scope="col">holds where it is</th><th scope="col" class="r">coefficient w</th>'
        '<th scope="col" class="r">importance |w|·sd</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{largest}</details>\n"
    )


def _unit_row(unit: Record) -> str:
    side = _direction(unit)
    auroc, r = unit.get("auroc"), unit.get("correlation")
    alone = max(auroc, 1 - auroc) if auroc is not None else None if r is None else abs(r)
    numbers = "".join(f'<td class="r">{significant(unit.get(key))}</td>' for key in ("coefficient", "importance"))
    return (
        f'<tr><th scope="row">{escaped(unit_name(unit))}</th><td class="r">{score(alone)}</td>'
        f"<td>{'–' if side is None else 'high' if side > 0 else 'low'}</td>{numbers}</tr>"
    )


def _direction(unit: Record) -> int | None:
    """1 if the hypothesis holds where the unit is high, -1 if low, by its score alone; None if unknown."""
    if unit.get("auroc") is not None:
        return 1 if unit["auroc"] >= 0.5 else -1
    if unit.get("correlation") is not None:
        return 1 if unit["correlation"] >= 0 else -1
    return None
