"""Results folders as the probe stage writes them, in any size, for the table, the figures and the report."""

import json
import re

import numpy as np
import pytest
import torch
from report_page import Page
from sklearn.metrics import precision_recall_curve
from small_run import PROBE, SAMPLE, TEXT, TRAIN

from gatescope.analysis import hypotheses, probe_config, report, study
from gatescope.analysis.cli import main
from gatescope.analysis.record_fields import SCORES
from gatescope.analysis.report import write_report

C_TEXT = """/* Drain the queue; called with the lock held. */
static int drain_queue(struct queue *q, int budget)
{
\tstruct entry *e;
\tint done = 0;

\twhile ((e = queue_peek(q)) && done < budget) {
\t\tif (e->flags & ENTRY_DEAD) {
\t\t\tpr_warn("%s: entry %d is dead\\n", q->name, e->id);
\t\t\tqueue_drop(q, e); // never reused
\t\t\tcontinue;
\t\t}
\t\tdone += entry_run(e, (void *)q->data);
\t}
\treturn done ? done : -EAGAIN;
}
"""

# The last number is how well the imagined network knows the hypothesis: the share of the label in the probe's logit.
HYPOTHESES = (
    ("inside_string", r'"[^"\n]*"', 0.9),
    ("inside_comment", r"/\*.*?\*/|//[^\n]*", 0.85),
    ("inside_parentheses", r"\([^()]*\)", 0.7),
    ("indent_gt_1", r"(?m)(?<=^\t\t).*$", 0.95),
    ("indent_gt_2", r"(?m)(?<=^\t\t\t).*$", 0.8),
    ("indent_gt_3", r"(?m)(?<=^\t\t\t\t).*$", 0.3),
    ("newline_next", r".(?=\n)", 0.35),
    ("in_condition", r"(?<=if )\(.*\)", 0.25),
    ("preprocessor", r"(?m)^#.*$", 0.0),
    ("capitals", r"\b[A-Z_]{2,}\b", 0.6),
)


