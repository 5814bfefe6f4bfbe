"""The report's tables of scores: the answer at its head, F1 by state set, and every record at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatescope.analysis.coloured_text import STEPS
from gatescope.analysis.report_style import tint_class
from gatescope.analysis.report_text import escaped, name_html
from gatescope.analysis.results import (
    CONVERGED,
    Record,
    Result,
    Verdict,
    best_unit,
    headline,
    leading,
    number,
    ordered,
    score,
    verdict,
)

# Rows of an answer that are open at once; the others are one click away.
MOST_OPEN = 40
# Beyond this many records the table of all scores is closed at first.
MOST_SCORES = 80

Anchors = Mapping[str, str]

GRID = "".join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="-4" y2="29"/>' for x in (0, 50, 100))
AXIS = (
    '<svg height="12" aria-hidden="true"><text x="0%" y="10">0</text>'
    '<text x="50%" y="10" text-anchor="middle">.5</text><text x="100%" y="10" text-anchor="end">1</text></svg>'
)
# The lines of one fit in a chart: class of its marks and height in pixels.
FITS = {"plain": ("plain", 7), "balanced": ("balanced", 17)}


def answer_tables(results: Sequence[Result], anchors: Anchors) -> str:
    """The tables at the head: F1 of boolean hypotheses against both baselines, then R2 of continuous ones.

    Args:
        results: results whose rows stand under one another, hypothesis by hypothesis.
        anchors: for hypotheses whose text is painted, the id to link to.
    """
    parts = []
    for kind, heading in (("boolean", ""), ("continuous", "<h2>Continuous hypotheses</h2>\n")):
        names = ordered(results, kind)
        if names:
            parts.append(heading + _answer_table(results, names[:MOST_OPEN], kind, anchors))
        if len(names) > MOST_OPEN:
            rest = _answer_table(results, names[MOST_OPEN:], kind, anchors)
            parts.append(_folded(len(names) - MOST_OPEN, rest))
    return "".join(parts)


def _answer_table(results: Sequence[Result], names: Sequence[str], kind: str, anchors: Anchors) -> str:
    several = len(results) > 1
    chosen = [headline(result.records) for result in results]
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
            cells = _boolean_cells if kind == "boolean" else _continuous_cells
            missing = f'<td colspan="{6 if kind == "boolean" else 5}" class="muted">not probed</td>'
            rows.append(f"<tr>{head}{cells(weightings[name]) if name in weightings else missing}</tr>\n")
        groups.append("".join(rows))
    body = "".join(f'<tbody class="group">{group}</tbody>' for group in groups) if several else _body(groups)
    heads = ['<th scope="col">hypothesis</th>', '<th scope="col">result</th>' if several else ""]
    if kind == "boolean":
        heads.append(f'<th scope="col" class="chart"><span>F1</span>{AXIS}</th><th scope="col">F1, plain</th>')
        heads.append('<th scope="col" class="r wide">n-gram</th><th scope="col" class="r wide">majority</th>')
        heads.append('<th scope="col">best unit</th><th scope="col">verdict</th>')
    else:
        heads.append(f'<th scope="col" class="chart"><span>R², r</span>{AXIS}</th><th scope="col">R²</th>')
        heads.append('<th scope="col" class="r wide">n-gram</th><th scope="col" class="r">r</th>')
        heads.append('<th scope="col">best unit</th>')
    return (
        f'<div class="scroll"><table class="answers"><caption>{_keys(kind)}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead>{body}</table></div>\n"
    )


def _body(rows: Sequence[str]) -> str:
    return f"<tbody>{''.join(rows)}</tbody>"


def _boolean_cells(weightings: Mapping[str, Record]) -> str:
    record = leading(weightings)
    judged = verdict(record)
    unit = best_unit(record)
    if judged == Verdict.UNSCORED:
        chart, f1 = "", "–"
    else:
        chart, f1 = _f1_chart(weightings), _with_interval(record, "f1")
    known = " known" if judged == Verdict.KNOWN else ""
    return (
        f'<td class="chart">{chart}</td><td class="f">{f1}</td>'
        f'<td class="r wide">{score(record.get("baseline_ngram_f1"))}</td>'
        f'<td class="r wide">{score(record.get("baseline_majority_f1"))}</td>'
        f'<td class="unit">{_unit(unit)}</td><td class="verdict{known}">{judged}{_status(weightings)}</td>'
    )


def _continuous_cells(weightings: Mapping[str, Record]) -> str:
    record = leading(weightings)
    r2, pearson, ngram = (number(record, key) for key in ("r2", "pearson", "baseline_ngram_r2"))
    if r2 is not None:
        marks = "" if ngram is None else _cross(f"{_x(ngram)}%", 11)
        marks += "".join(
            f'<circle class="{kind} dot" cx="{_x(value)}%" cy="11" r="3.4"/>'
            for kind, value in (("balanced", pearson), ("plain", r2))
            if value is not None
        )
        words = f"R² {score(r2)}, n-gram table {score(ngram)}, Pearson’s r {score(pearson)}"
        chart = f'<svg height="22" role="img" aria-label="{words}">{GRID}{marks}</svg>'
    else:
        chart = ""
    return (
        f'<td class="chart">{chart}</td><td class="f">{_with_interval(record, "r2")}</td>'
        f'<td class="r wide">{score(ngram)}</td><td class="r">{score(pearson)}</td>'
        f'<td class="unit">{_unit(best_unit(record))}{_status(weightings)}</td>'
    )


def _with_interval(record: Record, metric: str) -> str:
    low, high = number(record, f"{metric}_low"), number(record, f"{metric}_high")
    interval = "" if low is None or high is None else f" <small>{score(low)}–{score(high)}</small>"
    return score(number(record, metric)) + interval


def _unit(unit: str | None) -> str:
    return "–" if unit is None else escaped(unit)


def _status(weightings: Mapping[str, Record]) -> str:
    """What is to be said of fits that did not converge, if any."""
    statuses = sorted({record["status"] for record in weightings.values()} - {CONVERGED})
    return f" <small>({escaped(', '.join(statuses))})</small>" if statuses else ""


def _x(value: float) -> str:
    """A score's place on an axis from 0 to 1, in percent; what is below 0 stands at its left end."""
    return f"{100 * min(max(value, 0.0), 1.0):.1f}"


