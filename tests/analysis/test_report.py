"""The page: its content, that it is well formed, that nothing is loaded from elsewhere and no foreign script runs."""

import json
import re
import shutil
from itertools import pairwise

import pytest
from report_page import Page, body_rows, cells, within

from gatescope.analysis.coloured_text import printable
from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.engine.errors import InputError

WILD = (
    "a<script>alert(1)</script> & \"q\" 's' &lt; </pre></main><!-- \x00\x07\x1b[31m\r\n\n\ttab\t\\ $x_1$ "
    "\ud83d \u202eevil "
    "שלום مرحبا 😀👩\u200d👧 e\u0301 \ufffe 漢字 \u2028\x85 end"
)


def painted(page, pre):
    """Characters of a coloured text, each with the classes of its colour; a boxed code point counts as one."""
    characters = []
    for data, above in page.pieces:
        if any(element is pre for element in above):
            names = [name for element in above for name in element["attrs"].get("class", "").split()]
            classes = [name for name in names if re.fullmatch(r"[snp]\d+|u|w", name)]
            characters += [(shown, classes) for shown in ([data] if "c" in names else data)]
    return characters


def numbers(folder):
    """Excerpts as stored in the file, by hypothesis."""
    return {item["hypothesis"]: item for item in json.loads((folder / "excerpts.json").read_text())}


def test_the_colour_of_each_character_matches_its_numbers(folder, page):
    excerpts = numbers(folder)
    articles = page.all("article")
    assert len(articles) == len(excerpts)
    for article in articles:
        excerpt = excerpts[within(article, "h3")[0]["text"]]
        label, prediction, unit = (painted(page, pre) for pre in within(article, "pre"))
        for shown in (label, prediction, unit):
            assert "".join(character for character, _ in shown) == excerpt["text"]
        known = [value for value in excerpt["value"] if value is not None]
        low, high = (0, 1) if excerpt["kind"] == "boolean" else (min(known), max(known))
        middle = sum(excerpt["activation"]) / len(excerpt["activation"])
        largest = max(abs(activation - middle) for activation in excerpt["activation"])
        for i, (value, probability, activation) in enumerate(
            zip(excerpt["value"], excerpt["prediction"], excerpt["activation"], strict=True)
        ):
            if value is None:
                assert label[i][1] == ["u"]
            else:
                assert abs(10 * (value - low) / (high - low) - step(label[i][1])) <= 0.5 + 1e-9
            share = min(max((probability - low) / (high - low), 0), 1)
            assert abs(10 * share - step(prediction[i][1])) <= 0.5 + 1e-9
            wrong = excerpt["kind"] == "boolean" and value is not None and (value == 1) != (probability >= 0.5)
            assert ("w" in prediction[i][1]) == wrong
            assert abs(10 * (activation - middle) / largest - step(unit[i][1])) <= 0.5 + 1e-9


def step(classes):
    """The signed step of the colour scale that the classes stand for; no class means no tint."""
    for name in classes:
        if name[0] in "snp":
            return int(name[1:]) * (-1 if name[0] == "n" else 1)
    return 0


def test_mark_elements_carry_the_meaning_of_tints(folder, page):
    checked = 0
    for article in page.all("article"):
        excerpt = numbers(folder)[within(article, "h3")[0]["text"]]
        if excerpt["kind"] == "boolean":
            held = "".join(c for c, value in zip(excerpt["text"], excerpt["value"], strict=True) if value == 1)
            assert "".join(e["text"] for e in within(article, "mark")) == held
            checked += bool(held)
            # The hypothesis holds where the unit is high, whatever its weight in the probe.
            words = within(article, "p")[1]["text"].replace("\xa0", " ")
            assert words.endswith("orange in the unit indicates the hypothesis.")
    assert checked >= 3


