"""The report's page as tests read it."""

from html.parser import HTMLParser

VOID = {"meta", "wbr", "br", "input", "img", "link"}


class Page(HTMLParser):
    """The page as elements with attributes, text and ancestors; a tag that does not match its start is an error."""

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
    """Rows of a table but for its head."""
    return [row for body in within(table, "tbody") for row in within(body, "tr")]


def cells(row):
    return [cell["text"] for cell in within(row, "th", "td")]
