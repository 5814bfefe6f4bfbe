"""Results of the probe stage, as used by the table, the figures and the report, and the verdict on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

# Files in a results folder: the records, texts to paint, coefficients, how often gates are open and shut, changes of
# the loss while units are held or directions erased, and the report with its folder of figures.
RECORDS, EXCERPTS, COEFFICIENTS, GATES = "probes.json", "excerpts.json", "coefficients.safetensors", "gates.json"
ABLATION, REPORT, FIGURES = "ablation.json", "report.html", "figures"
# The method of an ablation that holds no units: it erases the direction that predicts the hypothesis.
ERASE = "erase"
# The stages that make results.
PROBING = ("probe", "run")
# The fact with the hypotheses that could not be evaluated, and the reasons.
NOT_EVALUATED = "not_evaluated"
# The status of a fit that reached its tolerance; any other status is shown.
CONVERGED = "converged"

# The fits of a hypothesis of each kind.
WEIGHTINGS = {"boolean": ("plain", "balanced"), "continuous": ("none",)}
# The names of measures, and where their scales begin in charts and figures; all end at 1.
LABELS = {"auroc": "AUROC", "f1": "F1", "r2": "R²"}
LEAST = {"auroc": 0.5, "f1": 0.0, "r2": 0.0}
# The measure that judges hypotheses of each kind, and its value by chance, where its scale begins.
MEASURES = {"boolean": ("auroc", LEAST["auroc"]), "continuous": ("r2", LEAST["r2"])}
# The score of a single unit for hypotheses of each kind.
UNIT_LABELS = {"boolean": "AUROC", "continuous": "r"}


class Verdict(StrEnum):
    """The conclusion from a probe's score and its baselines: see `verdict`."""

    KNOWN = "known"
    UNDECIDED = "undecided"
    BELOW = "below a baseline"
    UNSCORED = "not scored"


@dataclass(frozen=True)
class Excerpt:
    """One hypothesis on one text of n characters: its label, the probe's prediction and one unit's activation.

    `value` is None where the hypothesis is undefined; `prediction` and `activation` are None without a probe.
    """

    hypothesis: str
    kind: str
    states: str
    weighting: str
    description: str
    sees: str
    sequence: int
    text: str
    value: tuple[float | None, ...]  # [n]
    prediction: tuple[float | None, ...]  # [n]
    unit: str | None
    activation: tuple[float | None, ...]  # [n]


@dataclass(frozen=True)
class Result:
    """One results folder: a name that distinguishes it, its path, its records, excerpts by hypothesis, and facts.

    `ablation` has a record for each set of units that was held or direction that was erased; it is empty if there was
    no ablation. If gates were recorded, `gates` has how often the units of each layer and gate are open and shut
    (`saturation`).
    """

    name: str
    folder: Path
    records: tuple[Record, ...]
    excerpts: Mapping[str, Excerpt]
    facts: Mapping[str, Any]
    ablation: tuple[Record, ...]
    gates: tuple[Record, ...]


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A metric of a record, or None if it does not apply: missing, null, NaN or infinite."""
    value = record.get(key)
    return value if value is not None and math.isfinite(value) else None


def json_number(value: float) -> float | None:
    """Return a metric as it is recorded: six decimals, None if it does not apply."""
    return round(float(value), 6) if math.isfinite(value) else None


def measure_of(record: Record) -> str:
    """The measure that judges the hypothesis of a record, `auroc` or `r2`."""
    return MEASURES[record["kind"]][0]


def lacks_text(records: Sequence[Record]) -> bool:
    """Whether there are records but none has a text baseline, because the text is unknown."""
    return bool(records) and all(number(record, f"baseline_text_{measure_of(record)}") is None for record in records)


def score(value: float | None) -> str:
    """Write a score as is usual in the field: two decimals, no leading zero, a dash if it does not apply."""
    if value is None or not math.isfinite(value):
        return "–"
    # Adding zero turns minus zero into zero.
    text = f"{round(value, 2) + 0.0:.2f}"
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    return sign + (digits[1:] if digits.startswith("0.") else digits)


def signed(value: float | None) -> str:
    """Write a difference with its sign and three decimals, no leading zero, a dash if it does not apply."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, 3) + 0.0:+.3f}".replace("+0.", "+.").replace("-0.", "-.")


def signed_interval(low: float | None, high: float | None) -> str:
    """Write the interval of a difference, a dash if it does not apply."""
    ends = [signed(low), signed(high)]
    return "–" if "–" in ends else " to ".join(ends)


