"""The report's first tables: the score of each hypothesis, its baselines, its best unit, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatescope.analysis.overview import LEAST_RESULTS
from gatescope.analysis.report_chart import (
    BELOW_AXIS,
    CROSS,
    axis_of,
    chart_of,
    chevron,
    cross,
    in_words,
    key_of,
    marks_of,
    place_on,
)
from gatescope.analysis.report_html import escaped, name_html, opened, scrolled
from gatescope.analysis.results import (
    CONVERGED,
    LABELS,
    LEAST,
    Record,
    Result,
    Verdict,
    best_unit,
    best_unit_alone,
    headline,
    holds_at,
    interval,
    leading,
    number,
    ordered,
    score,
    verdict,
    why_unscored,
)

Anchors = Mapping[str, str]
Weightings = Mapping[str, Record]

# Distance of each fit's marks from a chart's upper edge, in pixels.
FITS = {"plain": 7, "balanced": 17}


@dataclass(frozen=True)
class Layout:
    """The columns of a table after the names: headings, the cells of a hypothesis, and the key of its chart.

    `wide` describes the columns that a narrow window has no room for.
    """

    measure: str
    heads: str
    cells: Callable[[Weightings], str]
    keys: Mapping[str, str]
    wide: str


def answer_tables(results: Sequence[Result], anchors: Anchors) -> str:
    """The tables at the top: AUROC of boolean hypotheses, then R2 of continuous ones.

    Args:
        results: results, whose rows are listed below one another for each hypothesis.
        anchors: the id to link to, for hypotheses whose text is painted.
    """
    boolean, continuous = (_tables(results, anchors, *each) for each in (("boolean", AUROC), ("continuous", R2)))
    # Otherwise the table comes first, and needs no heading.
    heading = "<h2>Boolean hypotheses</h2>\n" if boolean and len(results) >= LEAST_RESULTS else ""
    return f"{heading}{boolean}" + (f"<h2>Continuous hypotheses</h2>\n{continuous}" if continuous else "")


def f1_tables(results: Sequence[Result], anchors: Anchors) -> str:
    """F1 of the plain and the balanced fit, as in the paper; arguments as for `answer_tables`."""
    tables = _tables(results, anchors, "boolean", F1)
    note = (
        "At the threshold ½, as in the paper. A plain fit seldom predicts a rare hypothesis, however well it ranks "
        "characters; a balanced fit gives each class half of the weight."
    )
    return f'<h2>F1 of both fits</h2>\n<p class="muted">{note}</p>\n{tables}' if tables else ""


def _tables(results: Sequence[Result], anchors: Anchors, kind: str, layout: Layout) -> str:
    names = ordered(results, kind)
    return opened(names, lambda shown: _table(results, shown, anchors, layout)) if names else ""


def _table(results: Sequence[Result], names: Sequence[str], anchors: Anchors, layout: Layout) -> str:
    several = len(results) > 1
    chosen = [headline(result.records) for result in results]
    # One more column, for the chart.
    missing = f'<td colspan="{1 + layout.heads.count("<th")}" class="muted">not probed</td>'
    groups = []
    for name in names:
        label = name_html(name)
        label = f'<a href="#{anchors[name]}">{label}</a>' if name in anchors else label
        span = f' rowspan="{len(results)}"' if several else ""
        rows = []
        for i, (result, weightings) in enumerate(zip(results, chosen, strict=True)):
            scope = "rowgroup" if several else "row"
            head = f'<th scope="{scope}"{span}>{label}</th>' if i == 0 else ""
            head += f'<th scope="row" class="muted">{escaped(result.name)}</th>' if several else ""
            cells = layout.cells(weightings[name]) if name in weightings else missing
            rows.append(f"<tr>{head}{cells}</tr>\n")
        groups.append("".join(rows))
    wrapped = (f'<tbody class="group">{group}</tbody>' for group in groups)
    body = "".join(wrapped) if several else f"<tbody>{''.join(groups)}</tbody>"
    first = '<th scope="col">hypothesis</th>' + ('<th scope="col">result</th>' if several else "")
    axis = f'<th scope="col" class="chart"><span>{LABELS[layout.measure]}</span>{axis_of(LEAST[layout.measure])}</th>'
    keys = "".join(
        f'<span class="key"><svg aria-hidden="true">{mark}</svg>{word}</span> '
        for word, mark in _keys(layout, body).items()
    )
    keys += f'<span class="narrow">A wider window also shows {layout.wide}.</span>'
    head = f"<caption>{keys}</caption><thead><tr>{first}{axis}{layout.heads}</tr></thead>"
    return scrolled(f"{LABELS[layout.measure]} of hypotheses", head + body, "answers")


def _keys(layout: Layout, body: str) -> dict[str, str]:
    """The marks in a table, by their meaning."""
    keys = dict(layout.keys)
    if CROSS in body:
        keys["text baseline"] = cross("13", 6)
    if BELOW_AXIS in body:
        keys["goes on below the axis"] = chevron("mark", 10, 6)
    return keys


def _auroc_cells(weightings: Weightings) -> str:
    holds, _, tested = (holds_at(leading(weightings)) or "–").partition(" ")
    holds += f" <small>{tested}</small>" if tested else ""
    f1 = "/".join(score(number(each, "f1")) for each in _fits(weightings))
    return _judged_cells(weightings, "auroc", f1, f'<td class="r wide">{holds}</td>')


def _r2_cells(weightings: Weightings) -> str:
    return _judged_cells(weightings, "r2", score(number(leading(weightings), "pearson")))


def _judged_cells(weightings: Weightings, measure: str, other: str, more: str = "") -> str:
    """Chart, score and text baseline by the measure, another score, `more` cells, the best unit and the verdict."""
    record = leading(weightings)
    judged, why = verdict(record), why_unscored(record)
    if judged == Verdict.UNSCORED:
        chart = value = text = other = unit = "–"
    else:
        chart = chart_of(22, [marks_of(record, measure, "plain", 11)], in_words(record, measure))
        value, text = _with_interval(record, measure), score(number(record, f"baseline_text_{measure}"))
        unit = _unit(record)
    known = " known" if judged == Verdict.KNOWN else ""
    reason = f" <small>({why})</small>" if why else ""
    return (
        f'<td class="chart">{chart}</td><td class="f">{value}</td><td class="r">{text}</td>'
        f'<td class="r wide">{other}</td>{more}<td class="unit">{unit}</td>'
        f'<td class="verdict{known}">{judged}{reason}{_status(weightings)}</td>'
    )


def _unit(record: Record) -> str:
    """The best unit and its score alone."""
    alone = best_unit_alone(record)
    return escaped(best_unit(record) or "–") + ("" if alone is None else f" <small>{score(alone)}</small>")


def _f1_cells(weightings: Weightings) -> str:
    if verdict(leading(weightings)) == Verdict.UNSCORED:
        # If a hypothesis holds everywhere or nowhere, its F1 is meaningless.
        return f'<td class="chart">–</td>{"<td>–</td>" * 2}{WIDE_DASH * 2}'
    fits = _fits(weightings)
    majority = number(leading(weightings), "baseline_majority_f1")
    marks, words = [], []
    for record in fits:
        if number(record, "f1") is None:
            continue
        kind = record["weighting"]
        y = FITS[kind]
        if majority is not None:
            x = place_on(majority, 0)
            marks.append(f'<line class="mark" x1="{x}%" x2="{x}%" y1="{y - 5}" y2="{y + 5}"/>')
        marks.append(marks_of(record, "f1", kind, y))
        words.append(f"{kind} {in_words(record, 'f1')}")
    scores = "".join(
        f'<td class="f">{_with_interval(weightings[name], "f1") if name in weightings else "–"}</td>' for name in FITS
    )
    text = "/".join(score(number(record, "baseline_text_f1")) for record in fits)
    return (
        f'<td class="chart">{chart_of(24, marks, "; ".join([*words, f"majority {score(majority)}"]))}</td>{scores}'
        f'<td class="r wide">{text}</td><td class="r wide">{score(majority)}</td>'
    )


def _fits(weightings: Weightings) -> list[Record]:
    return [weightings[name] for name in FITS if name in weightings]


def _with_interval(record: Record, measure: str) -> str:
    return f"{score(number(record, measure))} <small>{interval(record, measure) or '–'}</small>"


def _status(weightings: Weightings) -> str:
    """The statuses of fits that did not converge, if any."""
    statuses = sorted({record["status"] for record in weightings.values()} - {CONVERGED})
    return f" <small>({escaped(', '.join(statuses))})</small>" if statuses else ""


WIDE_DASH = '<td class="r wide">–</td>'
JUDGED = (
    '<th scope="col" class="r">text</th><th scope="col" class="r wide">{}</th>{}'
    '<th scope="col">best unit <small>alone</small></th><th scope="col">verdict</th>'
)
AUROC = Layout(
    "auroc",
    '<th scope="col">AUROC</th>' + JUDGED.format("F1, plain/bal.", '<th scope="col" class="r wide">holds at</th>'),
    _auroc_cells,
    {"probe, 95% interval": key_of("plain")},
    "F1, and at how many of the tested characters it holds",
)
R2 = Layout(
    "r2",
    '<th scope="col">R²</th>' + JUDGED.format("r", ""),
    _r2_cells,
    {"probe, 95% interval": key_of("plain")},
    "Pearson’s r",
)
F1 = Layout(
    "f1",
    '<th scope="col">plain</th><th scope="col">balanced</th><th scope="col" class="r wide">text</th>'
    '<th scope="col" class="r wide">majority</th>',
    _f1_cells,
    {
        "plain fit, 95% interval": key_of("plain"),
        "balanced fit": key_of("balanced"),
        "majority": '<line class="mark" x1="13" x2="13" y1="1" y2="11"/>',
    },
    "F1 of the text baseline and of the majority",
)
