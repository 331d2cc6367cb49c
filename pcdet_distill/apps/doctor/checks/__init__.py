"""The table of checks. Each is a function from a ``Case`` to findings, in a file of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..case import Case
from ..finding import Finding, Severity
from .amount import check_amount
from .box_values import check_box_values
from .classes import check_classes
from .columns import check_columns
from .intensity import check_intensity
from .ranges import check_ranges
from .reading import check_reading

Check = Callable[[Case], Iterable[Finding]]

# Name -> function and what it looks at. docs/doctor.md has the same table.
CHECKS: dict[str, tuple[Check, str]] = {
    "reading": (check_reading, "frames that cannot be read, are empty, or have no labels"),
    "columns": (check_columns, "number of columns, NaN, constant columns, units of the points"),
    "intensity": (check_intensity, "scale of the intensity, equal in all frames"),
    "box_values": (check_box_values, "NaN, sizes below 0, degrees, sizes that are not metres"),
    "classes": (check_classes, "absent, misspelt and untrained classes"),
    "amount": (check_amount, "how many objects there are to learn from and to evaluate on"),
    "ranges": (check_ranges, "points and boxes outside POINT_CLOUD_RANGE, z limits"),
}


def run_checks(case: Case, names: Iterable[str] = CHECKS) -> Iterator[Finding]:
    """The findings of these checks, in order.

    A check that stumbles over data that nobody thought of is a note, so that the others still
    report what they find.
    """
    for name in names:
        check, _ = CHECKS[name]
        try:
            yield from check(case)
        except Exception as error:  # noqa: BLE001 (see above)
            yield Finding(
                name,
                Severity.NOTE,
                name,
                f"this check could not be finished ({type(error).__name__}: {error})",
            )
