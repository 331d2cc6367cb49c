"""The pages: one evaluation (with its teacher where that is known), or two side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .page import Html, join, page, paragraph, write_page
from .record import Record, Scene
from .sections.frames import different_frames, worst_frames
from .sections.overview import overview, primary_text, same_data
from .sections.precision import curves, divisions, tables
from .sections.training import health, losses, setup
from .training_log import TrainingLog
from .view import View, with_teacher

FILE = "report.html"


def run_page(view: View) -> Html:
    """The page of one evaluation."""
    views = with_teacher(view)
    record = view.record
    nothing = Html("")
    if not record.tables:
        nothing = paragraph("The split has no labels, so there are no figures.")
    return page(
        f"{record.name}: {primary_text(view)}" if record.primary else record.name,
        overview(views),
        nothing,
        tables(views),
        curves(views),
        divisions(views),
        worst_frames(views[0]),
        losses([view]),
        health([view]),
        setup([view]),
        subtitle="Evaluation report. Everything is in this file; it needs no network.",
    )


def pair_page(views: Sequence[View], scenes: Mapping[str, Sequence[Scene]] | None = None) -> Html:
    """Two evaluations side by side; differences are the second minus the first.

    Args:
        scenes: of a frame, the scene of each model. None: those that both records hold.
    """
    first, second = views
    return page(
        f"{first.label} beside {second.label}",
        join(same_data(views), overview(views), paragraph(_sign(first, second), kind="pale")),
        tables(views),
        curves(views),
        divisions(views),
        different_frames(views, scenes),
        losses(views),
        health(views),
        setup(views),
        subtitle="Two evaluations side by side. Everything is in this file; it needs no network.",
    )


def _sign(first: View, second: View) -> str:
    return f"Differences on this page: '{second.label}' minus '{first.label}'."


def write_run_page(record: Record, folder: Path, training: TrainingLog | None) -> Path:
    """Write ``report.html`` of one evaluation; returns its path."""
    view = View(record.name, record, training)
    return write_page(run_page(view), folder / FILE)
