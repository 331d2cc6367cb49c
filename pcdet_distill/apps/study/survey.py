"""The state of every run, from the files it left: finished with numbers, failed, or still to do."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...engine.logging.cost import Cost, read_cost
from ...errors import DataError
from ...report.comparison import read_ap
from .plan import Run, StudyPlan
from .records import Records

FINISHED = "finished"
FAILED = "failed"
BLOCKED = "blocked"  # a run that it needs failed
RUNNING = "running"
WAITING = "waiting"  # for runs that it needs
READY = "ready"
ENDED = (FINISHED, FAILED, BLOCKED)
Ap = Mapping[str, Mapping[str, float]]  # AP [metric][class], metric in {"bev", "3d"}


@dataclass(frozen=True)
class Outcome:
    """One run and its state."""

    run: Run
    status: str
    reason: str = ""  # why it failed, or what it waits for
    ap: Mapping[str, Ap] = field(default_factory=dict)  # by split
    cost: Cost | None = None  # None: not measured, or nothing was trained


def survey(plan: StudyPlan, records: Records) -> dict[str, Outcome]:
    """Every run of the study by name, with its state. Fixes the epochs of equal compute so far."""
    for row, choice in records.equal_epochs().items():
        plan.choose_epochs(row, choice["epochs"])
    outcomes: dict[str, Outcome] = {}
    for run in _needed_first(plan):
        outcomes[run.name] = _outcome(plan, records, run, outcomes)
    return outcomes


def _needed_first(plan: StudyPlan) -> list[Run]:
    """All runs, each after those it needs."""
    by_name = {run.name: run for run in plan.runs()}
    ordered: dict[str, Run] = {}

    def add(run: Run) -> None:
        for name in run.needs:
            if name in by_name and name not in ordered:
                add(by_name[name])
        ordered[run.name] = run

    for run in by_name.values():
        if run.name not in ordered:
            add(run)
    return list(ordered.values())


def _outcome(plan: StudyPlan, records: Records, run: Run, others: Mapping[str, Outcome]) -> Outcome:
    """The state of ``run``, given that of the runs it needs."""
    if run.has_commands and all(path.exists() for path in plan.results(run).values()):
        return finished(plan, run)
    if records.is_taken(run):
        return Outcome(run, RUNNING)
    reason = records.failure(run)
    if reason is not None:
        return Outcome(run, FAILED, reason)
    needed = [others[name] for name in run.needs]
    if not run.has_commands:
        return _without_epochs(run, needed)
    return _unstarted(run, needed)


def _unstarted(run: Run, needed: Sequence[Outcome]) -> Outcome:
    """A run that nobody has begun: ready, waiting for others, or blocked by a failed teacher."""
    waiting = []
    for other in needed:
        if other.status not in ENDED:
            waiting.append(other.run.name)
        elif other.status != FINISHED and _is_teacher(other.run, run):
            return Outcome(run, BLOCKED, f"{other.run.name} failed: {other.reason}")
    if waiting:
        return Outcome(run, WAITING, f"waits for {', '.join(waiting)}")
    return Outcome(run, READY)


def _is_teacher(other: Run, run: Run) -> bool:
    """Whether ``run`` cannot do without ``other``: equal compute only needs some measured run."""
    return not run.row.equal_compute_of or str(other.checkpoint) == run.teacher_ckpt


def _without_epochs(run: Run, needed: Sequence[Outcome]) -> Outcome:
    """A row of equal compute before its epochs are known: waiting, or nothing left to measure."""
    unfinished = [other.run.name for other in needed if other.status not in ENDED]
    if unfinished:
        return Outcome(run, WAITING, f"waits for the cost of {', '.join(unfinished)}")
    rows = {other.run.row.name for other in needed}
    measured = {other.run.row.name for other in needed if other.status == FINISHED}
    if rows - measured:
        unmeasured = ", ".join(sorted(rows - measured))
        return Outcome(
            run, BLOCKED, f"no run of {unmeasured} finished, so there is no cost to match"
        )
    return Outcome(run, WAITING, "waits for its epochs to be computed")


def finished(plan: StudyPlan, run: Run) -> Outcome:
    """The numbers of a run that is done. Numbers that are not finite count as a failure."""
    class_names = plan.configs[run.row.name].CLASS_NAMES
    ap: dict[str, Ap] = {}
    try:
        for split, path in plan.results(run).items():
            ap[split] = read_ap(path, class_names)
    except DataError as error:
        return Outcome(run, FAILED, str(error))
    cost = read_final_cost(plan.root / run.folder / "metrics.jsonl") if run.is_trained else None
    if not all(math.isfinite(number) for number in _numbers(ap)):
        return Outcome(run, FAILED, "its evaluation gave numbers that are not finite", ap, cost)
    return Outcome(run, FINISHED, "", ap, cost)


def _numbers(ap: Mapping[str, Ap]) -> list[float]:
    """Every AP of every split."""
    numbers: list[float] = []
    for metrics in ap.values():
        for by_class in metrics.values():
            numbers += by_class.values()
    return numbers


def read_final_cost(metrics: Path) -> Cost | None:
    """What the whole training took; None when its metrics.jsonl has no line about it."""
    try:
        lines = [json.loads(line) for line in metrics.read_text().splitlines() if '"cost"' in line]
        return read_cost(metrics, lines[-1]["it"]) if lines else None
    except (OSError, ValueError, KeyError):
        return None


def mean_ap(ap: Ap, metric: str) -> float:
    """Mean over the classes."""
    return sum(ap[metric].values()) / len(ap[metric])


def seconds(cost: Cost, on_gpu: bool) -> float:
    """The cost that is compared: CPU seconds, or wall-clock seconds where a GPU does the work."""
    return cost.wall_s if on_gpu else cost.cpu_s


def summary(outcomes: Mapping[str, Outcome]) -> str:
    """``12 finished, 1 failed, 3 waiting``."""
    parts = []
    for status in (FINISHED, RUNNING, READY, FAILED, BLOCKED, WAITING):
        count = sum(outcome.status == status for outcome in outcomes.values())
        if count:
            parts.append(f"{count} {status}")
    return ", ".join(parts) or "nothing to do"
