"""The report's overview of several results: how well each predicts a hypothesis, in the order given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from gatescope.analysis.overview import Course, courses_of, is_known, text_alone
from gatescope.analysis.report_chart import cross, key_of
from gatescope.analysis.report_html import name_html, opened, scrolled
from gatescope.analysis.results import LEAST, Result, number, score

# Pixels: the height of a chart, and its margins above 1 and below its least value.
HEIGHT, MARGIN = 52, 4
NOTE = (
    "AUROC of the plain fit, from ½ at the lower line to 1 at the upper one, and R² of continuous hypotheses, from 0 "
    "to 1; results run from left to right in the order of the columns. Lower scores are drawn at the lower line. In "
    "bold: known."
)
OTHER_TEXT = (
    " Not all results were tested on the same characters: differences between such results may be due to the text, and "
    "they share no text baseline."
)
ONE_PENALTY = (
    " All probes have the same C, which penalises small states more, such as those of a network before training. Give "
    "several values of --C to choose one for each hypothesis and result."
)


def overview_section(results: Sequence[Result]) -> str:
    """A line for each hypothesis, with a chart over the results; empty for fewer than three results."""
    courses = courses_of(results)
    if not courses:
        return ""
    note = NOTE + ONE_PENALTY * _one_penalty(results) + OTHER_TEXT * any(map(_differ, courses))
    table = opened(courses, partial(_table, results))
    return f'<h2>From result to result</h2>\n<p class="muted">{note}</p>\n{table}'


def _one_penalty(results: Sequence[Result]) -> bool:
    """Whether all probes had the same single C, as far as the facts show."""
    first, *others = [result.facts.get("probe", {}).get("C") for result in results]
    return bool(first) and len(first) == 1 and all(other == first for other in others)


def _differ(course: Course) -> bool:
    """Whether the results tested a hypothesis on different characters."""
    return len({record.get("tested_sha256") for record in course.records if record}) > 1


def _table(results: Sequence[Result], courses: Sequence[Course]) -> str:
    names = ["text", *(name_html(result.name) for result in results)]
    keys = {"probe, 95% interval": key_of("plain"), "text baseline": cross("13", 6)}
    caption = "".join(
        f'<span class="key"><svg aria-hidden="true">{mark}</svg>{word}</span> ' for word, mark in keys.items()
    )
    head = '<th scope="col">hypothesis</th><th scope="col" class="chart">AUROC, R²</th>'
    head += "".join(f'<th scope="col" class="r">{name}</th>' for name in names)
    table = f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, courses))}</tbody>"
    return scrolled("Scores from result to result", table, "overview")


def _row(course: Course) -> str:
    cells = "".join(
        f'<td class="r{" known" if is_known(record) else ""}">{score(number(record or {}, course.measure))}</td>'
        for record in course.records
    )
    name = name_html(course.hypothesis) + " <small>R²</small>" * (course.measure == "r2")
    text = f'<td class="r">{text_alone(course)}</td>'
    return f'<tr><th scope="row">{name}</th><td class="chart">{_chart(course)}</td>{text}{cells}</tr>\n'


def _chart(course: Course) -> str:
    """Scores, their intervals and the text baseline, from result to result; the numbers are beside the chart."""
    least, measure = LEAST[course.measure], course.measure
    marks, points = [], []
    for place, record in enumerate(course.records):
        if record is None:
            continue
        x = f"{100 * (place + 0.5) / len(course.records):.1f}%"
        text, low, high = (
            number(record, key) for key in (f"baseline_text_{measure}", f"{measure}_low", f"{measure}_high")
        )
        if text is not None:
            marks.append(cross(x, _y(text, least)))
        if low is not None and high is not None:
            marks.append(_line("plain bar", (x, x), (_y(low, least), _y(high, least))))
        points.append((x, _y(record[measure], least)))
    lines = [_line("plain", (x, other), (y, below)) for (x, y), (other, below) in pairwise(points)]
    dots = [f'<circle class="plain dot" cx="{x}" cy="{y}" r="2.6"/>' for x, y in points]
    grid = [_line("grid", ("0", "100%"), (y, y)) for y in (_y(1, least), _y(least, least))]
    return f'<svg height="{HEIGHT}" aria-hidden="true">{"".join([*grid, *lines, *marks, *dots])}</svg>'


def _line(kind: str, xs: tuple[str, str], ys: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{xs[0]}" x2="{xs[1]}" y1="{ys[0]}" y2="{ys[1]}"/>'


def _y(value: float, least: float) -> float:
    """The distance of a score from the upper edge of a chart, in pixels."""
    share = min(max((value - least) / (1 - least), 0.0), 1.0)
    return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)
