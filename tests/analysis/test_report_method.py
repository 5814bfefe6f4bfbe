"""report_method.py: the page's account of the method agrees with the code and with the results."""

import json

from report_page import Page

from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.report import write_report


def test_the_page_gives_the_context_length_of_the_text_baseline(page):
    words = f"The text baseline predicts from the last {NgramTable().k} characters read and"
    assert sum(words in each["text"] for each in page.all("p")) == 1


def test_numbers_of_folds_are_listed_in_order(tmp_path, write_result, texts_to_draw):
    folders = [write_result(tmp_path / str(folds), hypotheses=[("inside_string", '"', 0.9)]) for folds in (10, 5)]
    for folder in folders:
        records = [record | {"folds": int(folder.name)} for record in json.loads((folder / "probes.json").read_text())]
        (folder / "probes.json").write_text(json.dumps(records))
    page = Page(write_report(folders, tmp_path / "r").read_text(encoding="utf-8"))
    assert sum(each["text"].startswith("Each of 5 or 10 folds is tested once") for each in page.all("p")) == 1