def test_the_page_has_a_valid_structure(page):
    assert page.elements[0]["attrs"] == {"lang": "en"}
    assert page.all("title")[0]["text"] == "gatescope: lstm"
    assert len(page.all("main")) == len(page.all("h1")) == 1
    ids = [e["attrs"]["id"] for e in page.elements if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["attrs"]["href"].startswith("#") and link["attrs"]["href"][1:] in ids
    for element in page.all("article"):
        assert element["attrs"]["aria-labelledby"] in ids
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    for table in page.all("table"):
        heads = within(table, "th")
        assert heads and all(head["attrs"].get("scope") in {"col", "row", "rowgroup"} for head in heads)
        widths = [
            len([e for e in page.elements if e["above"] and e["above"][-1] is row]) for row in within(table, "tr")
        ]
        assert len(set(widths)) == 1
    for figure in page.all("figure"):
        assert within(figure, "figcaption") and within(figure, "pre")


def test_the_page_loads_nothing_external(page):
    for element in page.elements:
        for key, value in element["attrs"].items():
            assert not key.startswith("on")
            if key in {"src", "href", "srcset", "data", "action", "poster", "background", "style"}:
                assert value.startswith("#")
            assert "//" not in (value or "") or key in {"content", "aria-label"}
        assert element["tag"] not in {"link", "img", "iframe", "object", "embed", "base", "form"}
    (policy,) = (e["attrs"]["content"] for e in page.all("meta") if e["attrs"].get("http-equiv"))
    assert policy.startswith("default-src 'none'; ") and "http" not in policy
    style = page.all("style")[0]["text"]
    assert "@import" not in style and "url(" not in style


@pytest.fixture(scope="module")
def wild(tmp_path_factory, write_result):
    """A result whose text, names, units and facts contain markup."""
    hypotheses = [
        (f'<img src=x onerror=alert(1)> & "{i}" \x00\u202e\ud800', r"[a-z]+", share) for i, share in ((1, 0.9), (2, 0))
    ]
    folder = write_result(tmp_path_factory.mktemp("wild") / "<b>run & 'co'", text=WILD, hypotheses=hypotheses)
    for name in ("probes", "excerpts", "config"):
        text = (folder / f"{name}.json").read_text()
        text = (
            text.replace("layer0/c", "</script><b>layer")
            .replace("one_class", "<i>status</i>")
            .replace("stdlib", "</title>&")
        )
        text = text.replace("Whether the character", "<svg onload=x>").replace('"lstm"', '"<lstm>"')
        (folder / f"{name}.json").write_text(text)
    write_report([folder], folder)
    return folder


def test_user_text_is_escaped(wild):
    source = (wild / "report.html").read_bytes().decode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ufffe]", source)
    page = Page(source)
    assert len(page.all("script")) == len(page.all("title")) == 1 and not page.all("img")
    name = '<img src=x onerror=alert(1)> & "1" U+0000U+202EU+D800'
    assert name in [heading["text"] for heading in page.all("h3")]
    assert page.all("title")[0]["text"] == "gatescope: <b>run & 'co'"
    assert "<LSTM> 1 × 128" in source.replace("&lt;", "<").replace("&gt;", ">")
    rows = [cells(row) for row in body_rows(page.all("table", **{"class": "sortable"})[0])]
    assert rows[0][-2:] == ["</script><b>layer 17", "converged"]
    assert rows[2][-2:] == ["–", "<i>status</i>"]
    shown = "".join(c if c in "\t\n" else printable(c) for c in WILD)
    texts = page.all("pre")
    assert len(texts) == 9
    assert all(pre["text"] == shown for pre in texts)


def test_figures_are_written_beside_the_page(wild, folder):
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{stem}.{suffix}"
        for stem in ("auroc", "f1", "r2", *(f"text_{excerpt}" for excerpt in read_results([folder])[0].excerpts))
        for suffix in ("png", "svg")
    }
    assert all(re.fullmatch(r"[\w.-]+", path.name, re.ASCII) for path in (wild / "figures").iterdir())


