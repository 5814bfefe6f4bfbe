"""Labels of a whole dump."""

import numpy as np
import pytest

from gatescope.analysis import own_hypotheses
from gatescope.analysis.hypotheses import select
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import label_dump
from gatescope.analysis.own_hypotheses import pattern
from gatescope.engine.other_dumps import open_states


def test_hypotheses_may_be_an_iterator(tmp_path):
    np.savez(tmp_path / "x.npz", h=np.zeros((4, 2)), chars=np.array(list("a bc")))

    def made():
        yield Hypothesis("blank", "any", "boolean", "past", "", lambda text: [each == " " for each in text])
        yield Hypothesis("code", "any", "continuous", "past", "", lambda text: [ord(each) for each in text])

    boolean, continuous, failed = label_dump(open_states(tmp_path / "x.npz"), made())
    assert boolean.values.tolist() == [[False], [True], [False], [False]] and failed == {}
    assert continuous.values[:, 0].tolist() == [ord(each) for each in "a bc"]


def test_no_text_is_needed_without_hypotheses(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    boolean, continuous, failed = label_dump(open_states(tmp_path / "x.npy"), [])
    assert boolean.values.shape == continuous.defined.shape == (4, 0) and failed == {}


class Primed:
    """Three documents that a model wrote after a prime."""

    n_rows = 9

    def __init__(self):
        self.attributes = {"prime": "ab"}

    def documents(self):
        yield 0, 4, "abxb"
        yield 4, 4, ""
        yield 4, 9, "b ab\n"


def test_a_pattern_reads_the_prime_before_each_document():
    chosen = [pattern("whole=^abab"), pattern("end=b\\s*$"), pattern("slow=(b+)+x")]
    boolean, _, failed = label_dump(Primed(), chosen)
    assert failed == {} and boolean.defined.all()
    for k, each in enumerate(chosen):
        expected = np.concatenate([each.label(text, "ab")[0] for _, _, text in Primed().documents()])
        assert boolean.values[:, k].tolist() == expected.tolist()
    assert boolean.values[:, :2].any(axis=0).all()


@pytest.mark.parametrize("n_rows", [3, 4, 6])
def test_labelling_the_first_rows_reads_only_those(n_rows):
    chosen = [pattern("end=b$"), *select(["newline_next"], "any")]
    boolean, _, failed = label_dump(Primed(), chosen, n_rows)
    texts = [text for text in ("abxb"[:n_rows], "b ab\n"[: max(0, n_rows - 4)]) if text]
    assert failed == {}
    for k, each in enumerate(chosen):
        values, defined = map(np.concatenate, zip(*(each.label(text, "ab") for text in texts), strict=True))
        assert (boolean.values[:, k].tolist(), boolean.defined[:, k].tolist()) == (values.tolist(), defined.tolist())


def test_a_pattern_that_takes_too_long_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(own_hypotheses, "SECONDS", 0.2)
    text = "a" * 80 + "b"
    monkeypatch.setattr(Primed, "n_rows", 81)
    monkeypatch.setattr(Primed, "documents", lambda self: [(0, 81, text)])
    boolean, _, failed = label_dump(Primed(), [pattern("slow=(?:a|aa|aaa)+$"), pattern("fine=[ab]")])
    assert list(failed) == ["slow"] and boolean.values.all()