def _cross(x: str, y: float) -> str:
    return f'<svg x="{x}" y="{y}"><path class="mark" d="M-3-3L3 3M-3 3L3-3"/></svg>'


def _f1_chart(weightings: Mapping[str, Record]) -> str:
    marks, words = [], []
    for weighting, (kind, y) in FITS.items():
        record = weightings.get(weighting)
        f1 = None if record is None else number(record, "f1")
        if record is None or f1 is None:
            continue
        majority, ngram = number(record, "baseline_majority_f1"), number(record, "baseline_ngram_f1")
        if majority is not None:
            marks.append(f'<line class="mark" x1="{_x(majority)}%" x2="{_x(majority)}%" y1="{y - 5}" y2="{y + 5}"/>')
        if ngram is not None:
            marks.append(_cross(f"{_x(ngram)}%", y))
        words.append(f"{weighting} F1 {score(f1)}")
        low, high = number(record, "f1_low"), number(record, "f1_high")
        if low is not None and high is not None:
            marks.append(f'<line class="{kind} bar" x1="{_x(low)}%" x2="{_x(high)}%" y1="{y}" y2="{y}"/>')
            words.append(f"interval {score(low)} to {score(high)}")
        marks.append(f'<circle class="{kind} dot" cx="{_x(f1)}%" cy="{y}" r="3.2"/>')
        words.append(f"n-gram table {score(ngram)}, majority {score(majority)}")
    return f'<svg height="24" role="img" aria-label="{"; ".join(words)}">{GRID}{"".join(marks)}</svg>'


def _keys(kind: str) -> str:
    """The legend of the charts."""
    dots = {fit: f'<circle class="{fit} dot" cx="13" cy="6" r="3.2"/>' for fit in FITS}
    bars = {fit: f'<line class="{fit} bar" x1="2" x2="24" y1="6" y2="6"/>{dots[fit]}' for fit in FITS}
    if kind == "boolean":
        keys = {"plain fit, 95% interval": bars["plain"], "balanced fit": bars["balanced"]}
        keys["n-gram table"] = _cross("13", 6)
        keys["majority"] = '<line class="mark" x1="13" x2="13" y1="1" y2="11"/>'
    else:
        keys = {"R²": dots["plain"], "n-gram table": _cross("13", 6), "Pearson’s r": dots["balanced"]}
    return "".join(
        f'<span class="key"><svg aria-hidden="true">{mark}</svg>{word}</span> ' for word, mark in keys.items()
    )


