"""Reads a page as a browser would: its tags, its text, its tables, and what it would load."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}
LOADING = {"src", "srcset", "data", "poster", "action", "href"}


class PageReader(HTMLParser):
    """``tags``: every opening tag with its attributes; ``loads``: what is not part of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.wrongly_closed: list[str] = []
        self.text: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.loads: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        for name in LOADING & set(values):
            if not values[name].startswith(("data:", "#")):
                self.loads.append(values[name])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr" and self.tables:
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrongly_closed.append(tag)

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def count(self, tag: str, kind: str = "") -> int:
        """How many opening tags there are of a class."""
        return sum(
            name == tag and (not kind or kind in values.get("class", "").split())
            for name, values in self.tags
        )

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def read_page(html: str) -> PageReader:
    """The page, checked: every tag closed in order, nothing loaded from anywhere."""
    reader = PageReader(html)
    assert reader.open == ["html"] or not reader.open, f"left open: {reader.open}"
    assert not reader.wrongly_closed
    assert not reader.loads, f"would be loaded: {reader.loads}"
    assert "@import" not in html and "url(" not in html
    return reader
