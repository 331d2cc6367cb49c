"""``--out``: the findings as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...errors import ConfigError, UserError
from ...whole_files import whole_file
from .case import Case
from .checks import CHECKS
from .finding import Finding, Severity, by_severity
from .fix import yaml_line
from .pictures import Picture, draw_all
from .text import summary

FILE = "doctor.html"
COLOURS = {Severity.ERROR: "#c92a2a", Severity.WARNING: "#b35900", Severity.NOTE: "#456078"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b2430; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
.file { color: #5b6b7d; word-break: break-all; }
.finding { border-left: 5px solid; padding: 0.3rem 0 0.3rem 0.9rem; margin: 0.9rem 0; }
.kind { font-weight: 600; } .where { color: #5b6b7d; word-break: break-word; }
.mend { margin: 0.2rem 0 0; } pre { background: #f2f4f7; padding: 0.5rem 0.7rem; margin: 0.4rem 0;
  white-space: pre-wrap; word-break: break-word; font-size: 13px; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .row figure { flex: 1 1 16rem; margin: 0; }
figure { margin: 1.2rem 0 2rem; } img { max-width: 100%; border: 1px solid #d8dee6; }
figcaption { color: #3c4a5a; margin-top: 0.3rem; } table { border-collapse: collapse; }
td, th { text-align: left; padding: 0.15rem 1.2rem 0.15rem 0; border-bottom: 1px solid #e3e8ee;
  vertical-align: top; }
"""


def write_page(case: Case, findings: list[Finding], folder: Path) -> Path:
    """Write the page into ``folder``; returns its path."""
    try:
        pictures = draw_all(case, findings)
        missing = ""
    except UserError as error:
        pictures = []
        missing = f"<p>{escape(str(error))}</p>"
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_text(page_of(case, findings, pictures, missing), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written ({error.strerror})") from None
    return file


def page_of(
    case: Case, findings: list[Finding], pictures: Sequence[Picture], missing: str = ""
) -> str:
    """The text of the page."""
    title = Path(str(case.cfg.get("CONFIG_FILE", "yaml"))).name
    looked_at = ", ".join(case.looked_at(split) for split in case.splits)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>Doctor: {escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}: {summary(findings)}</h1>",
        f"<p class='file'>{escape(str(case.cfg.get('CONFIG_FILE', '')))}<br>",
        f"data: {escape(str(case.data.get('DATA_PATH', '')))}; {escape(looked_at)}</p>",
        *(finding_html(finding) for finding in by_severity(findings)),
        "<h2>Pictures</h2>",
        missing,
        "<div class='row'>",
        *(picture_html(picture) for picture in pictures if picture.is_scene),
        "</div>",
        *(picture_html(picture) for picture in pictures if not picture.is_scene),
        "<h2>What was checked</h2>",
        checks_html(findings),
        "</body></html>",
    ]
    return "\n".join(parts)


def finding_html(finding: Finding) -> str:
    """One finding with its lines of yaml."""
    colour = COLOURS[finding.severity]
    lines = "\n".join(yaml_line(path, value) for path, value in finding.changes.items())
    return "".join(
        [
            f"<div class='finding' style='border-color: {colour}'>",
            f"<span class='kind' style='color: {colour}'>{finding.severity.value}: ",
            f"{escape(finding.check)}</span> ",
            f"<span class='where'>{escape(finding.where)}</span>",
            f"<div>{escape(finding.what)}</div>",
            f"<p class='mend'><b>Mend:</b> {escape(finding.fix)}</p>" if finding.fix else "",
            f"<pre>{escape(lines)}</pre>" if lines else "",
            "</div>",
        ]
    )


def picture_html(picture: Picture) -> str:
    """A picture with title and caption."""
    return (
        f"<figure><h3>{escape(picture.title)}</h3>"
        f"<img alt='{escape(picture.title)}' src='data:image/png;base64,{picture.png}'>"
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def checks_html(findings: Sequence[Finding]) -> str:
    """The table of checks with the worst that each has found."""
    rows = []
    for name, (_, about) in CHECKS.items():
        own = by_severity([finding for finding in findings if finding.check == name])
        worst = own[0].severity.value if own else "fine"
        rows.append(f"<tr><td>{name}</td><td>{escape(about)}</td><td>{worst}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
