"""The report's further tables: scores by state set, and all records at the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gatescope.analysis.coloured_text import STEPS
from gatescope.analysis.difference import unexceeded_sets
from gatescope.analysis.report_html import escaped, name_html, opened, result_title, scrolled, significant
from gatescope.analysis.report_style import tint_class
from gatescope.analysis.results import MEASURES, Record, Result, all_ordered, best_unit, measure_of, number, score

# With more records than this, the table of all scores is closed at first.
MOST_SCORES = 30


def state_set_tables(results: Sequence[Result]) -> str:
    """AUROC (R2 for continuous hypotheses) of every state set: where the knowledge is."""
    parts, compared = [], False
    for result in results:
        state_sets = list(dict.fromkeys(record["states"] for record in result.records))
        if len(state_sets) < 2:
            continue
        scores = {
            (record["hypothesis"], record["states"]): number(record, measure_of(record))
            for record in result.records
            if record["weighting"] != "balanced"
        }
        chance = {record["hypothesis"]: MEASURES[record["kind"]][1] for record in result.records}
        best = unexceeded_sets(result)
        compared = compared or bool(best)
        heads = "".join(f'<th scope="col">{name_html(states)}</th>' for states in state_sets)
        rows = []
        for name in all_ordered([result]):
            cells = "".join(
                _tinted(scores.get((name, states)), chance[name], (name, states) in best) for states in state_sets
            )
            rows.append(f'<tr><th scope="row">{name_html(name)}</th>{cells}</tr>\n')
        parts.append(result_title(result, results) + opened(rows, partial(_where_table, heads)))
    if not parts:
        return ""
    note = "AUROC of the plain fit on each state set alone (½ by chance); R² for continuous hypotheses."
    note += " In bold: scores that no other set exceeds with the whole 95% interval of the difference." * compared
    return f'<h2>Where it is</h2>\n<p class="muted">{note}</p>\n{"".join(parts)}'


def _where_table(heads: str, rows: Sequence[str]) -> str:
    head = f'<thead><tr><th scope="col">hypothesis</th>{heads}</tr></thead>'
    return scrolled("Scores by state set", f"{head}<tbody>{''.join(rows)}</tbody>", "where")


def _tinted(value: float | None, chance: float, best: bool) -> str:
    if value is None:
        return "<td>–</td>"
    step = round(min(max((value - chance) / (1 - chance), 0.0), 1.0) * STEPS)
    return f'<td class="{tint_class(step, signed=False)}">{f"<b>{score(value)}</b>" if best else score(value)}</td>'


COLUMNS = (
    ("prevalence", "prevalence"),
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("F1 low", "f1_low"),
    ("F1 high", "f1_high"),
    ("majority F1", "baseline_majority_f1"),
    ("text F1", "baseline_text_f1"),
    ("AUROC", "auroc"),
    ("AUROC low", "auroc_low"),
    ("AUROC high", "auroc_high"),
    ("text AUROC", "baseline_text_auroc"),
    ("average prec.", "average_precision"),
    ("balanced acc.", "balanced_accuracy"),
    ("MCC", "mcc"),
    ("log-loss, bits", "log_loss_bits"),
    ("ECE", "ece"),
    ("R²", "r2"),
    ("text R²", "baseline_text_r2"),
    ("r", "pearson"),
    ("unit’s F1", "best_unit_f1"),
    ("unit’s AUROC", "best_unit_auroc"),
    ("unit’s r", "best_unit_pearson"),
    ("localisation", "localisation"),
)
# Columns that are shown only if a result has them: from a choice of penalties, folds or controls.
MORE = (
    ("C", "C"),
    ("unit’s folds", "best_unit_share"),
    ("control", "control_score"),
    ("selectivity", "selectivity"),
    ("leak", "leak"),
    ("leak, low", "leak_low"),
    ("leak, high", "leak_high"),
    ("compression", "compression"),
    ("q of any unit", "best_unit_q"),
    ("ten again", "top_units_overlap"),
    ("untrained", "untrained_score"),
    ("above it, low", "above_untrained_low"),
    ("above it, high", "above_untrained_high"),
)
# The meaning of the columns of controls; each is explained if a record has that score.
CONTROLS_MEAN = {
    "control_score": "Control: AUROC (R²) of the same probe on random labels determined by the last three characters, "
    "mean of ten draws; selectivity is how far the hypothesis lies above that.",
    "leak": "Leak: how much higher AUROC (R²) would be, on the same characters, if single characters rather than whole "
    "sequences were split into training and test, and its 95% interval.",
    "compression": "Compression: how many times shorter the code for the labels of the training sequences is with "
    "probes of these states than with only the labels’ known frequency.",
    "best_unit_q": "q of any unit: the expected share of false findings (Benjamini and Hochberg) if all hypotheses "
    "with this q or less count as findings. Its p is how often labels shifted circularly within the training sequences "
    "have a unit that predicts them as well as the best. Labels and units that both depend on the position in a "
    "sequence also have a small p.",
    "top_units_overlap": "Ten again: the share of the ten first units that are again among the ten first when the "
    "training sequences are resampled, mean of 20 resamples; 10 / H if H units are ordered by chance.",
    "untrained_score": "Untrained: AUROC (R²) of a probe on states of an untrained network: one draw of random weights "
    "for the same architecture, reading the same text, with C divided by the mean variance of its units, because small "
    "states would otherwise be penalised more. Above it: the 95% interval of how far the trained network’s probe lies "
    "above.",
}


def scores_table(results: Sequence[Result]) -> str:
    """All records of all results, in the order of the files; JavaScript makes them sortable and filterable."""
    several = len(results) > 1
    words = ["result"] if several else []
    heads = "".join(f'<th scope="col">{word}</th>' for word in [*words, "hypothesis", "states", "weighting"])
    records = [record for result in results for record in result.records]
    more = [column for column in MORE if any(number(record, column[1]) is not None for record in records)]
    columns = (*COLUMNS, *more)
    heads += "".join(f'<th scope="col" class="r">{word}</th>' for word, _ in columns)
    heads += "".join(f'<th scope="col" class="r">{word}</th>' for word in ("sequences", "test rows"))
    heads += '<th scope="col">best unit</th><th scope="col">status</th>'
    rows = [
        _score_row(result.name if several else None, record, columns) for result in results for record in result.records
    ]
    state = " open" if len(rows) <= MOST_SCORES else ""
    table = scrolled("All scores", f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>", "sortable")
    return (
        f'<h2 id="scores">All scores</h2>\n<details{state}><summary>{len(rows):,} fits</summary>\n{table}</details>\n'
    )


def _score_row(result: str | None, record: Record, columns: Sequence[tuple[str, str]]) -> str:
    first = "" if result is None else f"<td>{escaped(result)}</td>"
    names = f'<th scope="row">{name_html(record["hypothesis"])}</th><td>{escaped(record["states"])}</td>'
    numbers = "".join(
        f'<td class="r">{(significant if key == "C" else score)(record.get(key))}</td>' for _, key in columns
    )
    rows = record.get("n_test")
    return (
        f"<tr>{first}{names}<td>{record['weighting']}</td>{numbers}"
        f'<td class="r">{significant(record.get("n_sequences"))}</td>'
        f'<td class="r">{"–" if rows is None else f"{rows:,}"}</td><td>{escaped(best_unit(record) or "–")}</td>'
        f"<td>{escaped(record['status'])}</td></tr>\n"
    )


def controls_words(results: Sequence[Result]) -> str:
    """The meaning of the controls that are in the table of all scores."""
    records = [record for result in results for record in result.records]
    said = [words for key, words in CONTROLS_MEAN.items() if any(number(record, key) is not None for record in records)]
    return f"<p>Controls, in the table of all scores. {' '.join(said)}</p>\n" if said else ""
