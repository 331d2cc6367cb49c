"""``--out``: the findings as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...errors import ConfigError, UserError
from ...report import page
from ...report.page import Html
from .case import Case
from .checks import CHECKS
from .finding import Finding, Severity, by_severity
from .fix import yaml_line
from .pictures import Picture, draw_all
from .text import summary

FILE = "doctor.html"
KINDS = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.NOTE: "pale"}


def write_page(case: Case, findings: list[Finding], folder: Path) -> Path:
    """Write the page into ``folder``; returns its path."""
    try:
        pictures = draw_all(case, findings)
        missing = ""
    except UserError as error:
        pictures = []
        missing = str(error)
    try:
        return page.write_page(page_of(case, findings, pictures, missing), folder / FILE)
    except ConfigError as error:
        raise ConfigError(f"--out {error}") from None


def page_of(
    case: Case, findings: list[Finding], pictures: Sequence[Picture], missing: str = ""
) -> Html:
    """The text of the page.

    Args:
        missing: why there are no pictures; empty where there are.
    """
    yaml_file = str(case.cfg.get("CONFIG_FILE", "yaml"))
    looked_at = ", ".join(case.looked_at(split) for split in case.splits)
    return page.page(
        f"{Path(yaml_file).name}: {summary(findings)}",
        page.paragraph(f"data: {case.data.get('DATA_PATH', '')}; {looked_at}", kind="pale"),
        *(finding_html(finding) for finding in by_severity(findings)),
        page.section(
            "Pictures",
            page.note(missing, kind="warn") if missing else Html(""),
            page.row(*(picture_html(picture) for picture in pictures if picture.is_scene)),
            *(picture_html(picture) for picture in pictures if not picture.is_scene),
        ),
        page.section("What was checked", checks_html(findings)),
        subtitle=yaml_file,
        contents=False,
    )


def finding_html(finding: Finding) -> Html:
    """One finding with its lines of yaml."""
    kind = KINDS[finding.severity]
    lines = "\n".join(yaml_line(path, value) for path, value in finding.changes.items())
    return page.join(
        Html(f"<div class='note {kind}'><b class='{kind}'>{finding.severity.value}: "),
        Html(f"{escape(finding.check)}</b> <span class='pale'>{escape(finding.where)}</span>"),
        page.paragraph(finding.what),
        page.paragraph(f"Mend: {finding.fix}") if finding.fix else Html(""),
        page.preformatted(lines) if lines else Html(""),
        Html("</div>"),
    )


def picture_html(picture: Picture) -> Html:
    """A picture with title and caption."""
    image = page.png(picture.png, picture.title)
    return page.figure(image, picture.caption, title=picture.title)


def checks_html(findings: Sequence[Finding]) -> Html:
    """The table of checks with the worst that each has found."""
    rows = []
    for name, (_, about) in CHECKS.items():
        own = by_severity([finding for finding in findings if finding.check == name])
        rows.append([name, about, own[0].severity.value if own else "fine"])
    return page.table(["check", "what it looks for", "found"], rows)
