"""A study: students and recipes, each trained with several seeds on the same data, and the table that compares them.

``spec.py`` reads its yaml, ``plan.py`` makes commands of it, ``runner.py`` runs what is missing, ``results.py`` reads
what the runs left, ``table.py``, ``plot.py`` and ``publish.py`` show it (docs/study/README.md).
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from ...config import nearest
from ...errors import ConfigError, UserError
from .check import check_runs
from .data import data_commands
from .plan import Options, StudyPlan
from .results import FAILED, RUNNING, Records, survey
from .runner import Runner, summary, wanted_runs
from .spec import TEACHER
from .table import Table, make_table, to_markdown, to_plain, to_text

__all__ = ["Options", "Runner", "StudyPlan", "main", "make_table", "write_tables"]


def main(root: Path, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Do what tools/study.py was asked for. ``root`` is the checkout."""
    args = parse_arguments(arguments, prog)
    on_gpu = (args.device or ("cuda" if torch.cuda.is_available() else "cpu")) != "cpu"
    workers = args.workers if args.workers is not None else 4 if on_gpu else 0
    plan = StudyPlan.read(args.study, root, Options(args.device, workers))
    for row in args.only:
        if row not in (*plan.spec.rows, TEACHER):
            raise ConfigError(
                f"--only {row}: the study has no such row{nearest(row, [*plan.spec.rows, TEACHER])}"
            )
    Records(plan).refuse_strangers()
    if args.list:
        print(list_runs(plan, args.only))
    elif args.dry_run:
        print(list_commands(plan, args.only))
    elif args.table:
        show(plan, on_gpu)
    elif args.publish is not None:
        from .publish import publish

        print(publish(plan, show(plan, on_gpu), Path(args.publish)))
    else:
        work(plan, args, on_gpu)


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """The options of tools/study.py."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("study", help="yaml of the study, e.g. cfgs/study/small_pair.yaml")
    add(
        "--jobs",
        type=int,
        default=1,
        help="trainings at a time, each with OMP_NUM_THREADS threads (one)",
    )
    add(
        "--only", nargs="+", default=[], metavar="ROW", help="these rows alone, with what they need"
    )
    add("--device", default=None, help="cpu, cuda or cuda:N (default: cuda when there is one)")
    add(
        "--workers",
        type=int,
        default=None,
        help="data loading processes of each training (default: 0 on a CPU, 4 on a GPU)",
    )
    add("--retry_failed", action="store_true", help="try the runs again that failed")
    add("--list", action="store_true", help="only show every run and how it stands")
    add(
        "--dry_run",
        action="store_true",
        help="only print the commands of the runs that are not finished",
    )
    add("--table", action="store_true", help="only write and print the table of what is there")
    add(
        "--publish",
        metavar="DIR",
        default=None,
        help="copy tables, plot and metrics to DIR/<study>, e.g. docs/study",
    )
    return parser.parse_args(arguments)


def work(plan: StudyPlan, args: argparse.Namespace, on_gpu: bool) -> None:
    """Run what is missing, then show the table; a UserError at the end when a run failed."""
    if args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: expected 1 or more")
    torch.set_num_threads(1)

    def say(text: str) -> None:
        print(text, flush=True)

    runner = Runner(
        plan,
        jobs=args.jobs,
        only=args.only,
        on_gpu=on_gpu,
        say=say,
        check=lambda runs: check_runs(plan, runs, say),
    )
    if args.retry_failed:
        for run in plan.runs():
            runner.records.forget_failure(run)
    try:
        outcomes = runner.run()
    except KeyboardInterrupt:
        raise UserError("interrupted; run the same command again to go on") from None
    print(summary(outcomes))
    show(plan, on_gpu)
    failed = [name for name, outcome in outcomes.items() if outcome.status == FAILED]
    if failed:
        raise UserError(
            f"failed: {', '.join(failed)}; their reasons are in the table, what they said in "
            f"{runner.records.folder / 'logs'}; --retry_failed tries them again"
        )


def list_runs(plan: StudyPlan, only: Sequence[str]) -> str:
    """One line a run: name, epochs, how it stands."""
    wanted = wanted_runs(plan, only)
    outcomes = {name: each for name, each in survey(plan, Records(plan)).items() if name in wanted}
    width = max(map(len, outcomes))
    lines = [
        f"{name.ljust(width)}  {outcome.run.epochs or '?':>3} epochs  {outcome.status}"
        f"{': ' + outcome.reason if outcome.reason else ''}"
        for name, outcome in outcomes.items()
    ]
    return "\n".join([*lines, summary(outcomes)])


def list_commands(plan: StudyPlan, only: Sequence[str]) -> str:
    """The commands still to run, in their order."""
    wanted = wanted_runs(plan, only)
    lines = ["python " + shlex.join(command) for command in data_commands(plan)]
    for name, outcome in survey(plan, Records(plan)).items():
        if name in wanted and outcome.run.epochs is None:
            lines.append(f"# {name}: {outcome.reason}")
        elif name in wanted:
            lines += [
                "python " + shlex.join(command)
                for command, result in plan.commands(outcome.run)
                if not (plan.root / result).exists()
            ]
    return "\n".join(lines) or "nothing to do"


def show(plan: StudyPlan, on_gpu: bool) -> list[Table]:
    """Write the tables and the plot into the study's folder, and print the last split's table."""
    from .plot import draw

    tables = write_tables(plan, on_gpu)
    print(to_text(tables[-1]))
    try:
        draw(tables[-1], plan.folder / "plot.png", on_gpu)
    except UserError as error:
        print(f"no plot: {error}")
    print(f"tables of every split: {plan.folder}/table_*.md")
    return tables


def write_tables(plan: StudyPlan, on_gpu: bool) -> list[Table]:
    """table_<split>.{txt,md,json} of every split into the study's folder."""
    from .measured import measure_rows

    records = Records(plan)
    outcomes = survey(plan, records)
    busy = any(outcome.status == RUNNING for outcome in outcomes.values())
    measured = measure_rows(plan, records, outcomes, latency=not busy)
    tables = [
        make_table(
            plan, outcomes, split, on_gpu=on_gpu, measured=measured, equal=records.equal_epochs()
        )
        for split in plan.spec.evaluate
    ]
    plan.folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        for suffix, text in (
            ("txt", to_text(table)),
            ("md", to_markdown(table)),
            ("json", json.dumps(to_plain(table), indent=1) + "\n"),
        ):
            (plan.folder / f"table_{table.split}.{suffix}").write_text(text)
    return tables
