"""The labels of a whole state dump: every hypothesis at every row, and where it is defined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError
from gatescope.engine.state_source import StateSource


@dataclass(frozen=True)
class Labels:
    """What K hypotheses of one kind say of N rows.

    Args:
        hypotheses: the K hypotheses.
        values: [N, K], bool or float64; False or 0 where undefined.
        defined: bool [N, K].
    """

    hypotheses: tuple[Hypothesis, ...]
    values: np.ndarray
    defined: np.ndarray

    def parts(self, size: int) -> Iterator[Labels]:
        """Yield so many hypotheses after another, the last ones fewer; views of the arrays."""
        for first in range(0, len(self.hypotheses), size):
            chosen = slice(first, first + size)
            yield Labels(self.hypotheses[chosen], self.values[:, chosen], self.defined[:, chosen])


def side_by_side(first: Labels, second: Labels) -> Labels:
    """Return the hypotheses of both, those of the second behind those of the first."""
    if not second.hypotheses or not first.hypotheses:
        return first if first.hypotheses else second
    return Labels(
        (*first.hypotheses, *second.hypotheses),
        np.hstack([first.values, second.values]),
        np.hstack([first.defined, second.defined]),
    )


def label_dump(
    dump: StateSource, hypotheses: Iterable[Hypothesis], n_rows: int | None = None
) -> tuple[Labels, Labels, dict[str, str]]:
    """Evaluate hypotheses on the documents of a dump, each after the prime that the model read before it.

    Args:
        dump: whose text is labelled.
        hypotheses: boolean and continuous ones.
        n_rows: of the text so many characters from its beginning, as if there were no others. Default: all.

    Returns:
        The boolean labels, the continuous ones, and for each hypothesis that could not be evaluated the reason: it is
        in neither, and the others are untouched.
    """
    hypotheses, n = list(hypotheses), dump.n_rows if n_rows is None else n_rows
    prime = dump.attributes.get("prime", "")
    dtypes = {"boolean": np.bool_, "continuous": np.float64}
    columns: dict[str, tuple[np.ndarray, np.ndarray]] = {
        each.name: (np.zeros(n, dtype=dtypes[each.values]), np.zeros(n, dtype=bool)) for each in hypotheses
    }
    failed: dict[str, str] = {}
    # Document by document, so that scanners which keep the last text serve every hypothesis from one pass.
    for start, stop, text in dump.documents() if hypotheses else ():
        if start >= n:
            break
        stop, text = min(stop, n), text[: n - start]
        for each in hypotheses:
            if each.name in failed:
                continue
            try:
                found, where = each.label(text, prime)
            except InputError as error:
                failed[each.name] = str(error)
                continue
            values, defined = columns[each.name]
            defined[start:stop] = where
            values[start:stop] = np.where(where, found, 0)
    evaluated = [each for each in hypotheses if each.name not in failed]
    return *(_gather(evaluated, kind, columns, n) for kind in dtypes), failed  # type: ignore[return-value]


def _gather(
    hypotheses: Sequence[Hypothesis], kind: str, columns: dict[str, tuple[np.ndarray, np.ndarray]], n_rows: int
) -> Labels:
    chosen = tuple(each for each in hypotheses if each.values == kind)
    values, defined = (
        np.stack([columns[each.name][part] for each in chosen], axis=1) if chosen else np.zeros((n_rows, 0), dtype=bool)
        for part in (0, 1)
    )
    return Labels(chosen, values, defined)
