"""What a page shows: one or several models, each with its record and its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .record import Record
from .training_log import TrainingLog


@dataclass(frozen=True)
class View:
    """One model of a page.

    Attributes:
        label: in legends and tables, different from that of the other models.
        record: its evaluation.
        training: its training; None where it is not known.
    """

    label: str
    record: Record
    training: TrainingLog | None = None


def with_teacher(view: View) -> list[View]:
    """The model; as student and teacher where its record knows its teacher."""
    teacher = view.record.teacher
    if teacher is None:
        return [view]
    return [View("student", view.record, view.training), View("teacher", teacher)]


def number_text(value: object) -> str:
    """A cell of a table: two decimals for a fraction, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)


def difference_text(value: object, other: object) -> str:
    """``value`` minus ``other`` with its sign; empty where one of them is no fraction."""
    if isinstance(value, float) and isinstance(other, float):
        return f"{value - other:+.2f}"
    return ""


def class_order(views: Sequence[View]) -> list[str]:
    """The classes of all views, those of the first one first."""
    names: dict[str, None] = {}
    for view in views:
        names.update(dict.fromkeys(view.record.class_names))
    return list(names)
