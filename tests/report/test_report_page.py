"""The page builder: escaping, tables, contents, and a file that needs no other."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from page_reader import read_page

from pcdet_distill.errors import ConfigError
from pcdet_distill.report import page
from pcdet_distill.report.page import Html

HOSTILE = "<script>alert('1')</script> & \"Car\""


def test_a_page_is_whole_and_loads_nothing():
    sections = [page.section(name, page.paragraph(name)) for name in ("One", "Two", "Three")]
    html = page.page("Title", *sections, subtitle="below")
    reader = read_page(html)
    assert html.startswith("<!doctype html>")
    assert "viewport" in html and "prefers-color-scheme: dark" in html
    links = [values["href"] for tag, values in reader.tags if tag == "a"]
    anchors = [values["id"] for tag, values in reader.tags if tag == "h2"]
    assert links == [f"#{anchor}" for anchor in anchors] == ["#one", "#two", "#three"]


def test_two_sections_need_no_contents():
    html = page.page("T", page.section("A", Html("x")), page.section("B", Html("y")))
    assert read_page(html).count("nav") == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda words: page.page(words),
        lambda words: page.section(words, page.paragraph("x")),
        lambda words: page.paragraph(words),
        lambda words: page.note(words, "warn"),
        lambda words: page.preformatted(words),
        lambda words: page.items([words]),
        lambda words: page.details(words, page.paragraph(words)),
        lambda words: page.table([words], [[words]], caption=words),
        lambda words: page.figure(Html(""), words, title=words),
        lambda words: page.png(b"x", words),
    ],
)
def test_what_is_given_is_escaped(make):
    html = make(HOSTILE)
    assert "<script>" not in html
    assert read_page(html).count("script") == 0


def test_backticks_become_code():
    assert page.paragraph("run `a < b` now") == "<p>run <code>a &lt; b</code> now</p>"


def test_a_section_without_parts_is_left_out():
    assert page.section("Nothing", Html(""), page.row()) == ""


def test_columns_of_numbers_stand_right_and_totals_are_bold():
    rows = [["0-20 m", "12.3", "yes", "+1.0 ± 0.2"], ["mean", "–", "no", "2 ms"]]
    html = page.table(["part", "AP", "shown", "change"], rows, total_rows=1)
    reader = read_page(html)
    assert reader.tables == [[["part", "AP", "shown", "change"], *rows]]
    assert reader.count("td", "number") == 4
    assert reader.count("th", "number") == 2
    assert reader.count("tr", "total") == 1


def test_a_picture_is_part_of_the_page():
    content = bytes(range(256))
    (_, values), *_ = read_page(page.png(content, "a picture")).tags
    assert base64.b64decode(values["src"].split(",")[1]) == content


def test_a_page_is_written_whole(tmp_path: Path):
    file = page.write_page(page.page("Ä"), tmp_path / "new" / "report.html")
    assert "<h1>Ä</h1>" in file.read_text(encoding="utf-8")
    assert [entry.name for entry in file.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match=r"report\.html: cannot be written"):
        page.write_page(page.page("x"), tmp_path / "taken" / "report.html")
