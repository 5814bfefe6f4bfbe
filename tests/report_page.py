"""The report's page as tests read it."""

import json
from html.parser import HTMLParser

from gatescope.analysis.report import write_report

VOID = {"meta", "wbr", "br", "input", "img", "link"}


class Page(HTMLParser):
    """The page as elements with attributes, text and ancestors; an end tag that does not match is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements: list[dict] = []
        self.open: list[dict] = []
        self.pieces: list[tuple[str, list[dict]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "above": list(self.open), "below": []}
        self.elements.append(element)
        for above in self.open:
            above["below"].append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1]["tag"] == tag, (tag, [e["tag"] for e in self.open])
        self.open.pop()

    def handle_data(self, data):
        self.pieces.append((data, list(self.open)))
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attrs):
        return [e for e in self.elements if e["tag"] == tag and all(e["attrs"].get(k) == v for k, v in attrs.items())]


def within(ancestor, *tags):
    return [element for element in ancestor["below"] if element["tag"] in tags]


def body_rows(table):
    """The rows of a table except its head."""
    return [row for body in within(table, "tbody") for row in within(body, "tr")]


def cells(row):
    return [cell["text"] for cell in within(row, "th", "td")]


def tables(page):
    """The rows of the answer tables by measure, and then by hypothesis."""
    heads = {"AUROC": "auroc", "R²": "r2", "F1": "f1"}
    return {
        heads[next(e["text"] for e in within(table, "span") if e["text"] in heads)]: {
            cells(row)[0]: row for row in body_rows(table)
        }
        for table in page.all("table", **{"class": "answers"})
    }


def page_of(folder, change, few=(("inside_string", r'"[^"\n]*"', 0.9),), write=None):
    """The page of a result with changed records."""
    folder = write(folder, hypotheses=list(few))
    records = [change(record) for record in json.loads((folder / "probes.json").read_text())]
    (folder / "probes.json").write_text(json.dumps(records))
    return Page(write_report([folder], folder).read_text(encoding="utf-8"))


def keys_of(page):
    """The words of each table's legend."""
    found = []
    for table in page.all("table", **{"class": "answers"}):
        found.append([e["text"] for e in within(table, "span") if e["attrs"].get("class") == "key"])
    return found
