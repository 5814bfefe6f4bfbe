"""Parts of a section: the probe whose text is shown, its units, and names that may break."""

import re

from gatescope.analysis.report_text import (
    _excerpt_record,
    _scores_line,
    _text_panels,
    _units_table,
)
from gatescope.analysis.results import Excerpt


def excerpt(states="all", weighting="plain", text="ab", **numbers):
    nothing = {"value": (None,) * len(text), "prediction": (None,) * len(text), "activation": (None,) * len(text)}
    return Excerpt("string", "boolean", states, weighting, "", "past", 0, text, unit=None, **(nothing | numbers))


def record(hypothesis="string", states="all", weighting="plain", **more):
    return {
        "hypothesis": hypothesis,
        "kind": "boolean",
        "states": states,
        "weighting": weighting,
        "status": "max_iter",
    } | more


def test_an_excerpt_is_matched_with_the_probe_that_predicted_it():
    records = [
        record(states=states, weighting=weighting)
        for states in ("layer0/h", "all")
        for weighting in ("plain", "balanced")
    ]
    records.insert(0, record("other"))
    assert _excerpt_record(records, excerpt("layer0/h", "balanced")) is records[2]
    assert _excerpt_record(records, excerpt()) is records[3]
    assert _excerpt_record(records, excerpt("layer9/h")) is records[3]
    assert _excerpt_record(records[:1], excerpt()) is None


def test_rare_hypotheses_show_their_count():
    rare = record(auroc=0.97, f1=0.5, prevalence=1 / 6000, n_test=6000, n_holds=1)
    line = _scores_line(excerpt(), rare).replace("&nbsp;", " ")
    assert line.startswith("Test sequence 0; ") and "; AUROC .97 [–]; " in line
    assert line.endswith("; prevalence .00 (1 of 6,000 characters).")
    line = _scores_line(excerpt(), rare | {"n_holds": None, "auroc_low": 0.9, "auroc_high": 0.99})
    assert "[.90–.99]" in line and line.endswith("prevalence&nbsp;.00.")


def test_units_are_listed_with_coefficient_importance_and_auroc():
    units = [
        {"states": "layer0/<c>", "unit": unit, "coefficient": -0.00123456, "importance": 12.345, "auroc": 0.31}
        for unit in range(9)
    ]
    table = _units_table(record(top_units=units))
    cells = re.findall(r"<t[dh][^>]*>(layer.*?|[^<]*)</t[dh]>", table)[5:]
    assert cells[:5] == ["layer0/&lt;c&gt; 0", ".69", "low", "−0.00123", "12.3"]
    assert len(cells) == 5 * 5 and "Largest" not in table
    table = _units_table(record(top_units=units, largest_weights=units[3:]))
    assert "Largest |w|·sd in the probe: layer0/&lt;c&gt; 3, layer0/&lt;c&gt; 4," in table
    assert "Most responsible units: layer0/&lt;c&gt; 0, layer0/&lt;c&gt; 1," in table
    assert "not fitted (max_iter)" in _units_table(record(top_units=[]))
    assert '<td class="r">–</td>' in _units_table(record(top_units=[{"states": "layer0/h", "unit": 1}]))
    correlated = [{"states": "layer0/h", "unit": 1, "correlation": 0.7}]
    table = _units_table(record(top_units=correlated) | {"kind": "continuous"})
    assert "r alone" in table and ".70" in table and "<td>high</td>" in table


def test_an_empty_text_and_one_without_a_probe_make_panels():
    for text in ("", "a\n"):
        html = _text_panels(excerpt(text=text))
        assert html.count("<pre>") == html.count("</pre>") == 3
        assert ('class="u"' in html) == bool(text)


def test_a_legend_explains_only_the_marks_in_its_text():
    known = {"value": (1, 0, 0), "prediction": (0.9, 0.2, 0.1), "activation": (0.5, -0.5, 0.1)}
    cases = [
        known,
        known | {"value": (1, None, 0)},
        known | {"prediction": (0.9, 0.8, 0.1)},
        known | {"value": (None,) * 3},
    ]
    seen = set()
    for case in cases:
        figures = re.findall(
            r"<figcaption>(.*?)</figcaption><pre>(.*?)</pre>", _text_panels(excerpt(text="abc", **case))
        )
        assert len(figures) == 3
        for legend, text in figures:
            marks = set(re.findall(r"\b[uw]\b", " ".join(re.findall(r'class="(.*?)"', text))))
            assert ("wrong" in legend, "undefined" in legend) == ("w" in marks, "u" in marks)
            seen |= marks
    assert seen == {"u", "w"}


def test_a_continuous_hypothesis_has_its_own_scores():
    scores = {
        "kind": "continuous",
        "r2": 0.81,
        "r2_low": 0.7,
        "r2_high": 0.9,
        "baseline_text_r2": 0.25,
        "pearson": 0.92,
    }
    line = _scores_line(excerpt(weighting="none"), record(weighting="none") | scores | {"best_unit_pearson": 0.4})
    assert line.replace("&nbsp;", " ") == (
        "Test sequence 0; probe on all states; R² .81 [.70–.90]; text baseline .25; Pearson’s r .92; "
        "its unit alone r .40."
    )
