"""Labels of a whole dump."""

import numpy as np

from gatescope.analysis.hypotheses import Hypothesis
from gatescope.analysis.labels import label_dump
from gatescope.engine.other_dumps import open_states


def test_hypotheses_may_come_one_by_one(tmp_path):
    np.savez(tmp_path / "x.npz", h=np.zeros((4, 2)), chars=np.array(list("a bc")))

    def made():
        yield Hypothesis("blank", "any", "boolean", "past", "", lambda text: [each == " " for each in text])
        yield Hypothesis("code", "any", "continuous", "past", "", lambda text: [ord(each) for each in text])

    boolean, continuous, failed = label_dump(open_states(tmp_path / "x.npz"), made())
    assert boolean.values.tolist() == [[False], [True], [False], [False]] and failed == {}
    assert continuous.values[:, 0].tolist() == [ord(each) for each in "a bc"]
