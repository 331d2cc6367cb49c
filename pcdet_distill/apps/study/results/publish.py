"""The part of a study that belongs into a repository: a page, a plot and results.csv.

The page has a part that people write, what was asked and what was found, and a part that is made
here, between two markers: the tables, the plot and the commands of every run.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ....report.comparison import BEGIN, END, insert_results
from ..data import all_data_commands
from ..plan import StudyPlan
from ..records import Records
from ..spec import TEACHER
from ..survey import Outcome, survey
from .results_csv import write_results
from .table import Row, Table
from .text import to_markdown

PAGE = "README.md"
RESULTS = "results.csv"
PLOT = "plot.png"
PLOT_CAPTION = (
    "*Each row of the table: its 3D mAP over the cost of its training, with the standard deviation "
    "over its seeds.*"
)


def publish(plan: StudyPlan, tables: Sequence[Table], folder: Path) -> Path:
    """Write page, plot and results.csv to ``folder``/<study>; returns the page.

    A page that exists keeps what stands outside its markers.
    """
    target = (folder if folder.is_absolute() else plan.root / folder) / plan.spec.name
    target.mkdir(parents=True, exist_ok=True)
    outcomes = survey(plan, Records(plan))
    write_study_results(plan, tables[0], outcomes, target / RESULTS)
    plot = plan.folder / PLOT
    if plot.exists():
        shutil.copyfile(plot, target / PLOT)
    page = target / PAGE
    if not page.exists():
        page.write_text(f"# Study {plan.spec.name}\n\n{BEGIN}\n{END}\n")
    results = page_results(plan, tables, outcomes, target=target, has_plot=plot.exists())
    insert_results(page, results)
    return page


def write_study_results(
    plan: StudyPlan, table: Table, outcomes: Mapping[str, Outcome], path: Path
) -> None:
    """results.csv of a study; of ``table`` only what does not depend on its split is taken."""
    counted = {row.name: row.counted_s for row in table.rows if row.counted_s is not None}
    write_results(
        path,
        outcomes.values(),
        splits=plan.spec.evaluate,
        class_names=table.class_names,
        measured={row.name: row.measured for row in table.rows},
        counted=counted,
    )


def page_results(
    plan: StudyPlan,
    tables: Sequence[Table],
    outcomes: Mapping[str, Outcome],
    *,
    target: Path,
    has_plot: bool,
) -> str:
    """The generated part of the page: the tables, the last split first, the plot, the commands."""
    links = {row.name: os.path.relpath(plan.root / row.config, target) for row in tables[0].rows}
    parts = [_origin(plan, target), ""]
    parts += [to_markdown(table, links) for table in reversed(tables)]
    if has_plot:
        parts += [f"![3D mAP over the cost of training]({PLOT})", "", PLOT_CAPTION, ""]
    parts += _commands_section(plan, tables[0], outcomes)
    return "\n".join(parts)


def _origin(plan: StudyPlan, target: Path) -> str:
    """How the study was run, and where its numbers are."""
    file = os.path.relpath(plan.spec.file, plan.root)
    link = os.path.relpath(plan.spec.file, target)
    return (
        f"Made by `python tools/study.py {file}` ([yaml]({link})). Cost and AP of every run: "
        f"[{RESULTS}]({RESULTS}), rounded to two decimals; the tables are computed from the "
        "unrounded numbers."
    )


def _commands_section(plan: StudyPlan, table: Table, outcomes: Mapping[str, Outcome]) -> list[str]:
    lines = ["## Commands", "", "From the checkout; on a CPU with `OMP_NUM_THREADS=1`.", ""]
    lines += ["The data:", "", *_code_block(all_data_commands(plan)), ""]
    for row in table.rows:
        title = "The teacher" if row.name == TEACHER else f"Row `{row.title}`"
        lines += [f"{title}:", "", *_commands_of(plan, row, outcomes), ""]
    return lines


def _commands_of(plan: StudyPlan, row: Row, outcomes: Mapping[str, Outcome]) -> list[str]:
    """The commands of a row's first seed, and how those of the others differ."""
    runs = [outcome.run for outcome in outcomes.values() if outcome.run.row.name == row.name]
    known = [run for run in runs if run.has_commands]
    if not known:
        return _code_block([])
    first, *others = known
    lines = _code_block([command.words for command in plan.commands(first)])
    if others:
        seeds = ", ".join(str(run.seed) for run in others)
        names = f"the name `{first.tag}`"
        if others[0].teacher_ckpt != first.teacher_ckpt:
            names += " and in its teacher's"
        lines += ["", f"Also with `--seed` {seeds}, and this number in {names}."]
    return lines


def _code_block(commands: Sequence[Sequence[str]]) -> list[str]:
    return [f"    {command_line(words)}" for words in commands] or ["    (none yet)"]


def command_line(words: Sequence[str]) -> str:
    """A command as a user types it."""
    return "python " + shlex.join(words)
