"""The report's sections: for each hypothesis its text coloured three ways, and the units that carry it."""

from __future__ import annotations

import html
from collections.abc import Mapping

from gatescope.analysis.coloured_text import UNDEFINED, Colouring, colourings, printable, runs, visible
from gatescope.analysis.report_style import tint_class
from gatescope.analysis.results import Excerpt, Record, headline, leading, score, unit_name

SEES = {
    "past": "The label follows from what the network has read.",
    "future": "The label needs characters that come later, so the states can only foretell it.",
}
MOST_UNITS = 5


def escaped(text: str) -> str:
    """Text from outside, safe in an element or a quoted attribute, on one line, nothing in it invisible."""
    return html.escape(visible(text))


def name_html(name: str) -> str:
    """A name that a narrow column may break behind an underscore or a slash."""
    return escaped(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def text_panels(excerpt: Excerpt) -> str:
    """An excerpt coloured by hypothesis, by prediction and by unit, as three figures side by side."""
    panels = "".join(_panel(excerpt.text, colouring) for colouring in colourings(excerpt))
    return f'<div class="panels">{panels}</div>\n'


def _panel(text: str, colouring: Colouring) -> str:
    # A mark says to a screen reader what the tint says to the eye.
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
    # The parser drops a newline that follows <pre>; here each newline stands inside an element of its own.
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


def excerpt_record(records: list[Record], excerpt: Excerpt) -> Record | None:
    """The record of the probe whose prediction an excerpt shows, or else the one that speaks for the hypothesis."""
    for record in records:
        if all(record[key] == getattr(excerpt, key) for key in ("hypothesis", "states", "weighting")):
            return record
    weightings = headline(records).get(excerpt.hypothesis)
    return leading(weightings) if weightings else None


def units_table(record: Record) -> str:
    """The first units of the ranking on one line, which opens to what each is worth."""
    units = (record.get("top_units") or [])[:MOST_UNITS]
    if not units:
        return f'<p class="muted">No units: the probe was not fitted ({escaped(record["status"])}).</p>\n'
    rows = "".join(_unit_row(unit) for unit in units)
    names = ", ".join(escaped(unit_name(unit)) for unit in units)
    return (
        f"<details><summary>Most responsible units: {names}</summary>\n"
        '<table><thead><tr><th scope="col">unit</th><th scope="col" class="r">coefficient w</th>'
        '<th scope="col" class="r">importance |w|·sd</th>'
        '<th scope="col" class="r">AUROC alone, training rows</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>\n"
    )


def _unit_row(unit: Mapping[str, float | str | None]) -> str:
    coefficient, importance, auroc = (unit.get(key) for key in ("coefficient", "importance", "auroc"))
    cells = (significant(coefficient), significant(importance), score(auroc))  # type: ignore[arg-type]
    numbers = "".join(f'<td class="r">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{escaped(unit_name(unit))}</th>{numbers}</tr>'


def significant(value: object) -> str:
    """A number to three significant digits, with a true minus sign; a dash where there is none."""
    return f"{value:.3g}".replace("-", "−") if isinstance(value, int | float) else "–"
