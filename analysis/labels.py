"""The labels of a whole state dump: the value of every hypothesis at every row, and where it is defined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError
from gatescope.engine.state_source import StateSource


@dataclass(frozen=True)
class Labels:
    """The labels of N rows by K hypotheses of one kind.

    Args:
        hypotheses: the K hypotheses.
        values: [N, K], bool or float64; False or 0 where undefined.
        defined: bool [N, K].
    """

    hypotheses: tuple[Hypothesis, ...]
    values: np.ndarray
    defined: np.ndarray

    def parts(self, size: int) -> Iterator[Labels]:
        """Yield the hypotheses in parts of the given size, the last part perhaps smaller; the arrays are views."""
        for first in range(0, len(self.hypotheses), size):
            chosen = slice(first, first + size)
            yield Labels(self.hypotheses[chosen], self.values[:, chosen], self.defined[:, chosen])

    def first_rows(self, n: int) -> Labels:
        """Return the labels of the first n rows; the arrays are views."""
        return Labels(self.hypotheses, self.values[:n], self.defined[:n])


def side_by_side(first: Labels, second: Labels) -> Labels:
    """Return the hypotheses of the first, followed by those of the second."""
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
    """Evaluate hypotheses on the documents of a dump, each preceded by the prime that the model read.

    Args:
        dump: the dump whose text is labelled.
        hypotheses: boolean and continuous hypotheses.
        n_rows: label only this many first characters, as if the text ended there. Default: all.

    Returns:
        The boolean labels, the continuous labels, and the reason for each hypothesis that could not be evaluated: it is
        in neither of the first two, and the others are not affected.
    """
    hypotheses, n = list(hypotheses), dump.n_rows if n_rows is None else n_rows
    prime = dump.attributes.get("prime", "")
    dtypes = {"boolean": np.bool_, "continuous": np.float64}
    columns: dict[str, tuple[np.ndarray, np.ndarray]] = {
        each.name: (np.zeros(n, dtype=dtypes[each.values]), np.zeros(n, dtype=bool)) for each in hypotheses
    }
    failed: dict[str, str] = {}
    # Document by document, so that a scanner that remembers the last text scans it once for all hypotheses.
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
