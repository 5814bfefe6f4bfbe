"""The report in a real browser: computed colours, no script error, no overflow, keyboard, dark, no JavaScript."""

import json
import shutil

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gatescope.analysis import report
from gatescope.analysis.coloured_text import printable, tint
from gatescope.analysis.palette import DARK, LIGHT
from gatescope.analysis.report import write_report

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver (chromedriver) on the path"
)

TEXT = (
    "<script>document.title = 'stolen'</script> & \"quoted\" </pre><img src=x onerror=\"document.title='stolen'\">\n"
    '\tif (a && b) { /* & */\n\t\tputs("<b>");\r\n \x00\x07\u202eevil\u202c שלום 😀 \ud800 $x$\n}\n'
)
HYPOTHESES = (
    ("inside_string", r'"[^"\n]*"', 0.9),
    ("inside_<script>alert(1)</script>_&", r"<[^>]*>", 0.85),
    ("newline_next", r".(?=\n)", 0.3),
    ("a_hypothesis_with_a_name_that_is_far_longer_than_any_column_of_the_table", r"\t", 0.2),
    ("preprocessor", r"(?m)^#.*$", 0.0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_result):
    root = tmp_path_factory.mktemp("browser")
    states = ("layer0/h", "layer0/c", "all")
    lstm = write_result(root / "lstm", text=TEXT, hypotheses=HYPOTHESES, state_sets=states)
    few = HYPOTHESES[1:2]
    pair = [
        write_result(root / cell, text=TEXT, hypotheses=few, state_sets=states, cell=cell) for cell in ("gru", "rnn")
    ]
    kinds = ("h", "c", "gates/i", "gates/f", "gates/g", "gates/o")
    of_gates = (*(f"layer{layer}/{kind}" for layer in (0, 1) for kind in kinds), "all")
    gates = write_result(root / "gates", text=TEXT, hypotheses=HYPOTHESES, state_sets=of_gates)
    with pytest.MonkeyPatch.context() as patch:
        # The page shows none of the figures written beside it.
        patch.setattr(report, "write_figures", lambda *arguments: None)
        write_report([lstm], lstm)
        write_report([gates], gates)
        write_report(pair, root / "both")
        write_report([*pair, lstm], root / "three")
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def visit(browser, folder, name="lstm", width=1280, theme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.get((folder / name / "report.html").as_uri())


def rgb(colour):
    return "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("name", ["lstm", "both"])
def test_the_table_and_text_are_shown_without_errors(browser, folder, name):
    visit(browser, folder, name)
    assert browser.get_log("browser") == []
    assert browser.title == ("gatescope: lstm" if name == "lstm" else "gatescope: gru, rnn")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return [document.scripts.length, document.images.length]") == [1, 0]
    heads = browser.find_elements(By.CSS_SELECTOR, "table.answers tbody th:first-child a")
    assert "inside_<script>alert(1)</script>_&" in [head.text for head in heads]
    shown = "".join(c if c in "\t\n" else printable(c) for c in TEXT)
    texts = browser.execute_script("return [...document.querySelectorAll('pre')].map(pre => pre.textContent)")
    assert texts == [shown] * (3 * 6)
    assert all(pre.is_displayed() for pre in browser.find_elements(By.TAG_NAME, "pre"))


def test_the_answer_is_on_the_first_screen(browser, folder):
    visit(browser, folder)
    bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    assert browser.execute_script(bottom, "table.answers") < 800
    verdicts = [
        e.text for e in browser.find_elements(By.CSS_SELECTOR, "table.answers")[0].find_elements(By.TAG_NAME, "td")
    ]
    assert "known" in verdicts and any(word.startswith("layer0/c 17 .") for word in verdicts)


BACKGROUNDS = """
const pre = document.querySelectorAll("article")[arguments[0]].querySelectorAll("pre")[arguments[1]];
const walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT), seen = [];
while (walker.nextNode()) {
  let above = walker.currentNode.parentElement;
  const single = above.className === "c";
  if (single) above = above.parentElement;
  seen.push(single ? 1 : [...walker.currentNode.data].length);
  if (above.className === "t" || above.className === "n") above = above.parentElement;
  const style = getComputedStyle(above);
  const background = above === pre ? "" : style.backgroundColor;
  seen.push([background, style.boxShadow !== "none", style.backgroundImage !== "none", style.color]);
}
return seen;
"""


@pytest.mark.parametrize("theme, colours", [("light", LIGHT), ("dark", DARK)])
def test_colours_match_the_numbers(browser, folder, theme, colours):
    visit(browser, folder, theme=theme)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == rgb(colours["paper"])
    names = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "article h3")]
    (excerpt,) = (
        item
        for item in json.loads((folder / "lstm" / "excerpts.json").read_text())
        if item["hypothesis"] == "inside_string"
    )
    for panel in range(3):
        seen = browser.execute_script(BACKGROUNDS, names.index("inside_string"), panel)
        each = [look for count, look in zip(seen[::2], seen[1::2], strict=True) for _ in range(count)]
        assert len(each) == len(TEXT)
        for i, (background, underlined, hatched, ink) in enumerate(each):
            assert ink == rgb(colours["ink"])
            value, probability = excerpt["value"][i], excerpt["prediction"][i]
            expected = {rgb(colours["paper"]), ""}
            if panel == 0:
                assert hatched == (value is None)
                expected = {rgb(colours["high"])} if value == 1 else {*expected, "rgba(0, 0, 0, 0)"}
            elif panel == 1:
                assert underlined == (value is not None and (value == 1) != (probability >= 0.5))
                steps = {step for step in range(11) if abs(10 * probability - step) <= 0.5 + 1e-9}
                expected = {rgb(tint(step, False, colours)) for step in steps} | (
                    {"", "rgba(0, 0, 0, 0)"} if 0 in steps else set()
                )
            else:
                middle = sum(excerpt["activation"]) / len(excerpt["activation"])
                far = [activation - middle for activation in excerpt["activation"]]
                share = 10 * far[i] / max(map(abs, far))
                steps = {step for step in range(-10, 11) if abs(share - step) <= 0.5 + 1e-9}
                expected = {rgb(tint(step, True, colours)) for step in steps} | ({""} if 0 in steps else set())
            assert background in expected, (panel, i)


