"""What of a study belongs into a repository: tables, plot, every run's metrics, and the commands that make each row."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .data import all_data_commands
from .plan import StudyPlan
from .results import FINISHED, Outcome, Records, survey, write_json
from .spec import TEACHER
from .table import Table, to_markdown, to_plain, to_text

PAGE = "README.md"


def publish(plan: StudyPlan, tables: list[Table], folder: Path) -> Path:
    """Write ``folder``/<study>: README.md with the last split's table first, the plot, metrics/<run>.json; the page."""
    target = (folder if folder.is_absolute() else plan.root / folder) / plan.spec.name
    records = Records(plan)
    outcomes = survey(plan, records)
    shutil.rmtree(target / "metrics", ignore_errors=True)
    for outcome in outcomes.values():
        write_json(target / "metrics" / f"{outcome.run.name}.json", run_record(plan, outcome))
    for table in tables:
        (target / f"table_{table.split}.txt").write_text(to_text(table))
        (target / f"table_{table.split}.json").write_text(
            json.dumps(to_plain(table), indent=1) + "\n"
        )
    picture = plan.folder / "plot.png"
    if picture.exists():
        shutil.copyfile(picture, target / "plot.png")
    (target / PAGE).write_text(page(plan, tables, outcomes, target, picture.exists()))
    return target / PAGE


def run_record(plan: StudyPlan, outcome: Outcome) -> dict[str, Any]:
    """Everything about one run: commands, outcome, cost, and the metrics.json of every evaluation."""
    run = outcome.run
    record: dict[str, Any] = {"run": run.name, "status": outcome.status}
    if outcome.reason:
        record["reason"] = outcome.reason
    if run.epochs is not None:
        record["commands"] = [command_line(command) for command, _ in plan.commands(run)]
    if outcome.status == FINISHED:
        record["cost"] = asdict(outcome.cost) if outcome.cost else None
        record["metrics"] = {
            split: json.loads(path.read_text()) for split, path in plan.results(run).items()
        }
    return record


def page(
    plan: StudyPlan, tables: list[Table], outcomes: Mapping[str, Outcome], target: Path, plot: bool
) -> str:
    """The markdown page: tables whose rows link to yaml and metrics, the plot, and the commands."""
    study = os.path.relpath(plan.spec.file, plan.root)
    links = {
        row.name: (
            os.path.relpath(plan.root / row.config, target),
            {run.seed: f"metrics/{run.name}.json" for run in plan.runs_of(row.name)},
        )
        for row in tables[0].rows
    }
    parts = [
        f"# Study {plan.spec.name}",
        "",
        f"Made by `python tools/study.py {study}` ([yaml]({os.path.relpath(plan.spec.file, target)})); the "
        "evaluations and the cost of every run are in [metrics](metrics).",
        "",
    ]
    for table in reversed(tables):
        parts += [to_markdown(table, links)]
    if plot:
        parts += ["![3D mAP over the cost of training](plot.png)", ""]
    parts += [
        "## Commands",
        "",
        "From the checkout; on a CPU with `OMP_NUM_THREADS=1`.",
        "",
        "The data:",
        "",
        *_block(all_data_commands(plan)),
        "",
    ]
    for row in tables[0].rows:
        runs = [outcome.run for outcome in outcomes.values() if outcome.run.row.name == row.name]
        commands = [
            command for run in runs if run.epochs is not None for command, _ in plan.commands(run)
        ]
        title = "The teacher" if row.name == TEACHER else f"Row `{row.title}`"
        parts += [f"{title}:", "", *_block(commands), ""]
    return "\n".join(parts)


def _block(commands: list[list[str]]) -> list[str]:
    return [f"    {command_line(command)}" for command in commands] or ["    (none yet)"]


def command_line(command: list[str]) -> str:
    """As a user types it."""
    return "python " + shlex.join(command)
