"""Everything that is written into a study's folder: tables, results.csv, plot and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ....errors import UserError
from ....parallel import Engine, LocalEngine
from ..cost.costs import StepTimes, measurable, measured_costs
from ..cost.measured import measure_rows
from ..plan import Options, StudyPlan
from ..records import Records
from ..reopen import reopen
from ..spec import STEPS
from ..survey import FINISHED, RUNNING, Outcome, survey
from .page import write_study_page
from .plot import draw
from .publish import RESULTS, write_study_results
from .shown import Evidence, warnings, what_is_shown
from .table import Table, make_table
from .text import to_markdown, to_text


class Written(NamedTuple):
    """The tables of all splits, and the page; None where that cannot be written."""

    tables: Sequence[Table]
    page: Path | None


def write_everything(
    plan: StudyPlan, *, on_gpu: bool, engine: Engine | None = None, page: Path | None = None
) -> Written:
    """Tables, plot and page of the study as it is now; prints the table of the last split."""
    tables = write_tables(plan, on_gpu, engine)
    written = write_study_page(plan, tables, survey(plan, Records(plan)), page)
    print(to_text(tables[-1]))
    try:
        draw(tables[-1], plan.folder / "plot.png", on_gpu)
    except UserError as error:
        print(f"no plot: {error}")
    print(f"tables of every split: {plan.folder}/table_*.md")
    if written is not None:
        print(f"report: {written}")
    return Written(tables, written)


def report_folder(folder: Path, page: Path | None = None) -> Path | None:
    """Write tables and page of a study again, from nothing but its folder.

    Args:
        page: where the page is written; ``report.html`` in the folder by default.
    """
    spec, root, call = reopen(folder)
    plan = StudyPlan(spec, root, Options(call.device, call.workers))
    Records(plan).refuse_foreign_results()
    return write_everything(plan, on_gpu=call.on_gpu, page=page).page


def write_tables(plan: StudyPlan, on_gpu: bool, engine: Engine | None = None) -> list[Table]:
    """Write table_<split>.{txt,md,json} and results.csv into the study's folder.

    Args:
        engine: where missing costs are measured; in this process by default.
    """
    engine = engine or LocalEngine()
    records = Records(plan)
    outcomes = survey(plan, records)
    is_busy = any(outcome.status == RUNNING for outcome in outcomes.values())
    measured = engine.call(partial(measure_rows, plan, records, outcomes, latency=not is_busy))
    plan.folder.mkdir(parents=True, exist_ok=True)
    costs = _costs(plan, outcomes, on_gpu, engine)
    evidence = Evidence(plan, outcomes, costs)
    tables = []
    for split in plan.spec.evaluate:
        is_last = split == plan.spec.evaluate[-1]  # the one that is reported
        table = make_table(
            plan,
            outcomes,
            split,
            on_gpu=on_gpu,
            measured=measured,
            equal=records.equal_epochs(),
            counted=costs if plan.spec.cost == STEPS else {},
            shown=what_is_shown(evidence) if is_last else (),
            warnings=warnings(evidence) if is_last else (),
        )
        path = plan.folder / f"table_{split}"
        path.with_suffix(".txt").write_text(to_text(table))
        path.with_suffix(".md").write_text(to_markdown(table))
        path.with_suffix(".json").write_text(json.dumps(asdict(table), indent=1) + "\n")
        tables.append(table)
    write_study_results(plan, tables[0], outcomes, plan.folder / RESULTS)
    return tables


def _costs(
    plan: StudyPlan, outcomes: Mapping[str, Outcome], on_gpu: bool, engine: Engine
) -> dict[str, float]:
    """The cost of each row by which rows are compared; steps that are missing are measured now."""
    if plan.spec.cost != STEPS:
        return measured_costs(plan, outcomes, on_gpu)
    step_times = StepTimes(plan, Records(plan), on_gpu, engine=engine)
    finished = {each.run.row.name for each in outcomes.values() if each.status == FINISHED}
    rows = [row for row in measurable(plan, outcomes) if row.name in finished]
    try:
        step_times.measure(rows, partial(print, flush=True))
    except UserError as error:
        print(f"warning: costs are not complete: {error}", flush=True)
    return step_times.all_counted()