@pytest.mark.parametrize("name", ["lstm", "both", "three"])
@pytest.mark.parametrize("width", [1280, 800, 500, 360])
def test_nothing_overflows_or_is_clipped(browser, folder, name, width):
    visit(browser, folder, name, width)
    script = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    scroll, client = browser.execute_script(script)
    assert scroll <= client
    # An element wider than its box and without a scroll bar is cut off, or overlaps its neighbour.
    wide = """
      return [...document.querySelectorAll("p, pre, figure, figcaption, h1, h2, h3, h4, td, th, summary, details")]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== "inline")
        .map(e => e.outerHTML.slice(0, 200))"""
    assert browser.execute_script(wide) == []


def test_panels_are_side_by_side_or_stacked_by_width(browser, folder):
    place = "return [...document.querySelectorAll('.panels')[0].children].map(e => e.getBoundingClientRect().top)"
    visit(browser, folder, width=1280)
    assert len(set(browser.execute_script(place))) == 1
    visit(browser, folder, width=500)
    assert len(set(browser.execute_script(place))) == 3


def open_scores(browser):
    browser.execute_script("document.querySelector('table.sortable').closest('details').open = true")


def column(browser, position):
    script = """
      return [...document.querySelectorAll("table.sortable tbody tr")]
        .filter(row => !row.hidden).map(row => row.cells[arguments[0]].textContent)"""
    return browser.execute_script(script, position)


def test_scores_can_be_sorted_and_filtered_by_keyboard(browser, folder):
    visit(browser, folder)
    open_scores(browser)
    heads = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th")]
    position = heads.index("F1")
    original = column(browser, position)
    button = browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th button")[position]
    button.send_keys(Keys.ENTER)
    high = [float(text) for text in column(browser, position) if text != "–"]
    assert high == sorted(high, reverse=True) and len(high) > 5
    assert column(browser, position)[-1] == "–"
    head = browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th")[position]
    assert head.get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    low = [float(text) for text in column(browser, position) if text != "–"]
    assert low == sorted(low) and head.get_attribute("aria-sort") == "ascending"
    browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th button")[0].send_keys(Keys.SPACE)
    names = column(browser, 0)
    assert names.index("inside_string") < names.index("newline_next") < names.index("preprocessor")
    assert head.get_attribute("aria-sort") is None
    assert sorted(column(browser, position)) == sorted(original)
    box = browser.find_element(By.CSS_SELECTOR, "input[type=search]")
    box.send_keys("Inside_STRING layer0/h")
    assert set(column(browser, 0)) == {"inside_string"} and set(column(browser, 1)) == {"layer0/h"}
    assert browser.find_element(By.TAG_NAME, "output").text == f"2 of {len(original)}"
    box.clear()
    box.send_keys(Keys.SPACE)
    assert len(column(browser, 0)) == len(original)
    assert browser.get_log("browser") == []


