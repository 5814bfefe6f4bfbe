"""Labels of a whole dump."""

import numpy as np
import pytest

from gatescope.analysis import labels
from gatescope.analysis.hypotheses import select
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import label_dump
from gatescope.analysis.own_hypotheses import pattern
from gatescope.engine.other_dumps import open_states


def test_hypotheses_may_come_one_by_one(tmp_path):
    np.savez(tmp_path / "x.npz", h=np.zeros((4, 2)), chars=np.array(list("a bc")))

    def made():
        yield Hypothesis("blank", "any", "boolean", "past", "", lambda text: [each == " " for each in text])
        yield Hypothesis("code", "any", "continuous", "past", "", lambda text: [ord(each) for each in text])

    boolean, continuous, failed = label_dump(open_states(tmp_path / "x.npz"), made())
    assert boolean.values.tolist() == [[False], [True], [False], [False]] and failed == {}
    assert continuous.values[:, 0].tolist() == [ord(each) for each in "a bc"]


def test_where_nothing_is_asked_no_text_is_needed(tmp_path):
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


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_a_pattern_is_asked_about_many_documents_at_once(monkeypatch, batch):
    monkeypatch.setattr(labels, "BATCH", batch)
    chosen = [pattern("whole=^abab"), pattern("end=b\\s*$"), pattern("slow=(b+)+x")]
    boolean, _, failed = label_dump(Primed(), chosen)
    assert failed == {} and boolean.defined.all()
    for k, each in enumerate(chosen):
        expected = np.concatenate([each.label(text, "ab")[0] for _, _, text in Primed().documents()])
        assert boolean.values[:, k].tolist() == expected.tolist()
    assert boolean.values[:, :2].any(axis=0).all()


@pytest.mark.parametrize("n_rows", [3, 4, 6])
def test_of_the_first_rows_nothing_else_is_read(n_rows):
    chosen = [pattern("end=b$"), *select(["newline_next"], "any")]
    boolean, _, failed = label_dump(Primed(), chosen, n_rows)
    texts = [text for text in ("abxb"[:n_rows], "b ab\n"[: max(0, n_rows - 4)]) if text]
    assert failed == {}
    for k, each in enumerate(chosen):
        values, defined = map(np.concatenate, zip(*(each.label(text, "ab") for text in texts), strict=True))
        assert (boolean.values[:, k].tolist(), boolean.defined[:, k].tolist()) == (values.tolist(), defined.tolist())


def test_no_process_is_left_and_a_pattern_that_fails_leaves_the_others(monkeypatch):
    slow, fine = pattern("slow=(a+)+b"), pattern("fine=a")
    slow.function.seconds = 0.5
    document = (0, 40, "a" * 40)
    monkeypatch.setattr(Primed, "n_rows", 40)
    monkeypatch.setattr(Primed, "documents", lambda self: [document])
    boolean, _, failed = label_dump(Primed(), [slow, fine])
    assert list(failed) == ["slow"] and boolean.values.all()
    assert slow.function._process is None and fine.function._process is None
