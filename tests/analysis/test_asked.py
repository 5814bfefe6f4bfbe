"""Which hypotheses are asked of a text."""

from types import SimpleNamespace

from gatescope.analysis.asked import planned
from gatescope.analysis.probe_config import ProbeConfig


def test_what_a_model_read_is_judged_by_its_own_language():
    english = "To be, or not to be, that is the question: whether it is nobler in the mind. " * 3
    vocabulary = sorted(set(english))
    for kind, language in (("sample", "c"), ("extract", "english")):
        source = SimpleNamespace(
            vocabulary=vocabulary,
            attributes={"kind": kind, "corpus": {"language": "c"}},
            n_rows=len(english),
            text=lambda start, stop: english[start:stop],
        )
        hypotheses, found = planned(source, ProbeConfig(), None)
        assert found == language
        assert {each.language for each in hypotheses} == {language, "any"}
