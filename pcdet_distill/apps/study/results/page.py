"""``report.html`` of a study: every table, and the rows' mean curves over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ....errors import UserError
from ....report.mean import mean_record
from ....report.page import (
    Html,
    details,
    heading,
    items,
    join,
    page,
    paragraph,
    section,
    write_page,
)
from ....report.page import table as html_table
from ....report.plots import SERIES
from ....report.record import FILE, Record, read_record
from ....report.run_page import FILE as PAGE
from ....report.sections.precision import curves, divisions
from ....report.sections.training import health, losses
from ....report.training_log import TrainingLog, read_training_log
from ....report.view import View
from ..plan import StudyPlan
from ..survey import FINISHED, Outcome
from .table import Row, Table
from .text import remarks, sections

MOST_TRAININGS = 4  # whose losses are drawn over one another


def write_study_page(
    plan: StudyPlan,
    tables: Sequence[Table],
    outcomes: Mapping[str, Outcome],
    file: Path | None = None,
) -> Path | None:
    """Write the page, by default beside the tables; None, with a sentence, where that fails."""
    file = file or plan.folder / PAGE
    try:
        return write_page(study_page(plan, tables, outcomes), file)
    except UserError as error:
        print(f"no {PAGE}: {error}")
        return None


def study_page(plan: StudyPlan, tables: Sequence[Table], outcomes: Mapping[str, Outcome]) -> Html:
    """The text of the page. The last split is the one that is reported."""
    reported = tables[-1]
    views = row_views(plan, reported, outcomes)
    num_shown = sum(shown.is_shown for shown in reported.shown)
    others = [details(f"split {other.split}", _tables(other)) for other in tables[:-1]]
    return page(
        f"Study {reported.study}: {num_shown} of {len(reported.shown)} comparisons shown",
        section(f"Results on the split {reported.split}", _tables(reported), *others),
        _left_out(reported, views),
        curves(views),
        divisions(views),
        losses(views[:MOST_TRAININGS]),
        health(views[:MOST_TRAININGS]),
        single_reports(plan, reported, outcomes),
        subtitle="Means over the seeds; ± is the standard deviation over them (n - 1). Everything "
        "is in this file; it needs no network.",
    )


def _tables(content: Table) -> Html:
    """The tables of one split, with remarks below the first."""
    parts = []
    for number, (title, (header, *rows)) in enumerate(sections(content, "±")):
        parts += [heading(title), html_table(header, rows)]
        if number == 0 and remarks(content):
            parts.append(items(remarks(content)))
    return join(*parts, paragraph(content.setting.replace("+-", "±"), kind="pale"))


def row_views(plan: StudyPlan, reported: Table, outcomes: Mapping[str, Outcome]) -> list[View]:
    """The mean of each row, the teacher first, then the best rows, as many as colours go round."""
    views: list[View] = []
    for row in reported.rows:
        records, logs = _of_row(plan, row, reported.split, outcomes)
        if records and len(views) < SERIES:
            log = logs[0] if logs else None
            views.append(View(row.title, mean_record(records, row.title), log))
    return views


def _of_row(
    plan: StudyPlan, row: Row, split: str, outcomes: Mapping[str, Outcome]
) -> tuple[list[Record], list[TrainingLog]]:
    """The records and the logs of a row's finished runs, by seed."""
    records = []
    logs = []
    for outcome in outcomes.values():
        if outcome.run.row.name != row.name or outcome.status != FINISHED:
            continue
        file = plan.results(outcome.run)[split].parent / FILE
        log = read_training_log(plan.root / outcome.run.folder)
        if file.is_file():
            records.append(read_record(file))
        if log is not None:
            logs.append(log)
    return records, logs


def single_reports(plan: StudyPlan, reported: Table, outcomes: Mapping[str, Outcome]) -> Html:
    """Where the report of every finished run on every split is.

    Paths, not links: the page is one file that may be sent to somebody without the others.
    """
    lines = []
    for row in reported.rows:
        for outcome in outcomes.values():
            if outcome.run.row.name == row.name and outcome.status == FINISHED:
                lines += _reports_of(plan, outcome, row.title)
    if not lines:
        return Html("")
    return section(
        "Reports of single runs",
        details(f"{len(lines)} files", html_table(["row", "seed", "split", "file"], lines)),
        about="What each run missed and invented, in pictures. The files are in the checkout that "
        "ran the study.",
    )


def _reports_of(plan: StudyPlan, outcome: Outcome, title: str) -> list[list[str]]:
    """A line for each split whose report is there."""
    lines = []
    for split, results in plan.results(outcome.run).items():
        file = results.parent / PAGE
        if file.is_file():
            path = file.relative_to(plan.root)
            lines.append([title, str(outcome.run.seed), split, str(path)])
    return lines


def _left_out(reported: Table, views: Sequence[View]) -> Html:
    """Which rows have no curves, and why."""
    drawn = {view.label for view in views}
    missing = [row.title for row in reported.rows if row.ap and row.title not in drawn]
    words = []
    if missing:
        words.append(
            f"Without curves: {', '.join(missing)}. At most {SERIES} rows are drawn, and only "
            "those whose evaluations stored the data of a report."
        )
    if any(view.training for view in views[:MOST_TRAININGS]):
        words.append("Losses are those of the first seed of each row.")
    return paragraph(" ".join(words), kind="pale") if words else Html("")
