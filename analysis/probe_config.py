"""Settings of a probe: the hypotheses and the method. Apart from the fits, which take seconds to import."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gatescope.engine.config_values import require_values
from gatescope.engine.device_memory import require_cupy, require_gpu
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.stage_folder import KINDS

HYPOTHESES = (
    "names (of --pattern, --functions and --labels too) or sets (c, python, english, any); auto: all labels if given, "
    "else the default set of the text's language; nothing: those of --pattern and --functions alone"
)
# Draws of random labels for the control task of each hypothesis.
CONTROL_DRAWS = 10
# The versions of these methods: results of another version are not continued.
BASELINES = "table, characters, place; of random rows"
INTERVALS = "effective sequences, halves at most 2:1"
UNITS = "selected in float64, ranked, reversed, random"
PATTERN = "NAME=REGEX, positive where a match covers the character; repeatable"


@dataclass(frozen=True)
class ProbeConfig:
    """Which hypotheses are probed, and how they are fitted."""

    hypotheses: Annotated[tuple[str, ...], tyro.conf.arg(prefix_name=False, help=HYPOTHESES)] = ("auto",)
    pattern: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(prefix_name=False, help=PATTERN)] = ()
    functions: Path | None = None  # a Python file with functions marked by @hypothesis
    C: tuple[float, ...] = (1.0,)  # inverse strength of the penalty, as in scikit-learn; of several, the best for each
    alignment: Literal["post", "pre"] = "post"  # the state after, or before, reading the labelled character
    test_share: float = 0.2  # share of the sequences to test on
    folds: int = 1  # number of parts, such as 5, each tested by probes fitted on the other sequences; 1: one test part
    standard_errors: bool = False  # also standard errors of coefficients, robust to dependence within a sequence
    bootstrap: int = 1000  # resamples of the test sequences, for 95% intervals
    ranking: Literal["auroc", "weight_sd", "weight"] = "auroc"  # what units are ranked by; the paper: weight

    sparse: bool = False  # also probes of 1, 2, 4 ... 64 selected, ranked or random units: how many it takes
    controls: bool = False  # also control task, chance, description length, leak, random weights: many more fits
    device: Literal["cpu", "cuda"] = "cpu"  # where probes are fitted; cuda: in a GPU's memory, with CuPy
    memory_limit: str = "4GB"  # half for states (larger ones are read from disk in every pass), half for the fits

    def __post_init__(self) -> None:
        require_values(self)
        bytes_of(self.memory_limit)
        if not self.C or not min(self.C) > 0:
            raise InputError(f"--C {' '.join(map(str, self.C))}: expected positive numbers, such as 1, or 0.01 0.1 1")
        if not 0 < self.test_share < 1:
            raise InputError(f"--test-share {self.test_share}: expected a share between 0 and 1, such as 0.2")
        if self.folds < 1:
            raise InputError(f"--folds {self.folds}: expected a number of parts of the sequences, such as 5, or 1")
        if self.folds > 1 and self.test_share != ProbeConfig.test_share:
            raise InputError(
                f"--folds {self.folds} tests 1/{self.folds} at a time: leave out --test-share {self.test_share}"
            )
        if self.device == "cuda":
            require_gpu()
            require_cupy()
        if self.bootstrap < 2:
            raise InputError(f"--bootstrap {self.bootstrap}: expected at least 2 resamples, such as 1000")

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        limit = bytes_of(self.memory_limit)
        assert limit is not None
        return limit


def probe_settings(config: ProbeConfig, seed: int) -> dict[str, Any]:
    """Return all settings, except the dump, that decide the results of the probes."""
    of_method = asdict(config)
    # Neither memory nor device affects results, and additions are a part of the results only if they were requested.
    del of_method["memory_limit"], of_method["device"]
    of_method["C"] = config.C if len(config.C) > 1 else config.C[0]
    for name in ("controls", "sparse", "folds"):
        if getattr(config, name) == getattr(ProbeConfig, name):
            del of_method[name]
    kinds = {"baselines": BASELINES, "intervals": INTERVALS} | ({"units": UNITS} if config.sparse else {})
    settings = {"seed": seed, "probe": of_method, KINDS: kinds}
    return settings | ({"functions_sha256": sha256_of(config.functions)} if config.functions else {})


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, as hexadecimal."""
    try:
        return hashlib.sha256(local_path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
