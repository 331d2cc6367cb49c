"""The findings as text, for the terminal."""

from __future__ import annotations

import textwrap

from .finding import Finding, Severity, by_severity, count
from .fix import yaml_line

WIDTH = 100
INDENT = "         "


def to_text(findings: list[Finding]) -> str:
    """Every finding with its fix, the worst first, and a last line that counts them."""
    paragraphs = [finding_text(finding) for finding in by_severity(findings)]
    return "\n\n".join([*paragraphs, summary(findings)])


def finding_text(finding: Finding) -> str:
    """``error    ranges: where`` with indented lines below it."""
    head = f"{finding.severity.value:<8} {finding.check}: {finding.where}"
    lines = [head, *_wrapped(finding.what, "")]
    if finding.fix:
        lines += _wrapped(finding.fix, "mend: ")
    for path, value in finding.changes.items():
        lines.append(f"{INDENT}yaml: {yaml_line(path, value)}")
    return "\n".join(lines)


def _wrapped(text: str, before: str) -> list[str]:
    return textwrap.wrap(
        before + text,
        WIDTH,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def summary(findings: list[Finding]) -> str:
    """``2 errors, 1 warning, 3 notes``"""
    parts = []
    for severity in Severity:
        number = count(findings, severity)
        parts.append(f"{number} {severity.value}{'' if number == 1 else 's'}")
    return ", ".join(parts)
