"""Facts recorded with the scores of a probe: model, text and states, the method, and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from gatescope.analysis.results import NOT_EVALUATED
from gatescope.analysis.study import Study
from gatescope.engine.counted import counted
from gatescope.engine.evaluate import perplexity
from gatescope.engine.state_source import StateSource


def facts_of(study: Study, language: str, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a report about what was probed and how, as JSON values.

    Args:
        study: the states and the method.
        language: the language of the text.
        failed: hypotheses that could not be evaluated, with the reasons.
    """
    dump, config = study.dump, study.config
    attributes = dump.attributes
    training = dict(attributes.get("training") or {})
    if "validation_nats" in training:
        training["bits_per_character"] = training["validation_nats"] / np.log(2)
        training["perplexity"] = perplexity(training["validation_nats"])
    settings = attributes.get("settings") or {}
    return {
        "model": attributes.get("model"),
        "training": training,
        "corpus": attributes.get("corpus"),
        "dump": {
            "kind": attributes.get("kind"),
            "rows": dump.n_rows,
            "sequences": len(dump.sequence_starts) - 1,
            "alignment": attributes.get("alignment"),
            "temperature": settings.get("temperature"),
            "seed": settings.get("seed"),
            "language": language,
            **_loss(dump),
        },
        "probe": {
            "training_sequences": len(study.train),
            "test_sequences": sum(len(fold.test) for fold in study.folds),
            **({"folds": config.folds} if config.folds > 1 else {"test_share": config.test_share}),
            "C": list(config.C),
            "alignment": config.alignment,
            "ranking": config.ranking,
            "bootstrap": config.bootstrap,
            "device": config.device,
            "seed": study.seed,
        },
        NOT_EVALUATED: dict(failed),
        "versions": {
            "gatescope": version("gatescope"),
            "numpy": version("numpy"),
            "torch": version("torch"),
            "python": platform.python_version(),
        },
    }


def _loss(dump: StateSource) -> dict[str, float]:
    """The loss of the model on the text that it read, if it was recorded: it shows how well the model reads."""
    name = next((name for name in dump.names if name.endswith("/log_probability")), None)
    if name is None or dump.attributes.get("kind") != "extract":
        return {}
    return {"nats_per_character": -float(np.asarray(dump.array(name), np.float64).mean())}


def reading(study: Study, language: str) -> str:
    """Return a line on how the states are read."""
    lengths = np.diff(study.dump.sequence_starts)
    shortest, longest = int(lengths.min()), int(lengths.max())
    each = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    tested = "all tested in turn" if len(study.folds) > 1 else f"{len(study.test):,} of them tested"
    text = {"row": "no text", "token": "text of tokens", "character": f"text: {language}"}[study.dump.of_each_row]
    rows = f"{counted(study.dump.n_rows, 'row')} in {counted(len(lengths), 'sequence')} of {each}, {tested}"
    axes = study.dump.attributes.get("axes")
    order = f" (arrays read as {axes}; --batch-first: [B, T, H])" if axes == "[T, B, H]" else ""
    large = [name for name in study.state_sets if study.config.device == "cuda" and study.place(name) != "gpu"]
    elsewhere = f"; too large for the GPU, and fitted on the CPU: {', '.join(large)}" if large else ""
    return f"{study.dump.name}: {rows}{order}; {text}; states: {', '.join(study.state_sets)}{elsewhere}"
