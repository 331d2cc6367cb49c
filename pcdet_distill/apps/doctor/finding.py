"""A finding: what is wrong with data or yaml, where, how bad, and the yaml line that mends it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Severity(enum.Enum):
    """How bad a finding is, the worst first."""

    ERROR = "error"  # the training fails, or cannot reach a useful AP
    WARNING = "warning"  # AP will be clearly lower than it could be, or is not what it seems
    NOTE = "note"  # worth knowing; nothing needs to change


ORDER = list(Severity)


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        check: name of the check, a key of ``CHECKS``.
        severity: how bad it is.
        where: a key of the yaml, a split, a frame or a class.
        what: one or two sentences with the measured numbers.
        fix: what to do; empty where nothing needs to be done.
        changes: key path -> value: the lines of yaml that mend it, for ``--fix``. A number in a
            path is a place in a list, as for ``--set``.
        frames: names of frames that show it, for the pictures.
    """

    check: str
    severity: Severity
    where: str
    what: str
    fix: str = ""
    changes: Mapping[str, object] = field(default_factory=dict)
    frames: tuple[str, ...] = ()


def by_severity(findings: list[Finding]) -> list[Finding]:
    """The findings, the worst first; of equal ones in the order in which they were found."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def worse(first: Severity, second: Severity) -> Severity:
    """The worse of two."""
    return min(first, second, key=ORDER.index)


def count(findings: list[Finding], severity: Severity) -> int:
    """How many findings are so bad."""
    return sum(finding.severity is severity for finding in findings)


def percent(share: float) -> str:
    """``12 %``; shares that are not quite none or all are not rounded to these."""
    if 0 < share < 0.005:
        return "less than 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def numbers(values: object, digits: int = 2) -> list[float]:
    """Plain rounded numbers, for messages and yaml."""
    return [round(float(value), digits) + 0.0 for value in values]  # type: ignore[attr-defined]