FEW = (
    ("inside_string", r'"[^"\n]*"', 0.9),
    ("inside_comment", r"/\*.*?\*/|//[^\n]*", 0.85),
    ("newline_next", r".(?=\n)", 0.35),
    ("preprocessor", r"(?m)^#.*$", 0.0),
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Drop what a test registers when the test ends."""
    hypotheses.library()
    monkeypatch.setattr(hypotheses, "_registry", dict(hypotheses._registry))


@pytest.fixture
def gpu(device, monkeypatch):
    """Let probes with device="cuda" be fitted on a GPU, or on its stand-in."""
    if not device.on_gpu:
        monkeypatch.setattr(probe_config, "require_gpu", lambda: None)
        monkeypatch.setattr(study, "free_bytes", lambda *_: 10**9)
        monkeypatch.setattr(study, "copied_to_gpu", lambda rows: device(torch.from_numpy(np.asarray(rows))))
    return device


def _unit(rng, state_set, hidden=128):
    return {
        "states": state_set,
        "unit": int(rng.integers(hidden)),
        "coefficient": round(float(rng.normal(0, 3)), 4),
        "importance": round(float(rng.gamma(2, 0.7)), 4),
        "auroc": round(float(rng.uniform(0.6, 0.99)), 4),
    }


def _record(rng, name, kind, states, weighting, knows):
    scores = dict.fromkeys(SCORES)
    units = sorted((_unit(rng, "layer0/c") for _ in range(4)), key=lambda unit: -unit["importance"])
    units = [{"states": "layer0/c", "unit": 17, "coefficient": -3.1, "importance": 9.2, "auroc": 0.97}, *units]
    status = "converged"
    if kind == "continuous":
        r2 = round(knows - 0.1, 4)
        units = [{**unit, "correlation": round(unit["auroc"] - 1.4, 4)} for unit in units]
        units = [{key: value for key, value in unit.items() if key != "auroc"} for unit in units]
        scores.update(r2=r2, r2_low=r2 - 0.04, r2_high=r2 + 0.03, pearson=round(knows**0.5, 4))
        scores.update(baseline_text_r2=r2 / 2, r2_over_text_low=r2 / 2 - 0.05, r2_over_text_high=r2 / 2 + 0.05)
        scores.update(best_unit_pearson=-0.4)
    elif knows == 0:
        status, units = "one_class", []
        scores.update(accuracy=1.0)
    else:
        f1 = float(np.clip(knows + rng.normal(0, 0.02), 0.01, 0.995))
        width = 0.01 + 0.1 * (1 - f1)
        scores.update(
            accuracy=0.9 + f1 / 11,
            precision=f1,
            recall=f1,
            f1=f1,
            f1_low=max(f1 - width, 0),
            f1_high=min(f1 + width, 1),
        )
        scores.update(mcc=f1 - 0.05, baseline_majority_f1=0.3 * knows, baseline_text_f1=0.3 + 0.25 * knows)
        # Half as far above chance as F1, so that what is hardly known scores below the table.
        auroc, table = 0.5 + f1 / 2, 0.6 + knows / 10
        scores.update(auroc=auroc, auroc_low=auroc - width / 2, auroc_high=min(auroc + width / 2, 1))
        scores.update(baseline_text_auroc=table, best_unit_auroc=0.5 + knows / 4, best_unit_f1=f1 / 2)
        scores.update(auroc_over_text_low=auroc - width / 2 - table, auroc_over_text_high=auroc + width / 2 - table)
    return {
        "hypothesis": name,
        "kind": kind,
        "states": states,
        "alignment": "post",
        "weighting": weighting,
        **scores,
        "n_train": 80_000,
        "n_test": 20_000,
        "n_holds": None if kind == "continuous" else 2_400,
        "n_sequences": 3.268,
        "prevalence": None if kind == "continuous" else 0.12,
        "top_units": units,
        "largest_weights": units[1:],
        "status": status,
    }


def _excerpt(rng, name, kind, text, value, knows):
    defined = np.array([character != "\t" for character in text])
    target = np.asarray(value, dtype=float)
    centred = target - target.mean() if kind == "continuous" else 2 * target - 1
    noise = rng.normal(0, 1, len(text))
    prediction = target + 0.1 * noise if kind == "continuous" else 1 / (1 + np.exp(-6 * knows * centred - noise))
    activation = 1.7 * np.tanh(-centred * knows + 0.3 * noise)
    return {
        "hypothesis": name,
        "kind": kind,
        "states": "all",
        "weighting": "none" if kind == "continuous" else "plain",
        "description": f"Whether the character matches what {name} says, closing delimiter excluded.",
        "sees": "future" if name == "newline_next" else "past",
        "sequence": 163,
        "text": text,
        "value": [round(float(v), 4) if d else None for v, d in zip(target, defined, strict=True)],
        "prediction": np.round(prediction, 4).tolist(),
        "unit": {"states": "layer0/c", "unit": 17},
        "activation": np.round(activation, 4).tolist(),
    }


@pytest.fixture(scope="session")
def write_result():
    """Return a function that writes a results folder of any size, with any text."""

    def write(folder, copies=1, state_sets=("all",), text=C_TEXT, seed=0, cell="lstm", hypotheses=HYPOTHESES):
        rng = np.random.default_rng(seed)
        records, excerpts = [], []
        for copy in range(copies):
            for base, regex, knows in hypotheses:
                name = f"{base}_{copy}" if copy else base
                value = np.zeros(len(text))
                for match in re.finditer(regex, text, re.DOTALL if "comment" in base else 0):
                    value[match.start() : match.end()] = 1
                for states in state_sets:
                    share = knows * (1 if states == "all" else rng.uniform(0.5, 1))
                    for weighting in ("plain", "balanced"):
                        records.append(_record(rng, name, "boolean", states, weighting, share))
                if knows:
                    excerpts.append(_excerpt(rng, name, "boolean", text, value, knows))
        for name, knows in (("line_position", 0.9), ("parenthesis_depth", 0.4)):
            column = np.array([i - (text.rfind("\n", 0, i) + 1) for i in range(len(text))])
            records += [_record(rng, name, "continuous", states, "none", knows) for states in state_sets]
            excerpts.append(_excerpt(rng, name, "continuous", text, 1 - column / 40, knows))
        facts = {
            "model": {"cell": cell, "layers": 1, "hidden": 128, "parameters": 132_450, "vocabulary_size": 98},
            "training": {
                "validation_nats": 1.391,
                "bits_per_character": 2.007,
                "perplexity": 4.019,
                "characters_per_second": 412_345.6,
            },
            "corpus": {"name": "texts/stdlib", "characters": 12_345_678},
            "dump": {"rows": 100_000, "sequences": 200, "alignment": "post", "temperature": 0.8, "seed": 0},
            "versions": {"gatescope": "0.1.0", "torch": "2.13.0"},
        }
        folder.mkdir(parents=True)
        config = {"stage": "probe", "settings": {}, "facts": facts}
        for file, content in (("probes", records), ("excerpts", excerpts), ("config", config)):
            (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def f1_above():
    """Return a function of labels and scores: scikit-learn's F1 of "the score is at least t", for every score t."""

    def curve(y, score):
        precision, recall, thresholds = precision_recall_curve(y, score)
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
        return f1[:-1], thresholds

    return curve


@pytest.fixture
def texts_to_draw(monkeypatch):
    """Write reports without figures, which take most of the time; return the names of the texts to be drawn."""
    names = []
    monkeypatch.setattr(
        report, "write_figures", lambda _, excerpts, folder: names.extend(e.hypothesis for _, e in excerpts)
    )
    return names


@pytest.fixture(scope="session")
def folder(tmp_path_factory, write_result):
    """A result with several state sets, its report beside it."""
    folder = tmp_path_factory.mktemp("report") / "lstm"
    write_result(folder, state_sets=("layer0/h", "layer0/c", "all"), hypotheses=FEW)
    write_report([folder], folder)
    return folder


@pytest.fixture(scope="session")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """The file of a small run's text."""
    path = tmp_path_factory.mktemp("text") / "text.py"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def model(text, tmp_path_factory):
    """The folder of a model trained on it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", str(text), "--out", str(folder), *TRAIN]) == 0
    return folder


@pytest.fixture(scope="session")
def states(model, tmp_path_factory):
    """A dump of text that the model wrote, with gates."""
    folder = tmp_path_factory.mktemp("sampled") / "states.zarr"
    assert main(["sample", str(model), "--out", str(folder), *SAMPLE, "--capture", "h", "c", "gates"]) == 0
    return folder


@pytest.fixture(scope="session")
def results(states, tmp_path_factory):
    """The results folder of probes of those states."""
    folder = tmp_path_factory.mktemp("probed") / "results"
    assert main(["probe", str(states), "--out", str(folder), *PROBE]) == 0
    return folder
