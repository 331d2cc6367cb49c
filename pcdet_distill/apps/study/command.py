"""The command line of studies: ``pcdet-distill study`` and tools/study.py."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ...config import nearest
from ...errors import ConfigError, UserError
from ...parallel import Engine, LocalEngine, add_engine_arguments, engine_of
from ...parallel.arguments import LOCAL
from ...parallel.shards import add_shard_argument
from .check import check_runs, check_study
from .data import data_commands
from .plan import Options, StudyPlan
from .records import Records
from .reopen import Call, keep_call
from .results.publish import command_line, publish
from .results.table import Table
from .results.write import write_everything
from .runner import Runner, own_runs, wanted_runs
from .shards import begin_shard, check_shards, end_shard
from .spec import TEACHER, override, read_study
from .survey import FAILED, Outcome, summary, survey


def main(root: Path, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Run, show or publish a study. ``root`` is the checkout."""
    args = parse_arguments(arguments, prog)
    on_gpu = uses_gpus(args)
    workers = args.workers
    if workers is None:
        workers = 4 if on_gpu else 0
    spec = override(read_study(args.study), epochs=args.epochs, seeds=args.seeds)
    plan = StudyPlan(spec, root, Options(args.device, workers))
    known = [*spec.rows, TEACHER]
    for row in args.only:
        if row not in known:
            raise ConfigError(f"--only {row}: the study has no such row{nearest(row, known)}")
    Records(plan).refuse_foreign_results()
    if args.list:
        print(list_runs(plan, args.only))
    elif args.dry_run:
        print(list_commands(plan, args.only))
    elif args.check:
        check_study(plan, log)
        print(f"{args.study}: every row can be trained")
    else:
        keep_call(_call(plan, args, on_gpu), plan.folder)
        run_or_show(plan, args, on_gpu)


def run_or_show(plan: StudyPlan, args: argparse.Namespace, on_gpu: bool) -> None:
    """What writes into the study's folder: its trainings, its tables, its published page."""
    if args.table:
        show(plan, on_gpu, engine_for(args, on_gpu))
    elif args.merge_shards:
        print(check_shards(plan, args.only))
        show(plan, on_gpu, engine_for(args, on_gpu))
    elif args.publish is not None:
        print(publish(plan, show(plan, on_gpu, engine_for(args, on_gpu)), Path(args.publish)))
    else:
        work(plan, args, on_gpu)


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare students and recipes on the same data over several seeds.",
    )
    _add_what_to_train(parser)
    _add_what_instead(parser)
    add_engine_arguments(parser, jobs=True)
    add_shard_argument(parser, "runs; each shard also works on what its runs need")
    parser.add_argument(
        "--merge_shards",
        action="store_true",
        help="check that all shards have ended, and each run was in one of them, then write and "
        "print the table",
    )
    return parser.parse_args(arguments)


def _add_what_to_train(parser: argparse.ArgumentParser) -> None:
    """The study, which part of it, and how its trainings run."""
    add = parser.add_argument
    add("study", help="yaml of the study, e.g. cfgs/study/small_pair.yaml")
    add(
        "--jobs",
        type=int,
        default=None,
        help="number of trainings at the same time on this machine (default: 1); each has "
        "OMP_NUM_THREADS threads, one if that is not set",
    )
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="ROW",
        help="only these rows, and the runs that they need",
    )
    add(
        "--epochs",
        type=int,
        default=None,
        help="epochs of every row and of the teacher, for a quick run in a folder of its own",
    )
    add(
        "--seeds",
        nargs="+",
        type=int,
        default=None,
        metavar="SEED",
        help="seeds of every row, for a quick run in a folder of its own",
    )
    add("--device", default=None, help="cpu, cuda or cuda:N (default: cuda if there is one)")
    add(
        "--workers",
        type=int,
        default=None,
        help="data loading processes of each training (default: 0 on a CPU, 4 on a GPU)",
    )
    add("--retry_failed", action="store_true", help="also repeat runs that failed before")


def _add_what_instead(parser: argparse.ArgumentParser) -> None:
    """What is done instead of the trainings."""
    add = parser.add_argument
    add("--list", action="store_true", help="print every run and its state, and stop")
    add("--dry_run", action="store_true", help="print the commands of unfinished runs, and stop")
    add(
        "--check",
        action="store_true",
        help="build every row, compute the loss of two frames, and stop; on a handful of simulated "
        "frames while the data of the study are missing",
    )
    add("--table", action="store_true", help="write and print the table of finished runs, and stop")
    add(
        "--publish",
        metavar="DIR",
        default=None,
        help="write page, plot and results.csv to DIR/<study>, e.g. docs/study",
    )