def state_set_tables(results: Sequence[Result]) -> str:
    """F1 of the plain fit (R2 of continuous hypotheses) for every state set: where the knowledge lies."""
    parts = []
    for result in results:
        state_sets = list(dict.fromkeys(record["states"] for record in result.records))
        if len(state_sets) < 2:
            continue
        scores = {
            (record["hypothesis"], record["states"]): number(record, "r2" if record["kind"] == "continuous" else "f1")
            for record in result.records
            if record["weighting"] != "balanced"
        }
        heads = "".join(f'<th scope="col">{escaped(states)}</th>' for states in state_sets)
        names = [*ordered([result], "boolean"), *ordered([result], "continuous")]
        rows = []
        for name in names:
            cells = "".join(_tinted(scores.get((name, states))) for states in state_sets)
            rows.append(f'<tr><th scope="row">{name_html(name)}</th>{cells}</tr>\n')
        title = f"<h3>{escaped(result.name)}</h3>\n" if len(results) > 1 else ""
        top = f'<thead><tr><th scope="col">hypothesis</th>{heads}</tr></thead>'
        parts.append(title + _where_table(top, rows[:MOST_OPEN]))
        if len(rows) > MOST_OPEN:
            parts.append(_folded(len(rows) - MOST_OPEN, _where_table(top, rows[MOST_OPEN:])))
    if not parts:
        return ""
    note = "F1 of the plain fit on each state set alone; R² for continuous hypotheses."
    return f'<h2>Where it is</h2>\n<p class="muted">{note}</p>\n{"".join(parts)}'


def _where_table(head: str, rows: Sequence[str]) -> str:
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores by state set">'
        f'<table class="where">{head}{_body(rows)}</table></div>\n'
    )


def _folded(count: int, content: str) -> str:
    return f"<details><summary>{count} more hypotheses</summary>\n{content}</details>\n"


def _tinted(value: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    step = round(min(max(value, 0.0), 1.0) * STEPS)
    return f'<td class="{tint_class(step, signed=False)}">{score(value)}</td>'


COLUMNS = (
    ("prevalence", "prevalence"),
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("low", "f1_low"),
    ("high", "f1_high"),
    ("MCC", "mcc"),
    ("balanced acc.", "balanced_accuracy"),
    ("AUROC", "auroc"),
    ("average prec.", "average_precision"),
    ("log-loss, bits", "log_loss_bits"),
    ("ECE", "ece"),
    ("majority F1", "baseline_majority_f1"),
    ("n-gram F1", "baseline_ngram_f1"),
    ("R²", "r2"),
    ("n-gram R²", "baseline_ngram_r2"),
    ("r", "pearson"),
)
# Of results with controls.
CONTROLS = (
    ("control", "control_score"),
    ("selectivity", "selectivity"),
    ("compression", "compression"),
    ("q of best unit", "best_unit_q"),
)


def scores_table(results: Sequence[Result]) -> str:
    """Every record of every result, in the order of the files; sortable and filtered where JavaScript runs."""
    several = len(results) > 1
    words = ["result"] if several else []
    heads = "".join(f'<th scope="col">{word}</th>' for word in [*words, "hypothesis", "states", "weighting"])
    records = [record for result in results for record in result.records]
    controlled = [column for column in CONTROLS if any(number(record, column[1]) is not None for record in records)]
    columns = (*COLUMNS, *controlled)
    heads += "".join(f'<th scope="col" class="r">{word}</th>' for word, _ in columns)
    heads += '<th scope="col" class="r">test rows</th><th scope="col">best unit</th><th scope="col">status</th>'
    rows = [
        _score_row(result.name if several else None, record, columns) for result in results for record in result.records
    ]
    state = " open" if len(rows) <= MOST_SCORES else ""
    return (
        f'<h2 id="scores">All scores</h2>\n<details{state}><summary>{len(rows):,} fits</summary>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="All scores"><table class="sortable">'
        f"<thead><tr>{heads}</tr></thead>{_body(rows)}</table></div></details>\n"
    )


def _score_row(result: str | None, record: Record, columns: Sequence[tuple[str, str]]) -> str:
    first = "" if result is None else f"<td>{escaped(result)}</td>"
    names = f'<th scope="row">{name_html(record["hypothesis"])}</th><td>{escaped(record["states"])}</td>'
    numbers = "".join(f'<td class="r">{score(record.get(key))}</td>' for _, key in columns)
    rows = record.get("n_test")
    return (
        f"<tr>{first}{names}<td>{record['weighting']}</td>{numbers}"
        f'<td class="r">{"–" if rows is None else f"{rows:,}"}</td><td>{_unit(best_unit(record))}</td>'
        f"<td>{escaped(record['status'])}</td></tr>\n"
    )
