"""The page that every report is: one HTML file that opens offline, light and dark, on a phone too.

A page is text made by small functions, each of which escapes what it is given::

    html = page(
        "PointPillars, student",
        section("Average precision", paragraph("40 recall positions"), table(header, rows)),
        section("Curves", row(figure(line_plot(lines), "Precision over recall"))),
    )
    write_page(html, folder / "report.html")

Nothing is loaded from outside: pictures are part of the text, the style is ``assets/page.css``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import NewType

from ..errors import ConfigError
from ..whole_files import whole_file

# Text that is HTML already. Everything else is escaped.
Html = NewType("Html", str)

STYLE_FILE = Path(__file__).parent / "assets" / "page.css"
# A cell that begins so is a number, maybe with a unit or a spread; a dash stands for none.
NUMBER = re.compile(r"[-+−]?\.?\d|[–-]$")


@cache
def style() -> str:
    """The style sheet."""
    return STYLE_FILE.read_text(encoding="utf-8")


def text(words: str | Html) -> Html:
    """Escape text. An ``Html`` of this module is a str too, so it must not be passed here."""
    return Html(escape(words))


def join(*parts: Html) -> Html:
    """The parts one below the other; empty ones are left out."""
    return Html("\n".join(part for part in parts if part))


def page(title: str, *parts: Html, subtitle: str = "", contents: bool = True) -> Html:
    """A whole page.

    Args:
        title: heading, and name of the browser's tab.
        parts: sections and anything before them.
        subtitle: a pale line below the heading.
        contents: list the sections at the top, where there are three or more.
    """
    body = join(*parts)
    return join(
        Html("<!doctype html><html lang='en'><head><meta charset='utf-8'>"),
        Html("<meta name='viewport' content='width=device-width, initial-scale=1'>"),
        Html(f"<title>{escape(title)}</title><style>{style()}</style></head><body>"),
        Html(f"<h1>{escape(title)}</h1>"),
        paragraph(subtitle, kind="pale") if subtitle else Html(""),
        _contents(body) if contents else Html(""),
        body,
        Html("</body></html>\n"),
    )


def _contents(body: str) -> Html:
    """Links to the sections in ``body``."""
    found = re.findall(r"<h2 id='([^']+)'>(.*?)</h2>", body)
    if len(found) < 3:
        return Html("")
    links = "".join(f"<a href='#{anchor}'>{name}</a>" for anchor, name in found)
    return Html(f"<nav>{links}</nav>")


def section(title: str, *parts: Html, about: str = "") -> Html:
    """A heading with what belongs to it. A section without parts is left out.

    Args:
        about: a sentence that says how to read the section.
    """
    content = join(*parts)
    if not content:
        return Html("")
    anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return join(
        Html(f"<section><h2 id='{anchor}'>{escape(title)}</h2>"),
        paragraph(about) if about else Html(""),
        content,
        Html("</section>"),
    )


def heading(title: str) -> Html:
    """A heading inside a section."""
    return Html(f"<h3>{escape(title)}</h3>")


def paragraph(words: str, kind: str = "") -> Html:
    """Escaped text. Between backticks stands what a reader types: it becomes ``<code>``.

    Args:
        kind: pale, good, bad or warn; empty for plain text.
    """
    written = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))
    return Html(f"<p{_class(kind)}>{written}</p>")


def note(words: str, kind: str = "") -> Html:
    """A remark with a rule at its left; ``kind`` is warn or bad for one that matters."""
    return Html(f"<div class='note {kind}'>{paragraph(words)}</div>")


def preformatted(words: str) -> Html:
    """Text whose lines stay as they are, such as a yaml file."""
    return Html(f"<pre>{escape(words)}</pre>")


def items(lines: Sequence[str]) -> Html:
    """A list of sentences."""
    return Html("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>")


def details(summary: str, *parts: Html) -> Html:
    """Something that a click unfolds."""
    return Html(f"<details><summary>{escape(summary)}</summary>{join(*parts)}</details>")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    total_rows: int = 0,
) -> Html:
    """A table that scrolls sideways where it is too wide. Columns of numbers stand to the right.

    Args:
        rows: cells as text, as many as in ``header``.
        total_rows: so many rows at the end are sums or means, set in bold.
    """
    kinds = [_kind_of_column(number, rows) for number in range(len(header))]
    head = "".join(f"<th{_class(kind)}>{escape(name)}</th>" for name, kind in zip(header, kinds))
    lines = []
    for number, row_cells in enumerate(rows):
        is_total = number >= len(rows) - total_rows
        cells = "".join(
            f"<td{_class(kind)}>{escape(cell)}</td>" for cell, kind in zip(row_cells, kinds)
        )
        lines.append(f"<tr{_class('total' if is_total else '')}>{cells}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(
        f"<div class='scroll'><table>{title}<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _kind_of_column(number: int, rows: Sequence[Sequence[str]]) -> str:
    """The class of a column's cells. The first column names the rows, whatever it looks like."""
    cells = [line[number] for line in rows if line[number]]
    are_numbers = all(NUMBER.match(cell) for cell in cells)
    return "number" if number > 0 and cells and are_numbers else ""


def figure(content: Html, caption: str = "", title: str = "") -> Html:
    """A plot or picture with its caption."""
    above = heading(title) if title else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{above}{content}{below}</figure>")


def row(*figures: Html) -> Html:
    """Figures beside each other, below each other on a phone."""
    content = join(*figures)
    return Html(f"<div class='row'>{content}</div>") if content else Html("")


def png(content: bytes, about: str) -> Html:
    """A picture file as part of the page. ``about`` is read out where it cannot be seen."""
    packed = base64.b64encode(content).decode("ascii")
    return Html(f"<img alt='{escape(about)}' src='data:image/png;base64,{packed}'>")


def _class(kind: str) -> str:
    return f" class='{kind}'" if kind else ""


def write_page(html: Html, file: Path) -> Path:
    """Write the page as a whole or not at all; returns its path.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror or error})") from None
    return file