def uses_gpus(args: argparse.Namespace) -> bool:
    """Whether the trainings run on GPUs; those of Ray may be on other machines."""
    if args.device is not None:
        return bool(args.device != "cpu")
    if args.gpus_per_run is not None:
        return bool(args.gpus_per_run > 0)
    return torch.cuda.is_available()


def _call(plan: StudyPlan, args: argparse.Namespace, on_gpu: bool) -> Call:
    """What the command line said, as the study's folder keeps it."""
    file = os.path.relpath(plan.spec.file, plan.root)
    options = plan.options
    return Call(file, args.epochs, args.seeds, options.device, options.workers, on_gpu)


def engine_for(args: argparse.Namespace, on_gpu: bool) -> Engine:
    """Where the trainings run."""
    if args.jobs is not None and args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: expected 1 or more")
    if args.jobs is not None and args.engine != LOCAL:
        raise ConfigError("--jobs: only for --engine local; a cluster starts what it has room for")
    local = LocalEngine(jobs=args.jobs or 1)
    return engine_of(args, local, gpus=1.0 if on_gpu else 0.0)


def log(text: str) -> None:
    """Print a progress line at once, even into a pipe."""
    print(text, flush=True)


def work(plan: StudyPlan, args: argparse.Namespace, on_gpu: bool) -> None:
    """Run what is missing, then show the table; a UserError at the end when a run failed."""
    engine = engine_for(args, on_gpu)
    torch.set_num_threads(1)
    if args.shard is not None:
        begin_shard(plan, args.shard)
    runner = Runner(
        plan,
        engine=engine,
        only=args.only,
        shard=args.shard,
        on_gpu=on_gpu,
        say=log,
        check=lambda runs: check_runs(plan, runs, log),
    )
    if args.retry_failed:
        for run in plan.runs():
            runner.records.forget_failure(run)
    try:
        outcomes = runner.run()
    except KeyboardInterrupt:
        raise UserError("interrupted; run the same command again to resume") from None
    print(summary(outcomes))
    if args.shard is not None:
        owned = own_runs(plan, args.only, args.shard)
        end_shard(plan, args.shard, [outcomes[run.name] for run in owned])
        print(f"shard {args.shard} has ended; when all have, --merge_shards writes the table")
    else:
        show(plan, on_gpu, engine)
    failed = [name for name, outcome in outcomes.items() if outcome.status == FAILED]
    if failed:
        raise UserError(
            f"failed: {', '.join(failed)}; their reasons are in the table, their output in "
            f"{runner.records.folder / 'logs'}; --retry_failed tries them again"
        )


def list_runs(plan: StudyPlan, only: Sequence[str]) -> str:
    """One line for each run: name, epochs, state."""
    outcomes = _wanted_outcomes(plan, only)
    width = max(len(name) for name in outcomes)
    lines = []
    for name, outcome in outcomes.items():
        reason = f": {outcome.reason}" if outcome.reason else ""
        epochs = f"{outcome.run.epochs or '?':>3} epochs"
        if not outcome.run.is_trained:
            epochs = "not trained"
        lines.append(f"{name.ljust(width)}  {epochs}  {outcome.status}{reason}")
    return "\n".join([*lines, summary(outcomes)])


def list_commands(plan: StudyPlan, only: Sequence[str]) -> str:
    """The commands still to run, in their order."""
    lines = [command_line(words) for words in data_commands(plan)]
    for name, outcome in _wanted_outcomes(plan, only).items():
        if not outcome.run.has_commands:
            lines.append(f"# {name}: {outcome.reason}")
            continue
        for command in plan.commands(outcome.run):
            if not (plan.root / command.result).exists():
                lines.append(command_line(command.words))
    return "\n".join(lines) or "nothing to do"


def _wanted_outcomes(plan: StudyPlan, only: Sequence[str]) -> dict[str, Outcome]:
    wanted = wanted_runs(plan, only)
    outcomes = survey(plan, Records(plan))
    return {name: outcome for name, outcome in outcomes.items() if name in wanted}


def show(plan: StudyPlan, on_gpu: bool, engine: Engine) -> list[Table]:
    """Write tables and plot into the study's folder, and print the table of the last split."""
    return list(write_everything(plan, on_gpu=on_gpu, engine=engine).tables)
