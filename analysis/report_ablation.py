"""The report's ablations: how the loss changes while units are held or directions erased."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.analysis.ablation_table import effects, held_units
from gatescope.analysis.report_html import escaped, name_html, opened, result_title, scrolled
from gatescope.analysis.results import ERASE, Record, Result, number, score

WORDS = (
    "where it holds",
    "95%",
    "elsewhere",
    "where it holds",
    "elsewhere",
    "p",
    "q",
    "p",
    "q",
    "before",
    "once",
    "left",
)
HEADS = (
    '<thead><tr><th rowspan="2" scope="col">hypothesis</th><th rowspan="2" scope="col">ranking</th>'
    '<th rowspan="2" scope="col">units</th><th colspan="3" scope="colgroup">these units</th>'
    '<th colspan="2" scope="colgroup">random units</th><th colspan="2" scope="colgroup">where it holds</th>'
    '<th colspan="2" scope="colgroup">difference</th><th colspan="3" scope="colgroup">AUROC</th></tr><tr>'
    + "".join(f'<th scope="col" class="r">{word}</th>' for word in WORDS)
    + "</tr></thead>"
)
HELD_AT = {
    "zero": "0",
    "mean": "their mean over the characters read",
    "resample": "their values at the same step of another sequence",
    "translate": "their values, shifted by the difference between their means where the hypothesis holds and elsewhere",
}
ERASED = (
    '<p class="muted">Erased: no unit is held. Instead, the one direction across all units of each layer, h and c, '
    "that predicts the hypothesis in the training sequences is removed after every step (LEACE, Belrose et al. 2023), "
    "compared with random directions. AUROC: of linear probes fitted anew on one half of the sequences read and tested "
    "on the other. Before: on undisturbed states. Once: with the direction removed once from these states, which shows "
    "how well other directions predict. Left: with the direction removed after every step. Where left exceeds once, "
    "the network has recovered the hypothesis from later text, and the loss is not what it would be without the "
    "hypothesis.</p>\n"
)


def ablation_tables(results: Sequence[Result]) -> str:
    """The loss added where a hypothesis holds, and elsewhere, beside that of random units or directions."""
    parts = []
    for result in results:
        if not result.ablation:
            continue
        rows = [_row(record) for record in result.ablation]
        table = opened(rows, _table, "lines")
        parts.append(result_title(result, results) + _note(result.ablation) + table + _units(result.ablation))
    return "<h2>Does the network use these units?</h2>\n" + "".join(parts) if parts else ""


def _note(records: Sequence[Record]) -> str:
    methods = dict.fromkeys(str(record["method"]) for record in records if record["method"] != ERASE)
    erased = any(record["method"] == ERASE for record in records)
    held = " or ".join(HELD_AT.get(method, method) for method in methods)
    sequences, characters, sets = (_counts(records, key) for key in ("n_sequences", "n_characters", "random_sets"))
    of = f" ({characters}characters)" if characters else ""
    return (
        f'<p class="muted">The model reads {sequences}unseen sequences again{of} while units are held at '
        f"{escaped(held)}, after every step, in h and, if the cell has one, in c. Numbers are the increase in loss "
        "over the undisturbed model, in nats per character: at characters where the hypothesis holds (their number "
        f"follows its name), elsewhere, and the mean of {sets}sets of as many random units in the same layers. p: the "
        "share of these sets, the tested one included, that lose at least as much where it holds; p of the difference: "
        "the share whose loss where it holds exceeds that elsewhere by at least as much. If both are small, the "
        "network uses these units, and mostly there. For a hypothesis about the next character (newline_next, and any "
        "with alignment pre) it may only mean that the network expects that character less. q: the expected share of "
        "false findings (Benjamini and Hochberg) if all lines with this q or less count as findings. h and c of a unit "
        "count once. Rankings: auroc, by how well a unit alone predicts; weight_sd and weight, by its weight in the "
        "probe, with and without its standard deviation; selected, in the order --sparse chose.</p>\n" + ERASED * erased
    )


def _counts(records: Sequence[Record], key: str) -> str:
    """The distinct values of a count, followed by a space; empty if no record has it."""
    found = dict.fromkeys(value for record in records if (value := number(record, key)) is not None)
    return " or ".join(f"{value:,}" for value in found) + " " * bool(found)


def _table(rows: Sequence[str]) -> str:
    return scrolled("Loss while units are held", f"{HEADS}<tbody>{''.join(rows)}</tbody>")


def _row(record: Record) -> str:
    refitted = (score(number(record, f"auroc_{name}")) for name in ("undisturbed", "once", "left"))
    numbers = "".join(f'<td class="r">{each}</td>' for each in (*effects(record), *refitted))
    holds = _counts([record], "n_holds").strip()
    name = name_html(record["hypothesis"]) + (f" <small>{holds}</small>" if holds else "")
    return (
        f'<tr><th scope="row">{name}</th><td>{escaped(record["ranking"])}</td>'
        f"<td>{escaped(held_units(record))}</td>{numbers}</tr>\n"
    )


def _units(records: Sequence[Record]) -> str:
    """The units of each set with more than one."""
    items = "".join(
        f"<li>{name_html(record['hypothesis'])}, {escaped(record['ranking'])}, {escaped(held_units(record))}: "
        + ", ".join(f"layer{unit['layer']} {unit['unit']}" for unit in record["units"])
        + "</li>\n"
        for record in records
        if len(record["units"]) > 1
    )
    return f'<details class="paper"><summary>Units of the sets</summary><ul>{items}</ul></details>\n' if items else ""
