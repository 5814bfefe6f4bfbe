"""The report's table of few units: scores of probes of 1, 2, 4 ... selected units."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gatescope.analysis.report_html import MOST_UNITS, name_html, opened, result_title, scrolled, unit_names
from gatescope.analysis.results import Record, Result, all_ordered, measure_of, number, score


def sparse_tables(results: Sequence[Result]) -> str:
    """How many units it takes to predict a hypothesis, for results of `--sparse`."""
    parts = []
    for result in results:
        records = {record["hypothesis"]: record for record in result.records if record.get("sparse")}
        if not records:
            continue
        names = [name for name in all_ordered([result]) if name in records]
        sizes = max((records[name]["sparse"]["units"] for name in names), key=len)
        heads = "".join(f'<th scope="col" class="r">{size}</th>' for size in sizes)
        head = (
            f'<thead><tr><th scope="col">hypothesis</th>{heads}<th scope="col" class="r">all</th>'
            '<th scope="col" class="r">units for 95%</th><th scope="col">selected, in this order</th></tr></thead>'
        )
        rows = [_row(records[name], len(sizes)) for name in names]
        parts.append(result_title(result, results) + opened(rows, partial(_table, head)))
    if not parts:
        return ""
    note = (
        "AUROC (R²) of probes fitted anew to 1, 2, 4 … units, selected one after another on the training sequences, "
        "each the one that adds most to R² of least squares there. In small type: the mean of four draws of as many "
        "random units. “Units for 95%” is the smallest of these sizes from which on every probe reaches 95% of how far "
        "the probe of all units lies above chance. h and c of a unit count as two."
    )
    return f'<h2>How many units does it take?</h2>\n<p class="muted">{note}</p>\n{"".join(parts)}'


def _table(head: str, rows: Sequence[str]) -> str:
    return scrolled("Scores of few units", f"{head}<tbody>{''.join(rows)}</tbody>")


def _row(record: Record, n_sizes: int) -> str:
    sparse, measure = record["sparse"], measure_of(record)
    pairs = zip(sparse["selected"], sparse["random"], strict=True)
    cells = [f'<td class="r">{score(selected)} <small>{score(random)}</small></td>' for selected, random in pairs]
    cells += ["<td></td>"] * (n_sizes - len(cells))
    needed = number(record, "units_needed")
    cells += [f'<td class="r">{score(number(record, measure))}</td>']
    cells += [f'<td class="r">{"–" if needed is None else int(needed)}</td>']
    units = record.get("selected_units") or []
    names = unit_names(units[:MOST_UNITS]) + "&nbsp;…" * (len(units) > MOST_UNITS)
    cells += [f"<td>{names or '–'}</td>"]
    return f'<tr><th scope="row">{name_html(record["hypothesis"])}</th>{"".join(cells)}</tr>\n'