def interval(record: Record, measure: str) -> str | None:
    """Write the 95% interval of a score, or None if it has none."""
    low, high = number(record, f"{measure}_low"), number(record, f"{measure}_high")
    if low is None or high is None:
        return None
    # Next to a minus sign, a dash could be taken for another one.
    return f"{score(low)} to {score(high)}" if score(low).startswith("-") else f"{score(low)}–{score(high)}"


def holds_at(record: Record) -> str | None:
    """Write at how many of the tested characters a hypothesis holds, or None if that is not recorded."""
    holds, tested = record.get("n_holds"), record.get("n_test")
    return None if holds is None or tested is None else f"{holds:,} of {tested:,}"


def unit_name(unit: Mapping[str, Any]) -> str:
    """The name of a unit: its states and its index, such as `layer0/c 17`."""
    return f"{unit['states']} {unit['unit']}"


def best_unit(record: Record) -> str | None:
    """The name of the first unit of the ranking, or None if no probe was fitted."""
    return unit_name(record["top_units"][0]) if record.get("top_units") else None


def best_unit_alone(record: Record) -> float | None:
    """The score of the best unit alone on the test rows: AUROC, or Pearson's r for a continuous hypothesis."""
    return number(record, "best_unit_auroc" if record["kind"] == "boolean" else "best_unit_pearson")


def verdict(record: Record) -> Verdict:
    """Decide whether states know a hypothesis, by how far a score lies above chance and above the text baseline.

    The score is AUROC, which needs no threshold and is 1/2 by chance; for continuous hypotheses it is R2, 0 by chance.
    It has a 95% interval, and so has its difference from the text baseline's, from resamples in which both are scored
    on the same sequences. `known`: both intervals lie wholly above. `below a baseline`: one lies wholly below.
    `undecided`: neither, or an interval is missing. `not scored`: there is no score, or the training rows had one
    class.
    """
    measure, chance = MEASURES[record["kind"]]
    if number(record, measure) is None or record["status"] == "one_class":
        return Verdict.UNSCORED
    names = (f"{measure}_low", f"{measure}_high", f"{measure}_over_text_low", f"{measure}_over_text_high")
    low, high, over_low, over_high = (number(record, name) for name in names)
    if low is None or high is None or over_low is None or over_high is None:
        return Verdict.UNDECIDED
    if low > chance and over_low > 0:
        return Verdict.KNOWN
    return Verdict.BELOW if high < chance or over_high < 0 else Verdict.UNDECIDED


def why_unscored(record: Record) -> str | None:
    """Return why a hypothesis with a fitted probe has no score; None if it has one, or the status gives the reason."""
    if verdict(record) != Verdict.UNSCORED or record["status"] == "one_class":
        return None
    if record.get("n_test") == 0:
        return "undefined in the test sequences"
    if record["kind"] == "continuous":
        return "constant in the test sequences"
    share = number(record, "prevalence")
    if share in (0, 1):
        return f"holds {'everywhere' if share else 'nowhere'} in the test sequences"
    return "no fold tests both labels" if number(record, "folds") else None


def headline(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """Choose one state set per hypothesis without looking at scores: all states, or else the first that it has.

    Args:
        records: the records of one result.

    Returns:
        The record of each weighting for each hypothesis, in the order of the records.
    """
    grouped: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        grouped.setdefault(record["hypothesis"], {}).setdefault(record["states"], {})[record["weighting"]] = record
    return {name: sets.get("all") or next(iter(sets.values())) for name, sets in grouped.items()}


def leading(weightings: Mapping[str, Record]) -> Record:
    """The leading record of a hypothesis: that of the plain fit, or else of the only one."""
    return weightings.get("plain") or next(iter(weightings.values()))


def leading_records(records: Iterable[Record]) -> dict[str, Record]:
    """The leading record of each hypothesis, in the order of the records."""
    return {name: leading(weightings) for name, weightings in headline(records).items()}


def ordered(results: Sequence[Result], kind: str) -> list[str]:
    """Names of the hypotheses of one kind, the best known first.

    The place of a hypothesis is its best one in any result: by verdict, then by AUROC (R2 for continuous ones) from
    high to low, then by name. Its kind is that of the first result that has it.
    """
    measure, _ = MEASURES[kind]
    kinds: dict[str, str] = {}
    places: dict[str, tuple[int, float]] = {}
    for result in results:
        for name, record in leading_records(result.records).items():
            if kinds.setdefault(name, record["kind"]) == record["kind"] == kind:
                value = number(record, measure)
                place = list(Verdict).index(verdict(record)), math.inf if value is None else -value
                places[name] = min(place, places.get(name, place))
    return sorted(places, key=lambda name: (places[name], name))


def all_ordered(results: Sequence[Result]) -> list[str]:
    """Names of all hypotheses, boolean before continuous, the best known of each kind first."""
    return [name for kind in MEASURES for name in ordered(results, kind)]
