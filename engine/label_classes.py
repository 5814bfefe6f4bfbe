"""The labels that logistic probes take: Y [N, K] of K hypotheses, or y [N] with any two labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from gatescope.engine.arrays import to_host
from gatescope.engine.errors import InputError
from gatescope.engine.targets import ClassWeight, as_binary


@dataclass(frozen=True)
class LabelClasses:
    """What the labels of a fit were.

    Args:
        names: of y its one or two labels, the positive one last; of Y its columns by number.
        flat: whether they were y [N].
        boolean: whether they were Y of booleans.
    """

    names: np.ndarray
    flat: bool
    boolean: bool

    def positive(self, Y: Any) -> Any:
        """Return whether labels are positive, bool [N, K], as `positive_labels` does for those of the fit.

        Raises:
            InputError: they have another form than those of the fit, or labels that were not in it.
        """
        if (Y.ndim == 1) != self.flat:
            raise InputError(f"Y has the shape {Y.shape}: the fit had {'[N]' if self.flat else '[N, K]'}")
        if not self.flat:
            return as_binary(Y)
        y = to_host(Y)
        unknown = np.setdiff1d(y, self.names)
        if len(unknown):
            raise InputError(f"y has the label {unknown[0]!r}: expected the fitted classes {self.names.tolist()}")
        return (y == self.names[-1])[:, None]

    def named(self, positive: np.ndarray) -> np.ndarray:
        """Return labels in the form of those of the fit, [N] or [N, K], given which are positive, [N, K]."""
        if self.flat:
            return self.names[np.where(positive[:, 0], len(self.names) - 1, 0)]
        return positive if self.boolean else positive.astype(np.int64)

    def weights(self, class_weight: ClassWeight) -> ClassWeight:
        """Return class weights with False and True as keys.

        Raises:
            InputError: they name a class that is not known.
        """
        if not isinstance(class_weight, Mapping):
            return class_weight
        known = self.names.tolist() if self.flat else [0, 1]
        unknown = [label for label in class_weight if label not in known]
        # Where all labels are of one class the name of the other is not known.
        if unknown and len(known) == 2:
            raise InputError(f"class_weight names the class {unknown[0]!r}: the labels are {known}")
        shift = 2 - len(known)
        there = {label: factor for label, factor in class_weight.items() if label in known}
        return {bool(known.index(label) + shift): factor for label, factor in there.items()}


def positive_labels(Y: Any) -> tuple[LabelClasses, Any]:
    """Return what the labels of a fit are, and whether each is positive, bool [N, K].

    Raises:
        InputError: labels other than two classes.
    """
    if Y.ndim == 2:
        return LabelClasses(np.arange(Y.shape[1]), False, Y.dtype.kind == "b"), as_binary(Y)
    y = to_host(Y)
    try:
        check_classification_targets(y)
        names, codes = np.unique(y, return_inverse=True)
    except (TypeError, ValueError) as error:
        if y.dtype.kind != "O":
            raise
        raise InputError(
            "Unknown label type: y has missing labels, or labels of several types: give undefined ones any label "
            "and a sample weight of 0"
        ) from error
    if len(names) > 2:
        raise InputError(
            f"y has {len(names)} classes. Only binary classification is supported: give one column of "
            "Y [N, K] for each class"
        )
    # A single class is the positive one, which is then predicted everywhere.
    return LabelClasses(names, True, False), codes.reshape(-1, 1) == len(names) - 1
