"""``report.html`` of the quickstart: the comparison, and teacher and students over one another."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...report.comparison import Comparison, table_cells
from ...report.page import Html, items, note, page, paragraph, section, table, write_page
from ...report.record import FILE, read_record
from ...report.run_page import FILE as PAGE
from ...report.sections.frames import different_frames, worst_frames
from ...report.sections.overview import same_data
from ...report.sections.precision import curves, divisions, tables
from ...report.sections.training import health, losses, setup
from ...report.training_log import read_training_log
from ...report.view import View
from .plan import MODELS, TITLES, QuickstartPlan


def write_quickstart_page(plan: QuickstartPlan, comparison: Comparison) -> Path | None:
    """Write the page beside the table; None, with a sentence, where it cannot be written."""
    try:
        return write_page(quickstart_page(plan, comparison), plan.output / PAGE)
    except UserError as error:
        print(f"   no {PAGE}: {error}")
        return None


def quickstart_page(plan: QuickstartPlan, comparison: Comparison) -> Html:
    """The text of the page."""
    views = known_views(plan)
    parts = [comparison_section(comparison)]
    if len(views) == len(MODELS):
        teacher, student, distilled = views
        parts += [
            same_data(views),
            tables(views),
            curves(views),
            divisions(views),
            different_frames([student, distilled]),
            worst_frames(distilled),
            losses([student, distilled]),
            health([distilled]),
            setup([teacher, student, distilled]),
        ]
    else:
        parts.append(
            note(
                "Curves and frames are missing: an earlier version evaluated these models. Delete "
                f"output/{plan.tag} and the trainings, and run the quickstart again.",
                "warn",
            )
        )
    return page(
        comparison.verdict().split(". ")[0],
        *parts,
        subtitle="Report of the quickstart. Everything is in this file; it needs no network.",
    )


def known_views(plan: QuickstartPlan) -> list[View]:
    """Teacher and students whose evaluation stored the data of a report."""
    views = []
    for model in MODELS:
        folder = plan.evaluation(model)
        if (folder / FILE).is_file():
            record = read_record(folder / FILE)
            log = read_training_log(folder / record.training) if record.training else None
            views.append(View(TITLES[model], record, log))
    return views


def comparison_section(comparison: Comparison) -> Html:
    """The table of the three models, the verdict, and how they were trained."""
    header = ["model", "parameters", "GFLOPs", "latency"]
    for title in comparison.shown_as.metrics.values():
        header += [f"{title} {name}" for name in [*comparison.class_names, "mean"]]
    header += list(comparison.teacher.scores)
    rows = [[row.name, *table_cells(row, comparison.class_names)] for row in comparison.rows]
    return section(
        "Teacher, student, distilled student",
        paragraph(comparison.verdict()),
        table(header, rows),
        paragraph(comparison.setting(), kind="pale"),
        items(comparison.notes) if comparison.notes else Html(""),
        paragraph(f"Made by `{comparison.command}`."),
    )