def test_equal_results_give_equal_bytes_in_any_folder(tmp_path, folder):
    copy = tmp_path / "elsewhere" / "lstm"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("report.html", "figures"))
    assert write_report([copy], tmp_path / "out") == tmp_path / "out" / "report.html"
    for path in folder.glob("**/*"):
        if path.is_file() and path.suffix != ".json":
            assert (tmp_path / "out" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_several_results_are_shown_side_by_side(tmp_path, write_result):
    few = [("inside_string", r'"[^"\n]*"', 0.9), ("only_lstm", "x", 0.8)]
    first = write_result(tmp_path / "lstm", hypotheses=few)
    second = write_result(tmp_path / "gru", cell="gru", seed=4, hypotheses=few[:1])
    page = Page(write_report([first, second], tmp_path / "out").read_text(encoding="utf-8"))
    assert page.all("title")[0]["text"] == "gatescope: lstm, gru"
    assert [e["text"].split(" knows")[0] for e in page.all("p", **{"class": "answer"})] == ["lstm", "gru"]
    groups = [e for e in page.all("tbody", **{"class": "group"}) if within(e, "th")[0]["text"] == "inside_string"]
    assert [e["text"] for e in within(groups[0], "th")] == ["inside_string", "lstm", "gru"]
    alone = [e for e in page.all("tbody") if [h["text"] for h in within(e, "th")] == ["only_lstm", "lstm", "gru"]]
    assert len(alone) == 2 and all(within(e, "tr")[1]["text"].strip().endswith("not probed") for e in alone)
    for group in alone:
        # Rows reach the last column, so that the rule below is unbroken.
        first, second = (
            sum(int(cell["attrs"].get("colspan", 1)) for cell in within(row, "td")) for row in within(group, "tr")
        )
        assert first == second
    section = next(e["above"][-1] for e in page.all("h3") if e["text"] == "inside_string")
    assert [e["text"] for e in within(section, "h4")] == ["lstm", "gru"]
    assert len(within(section, "pre")) == 6
    assert (tmp_path / "out" / "figures" / "text_inside_string_gru.svg").exists()


def test_hypotheses_sharing_a_name_are_described_separately(tmp_path, write_result, texts_to_draw):
    few = [("inside_string", r'"[^"\n]*"', 0.9), ("inside_comment", r"//", 0.8)]
    folders = [write_result(tmp_path / name, hypotheses=few) for name in ("c", "python")]
    excerpts_of, excerpts = (json.loads((folder / "excerpts.json").read_text()) for folder in folders)
    excerpts[0]["description"] = "Another thing of the same name."
    (folders[1] / "excerpts.json").write_text(json.dumps(excerpts))
    page = Page(write_report(folders, tmp_path / "out").read_text(encoding="utf-8"))
    sections = {e["text"]: e["above"][-1] for e in page.all("h3") if e["text"].startswith("inside")}
    words = {
        name: [p["text"].split(".")[0] for p in within(section, "p") if "label" in p["text"]]
        for name, section in sections.items()
    }
    assert words["inside_string"] == [excerpts_of[0]["description"][:-1], "Another thing of the same name"]
    assert words["inside_comment"] == [excerpts_of[1]["description"][:-1]]


def test_a_large_result_is_complete_and_its_best_is_expanded(tmp_path, write_result, texts_to_draw):
    states = ("layer0/h", "layer0/c", "layer1/h", "all")
    folder = write_result(tmp_path / "big", copies=8, state_sets=states, text='f("a");\n')
    page = Page(write_report([folder], tmp_path / "out").read_text(encoding="utf-8"))
    (result,) = read_results([folder])
    assert len(result.excerpts) == 8 * 9 + 2
    assert len(page.all("article")) == len(texts_to_draw) == 20
    assert "the 20 best known of 74 hypotheses" in " ".join(e["text"] for e in page.all("p"))
    tables = page.all("table", **{"class": "answers"})
    assert [len(body_rows(table)) for table in tables] == [40, 40, 2, 40, 40]
    assert "40 more hypotheses" in [e["text"] for e in page.all("summary")]
    assert [len(body_rows(table)) for table in page.all("table", **{"class": "where"})] == [40, 42]
    assert len([cells(row) for row in body_rows(page.all("table", **{"class": "sortable"})[0])]) == 8 * 10 * 4 * 2 + 8
    (details,) = (e["above"][-1] for e in page.all("summary") if e["text"] == "648 fits")
    assert "open" not in details["attrs"]


def test_hypotheses_without_scores_have_no_text(tmp_path, write_result, texts_to_draw):
    folder = write_result(tmp_path / "lstm", hypotheses=[("inside_string", '"', 0.9), ("capitals", "[A-Z]", 0.8)])
    records = json.loads((folder / "probes.json").read_text())
    change = {"auroc": None, "prevalence": 0.0, "f1": 0.0}
    records = [each | change if each["hypothesis"] == "capitals" else each for each in records]
    (folder / "probes.json").write_text(json.dumps(records))
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    assert "capitals" in numbers(folder) and "capitals" not in texts_to_draw
    assert "inside_string" in texts_to_draw and len(page.all("article")) == len(texts_to_draw) == 3


def test_a_report_needs_only_records(tmp_path, write_result):
    folder = write_result(tmp_path / "lstm")
    (folder / "excerpts.json").unlink()
    (folder / "config.json").unlink()
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    assert not page.all("article") and not page.all("pre")
    assert "Facts" not in [e["text"] for e in page.all("h2")]
    assert [path.name for path in sorted((folder / "figures").iterdir())] == [
        f"{stem}.{suffix}" for stem in ("auroc", "f1", "r2") for suffix in ("png", "svg")
    ]


def test_bad_input_leaves_the_earlier_report_unchanged(tmp_path, write_result):
    folder = write_result(tmp_path / "lstm", hypotheses=[("inside_string", '"', 0.9)])
    (folder / "report.html").write_text("earlier")
    (folder / "excerpts.json").write_text("[")
    with pytest.raises(InputError, match="is not JSON"):
        write_report([folder], folder)
    assert (folder / "report.html").read_text() == "earlier"
    assert not (folder / "figures").exists()
    (folder / "probes.json").write_text("[]")
    (folder / "excerpts.json").unlink()
    with pytest.raises(InputError, match="holds no record"):
        write_report([folder], folder)
    folder = write_result(tmp_path / "gru", hypotheses=[("inside_string", '"', 0.9)])
    with pytest.raises(InputError, match=r"probes\.json is a file: give a folder"):
        write_report([folder], folder / "probes.json")