def test_a_name_links_to_its_text(browser, folder):
    visit(browser, folder)
    link = browser.find_element(By.LINK_TEXT, "newline_next")
    link.send_keys(Keys.ENTER)
    target = browser.find_element(By.CSS_SELECTOR, ":target")
    assert target.text == "newline_next"
    assert 0 <= browser.execute_script("return arguments[0].getBoundingClientRect().top", target) < 800


def test_an_injected_script_does_not_run(browser, folder):
    visit(browser, folder)
    browser.execute_script(
        "const s = document.createElement('div'); s.innerHTML = '<img src=x onerror=\"document.title=1\">';"
        "document.body.append(s); const t = document.createElement('script'); t.textContent = 'document.title = 2';"
        "document.body.append(t)"
    )
    assert browser.title == "gatescope: lstm"
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in messages)


def test_the_page_is_complete_without_javascript(browser, folder):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(browser, folder)
        assert browser.find_elements(By.CSS_SELECTOR, "table.sortable button") == []
        rows = browser.find_elements(By.CSS_SELECTOR, "table.sortable tbody tr")
        assert len(rows) == 5 * 3 * 2 + 2 * 3 and not rows[0].is_displayed()
        browser.find_element(By.XPATH, "//summary[contains(., 'fits')]").click()
        assert rows[0].is_displayed()
        assert len(browser.find_elements(By.CSS_SELECTOR, "article pre")) == 18
        assert browser.find_element(By.CSS_SELECTOR, "pre mark").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_keeps_colours_and_light_paper(browser, folder):
    visit(browser, folder, theme="dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    script = """
      const style = getComputedStyle(document.querySelector(arguments[0]));
      return [style.backgroundColor, style.printColorAdjust]"""
    assert browser.execute_script(script, "body")[0] == rgb(LIGHT["paper"])
    assert browser.execute_script(script, "pre mark.s10") == [rgb(LIGHT["high"]), "exact"]
    assert browser.execute_script(script.replace("backgroundColor", "display"), ".filter")[0] == "none"
    # On paper nobody can unfold anything.
    shown = "return document.querySelector('article details table').checkVisibility({contentVisibilityAuto: true})"
    assert browser.execute_script(shown)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    assert not browser.execute_script(shown)


@pytest.mark.parametrize("media, width", [("screen", 1280), ("print", 718)])
def test_two_layers_with_gates_fit_on_screen_and_paper(browser, folder, media, width):
    visit(browser, folder, "gates", width=width)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": []})
    script = "const e = document.querySelector('table.where').parentElement; return [e.scrollWidth, e.clientWidth]"
    scroll, client = browser.execute_script(script)
    assert scroll <= client


def test_a_narrow_window_names_its_hidden_columns(browser, folder):
    for width, hidden in ((1280, 0), (500, 1)):
        visit(browser, folder, width=width)
        for table in browser.find_elements(By.CSS_SELECTOR, ".answers"):
            hint = table.find_element(By.CSS_SELECTOR, ".narrow")
            wide = table.find_elements(By.CSS_SELECTOR, ".wide")
            assert wide and {each.is_displayed() for each in wide} == {not hidden}
            assert hint.is_displayed() == bool(hidden)


def test_names_of_results_are_spaced_from_the_table_above(browser, folder):
    visit(browser, folder, "both")
    gap = """
      const [first, second] = document.querySelectorAll(".where");
      const title = second.closest(".scroll").previousElementSibling;
      return [title.tagName, title.getBoundingClientRect().top - first.getBoundingClientRect().bottom]"""
    tag, space = browser.execute_script(gap)
    assert tag == "H3" and space > 15


def test_the_accessibility_tree_conveys_the_visible_content(browser, folder):
    visit(browser, folder)
    browser.execute_cdp_cmd("Accessibility.enable", {})
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    shown = [node for node in nodes if not node["ignored"]]
    names = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown}
    roles = [node["role"]["value"] for node in shown]
    assert ("RootWebArea", "gatescope: lstm") in names
    assert {"main", "heading", "table", "columnheader", "rowheader", "figure", "mark", "article"} <= set(roles)
    charts = [name for role, name in names if role == "image"]
    assert any(name.startswith("plain F1 .") and "balanced F1 ." in name for name in charts)
    assert any(name.startswith("AUROC .") and "text baseline ." in name for name in charts)
    assert any(name == "colour scale from 0 to 1" for name in charts)
    # Nothing that can be operated or looked at lacks a name.
    for role, name in names:
        assert name or role not in {"button", "link", "searchbox", "image", "heading", "article", "region"}, role
