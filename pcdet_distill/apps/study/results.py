"""What is known of every run, from the files it left: finished with numbers, failed with a reason, or still to do."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...engine.logging.cost import Cost, read_cost
from ...errors import ConfigError, DataError
from ...report import read_ap
from .claims import Claims, exclusive
from .plan import Run, StudyPlan, differences
from .spec import TEACHER, RowSpec

FINISHED, FAILED, BLOCKED, RUNNING, WAITING, READY = (
    "finished",
    "failed",
    "blocked",
    "running",
    "waiting",
    "ready",
)
Ap = Mapping[str, Mapping[str, float]]  # AP by metric and class


@dataclass(frozen=True)
class Outcome:
    """One run as far as it is known."""

    run: Run
    status: str
    reason: str = ""  # why it failed, or what it waits for
    ap: Mapping[str, Ap] = field(default_factory=dict)  # by split
    cost: Cost | None = None


class Records:
    """The study's own folder: claims, failures, what each run was made from, epochs of equal compute."""

    def __init__(self, plan: StudyPlan) -> None:
        self.plan, self.folder = plan, plan.folder
        self.claims = Claims(self.folder / "claims")
        self.shared_claims = Claims(
            self.folder.parent / ".teachers"
        )  # of what studies share: data, teachers

    def claim(self, run: Run) -> bool:
        """Take a run for this process; False when another process is at it."""
        return self._claims_of(run).take(self._claim_name(run))

    def release(self, run: Run) -> None:
        """Give a run back."""
        self._claims_of(run).release(self._claim_name(run))

    def claimed(self) -> dict[str, dict[str, Any]]:
        """Everything that a living process is at."""
        return {**self.claims.alive(), **self.shared_claims.alive()}

    def is_claimed(self, run: Run, claimed: Mapping[str, Any]) -> bool:
        """Whether a run is among ``claimed()``."""
        return self._claim_name(run) in claimed

    def _claims_of(self, run: Run) -> Claims:
        return self.shared_claims if run.row.name == TEACHER else self.claims

    def _claim_name(self, run: Run) -> str:
        return run.tag if run.row.name == TEACHER else run.name

    def log(self, run: Run) -> Path:
        """What a run says."""
        return self.folder / "logs" / f"{run.name}.log"

    def own_the_folder(self) -> None:
        """Refuse a folder that another study has: results of the two would mix."""
        with exclusive(self.folder):
            if not self._owner.exists():
                write_json(self._owner, self._identity())
        self.refuse_strangers()

    def refuse_strangers(self) -> None:
        """Neither another study's folder nor runs that were begun from another configuration are this study's."""
        if self._owner.exists():
            wrong = differences(read_json(self._owner), self._identity())
            if wrong:
                raise ConfigError(
                    f"{self.folder}: belongs to another study ({'; '.join(wrong)}); give this one "
                    "another NAME, or delete that folder with its trainings"
                )
        for run in self.plan.runs():
            self._refuse_changes(run)

    @property
    def _owner(self) -> Path:
        return self.folder / "study.json"

    def _identity(self) -> dict[str, Any]:
        data = json.loads(json.dumps(asdict(self.plan.spec.data)))
        (data["frames"] or {}).pop("unlabelled", None)  # such frames may be added
        return {"file": os.path.relpath(self.plan.spec.file, self.plan.root), "data": data}

    def _refuse_changes(self, run: Run) -> None:
        """A run that was begun from another configuration must not be gone on with, nor shown as this one's."""
        path = self._record(run)
        if not path.exists():
            return
        wrong = differences(
            read_json(path)["identity"],
            json.loads(json.dumps(self.plan.identity(run.row, run.seed))),
        )
        if wrong:
            raise ConfigError(
                f"{self.plan.spec.file}: {run.name} was trained with another configuration "
                f"({'; '.join(wrong[:5])}); give the row another name, or delete {path} and "
                f"{self.plan.root / run.folder} to train it again"
            )

    def begin(self, run: Run) -> None:
        """Note what a run is made from."""
        write_json(
            self._record(run),
            {"identity": self.plan.identity(run.row, run.seed), "epochs": run.epochs},
        )

    def fail(self, run: Run, reason: str) -> None:
        """Note why a run failed."""
        write_json(self._failure(run), {"reason": reason})

    def forget_failure(self, run: Run) -> None:
        """Let it be tried again."""
        self._failure(run).unlink(missing_ok=True)

    def failure(self, run: Run) -> str | None:
        """Why a run failed; None when it did not."""
        path = self._failure(run)
        return str(read_json(path)["reason"]) if path.exists() else None

    def equal_epochs(self) -> dict[str, dict[str, Any]]:
        """The epochs of the rows of equal compute, as far as they are known, and where they come from."""
        path = self.folder / "equal_compute.json"
        return read_json(path) if path.exists() else {}

    def keep_equal_epochs(self, row: str, choice: Mapping[str, Any]) -> None:
        """Fix them for good: another process may already train with them."""
        with exclusive(self.folder):
            known = self.equal_epochs()
            if row not in known:
                write_json(self.folder / "equal_compute.json", {**known, row: dict(choice)})

    def _record(self, run: Run) -> Path:
        return self.folder / "runs" / f"{run.name}.json"

    def _failure(self, run: Run) -> Path:
        return self.folder / "failed" / f"{run.name}.json"


def survey(plan: StudyPlan, records: Records) -> dict[str, Outcome]:
    """Every run of the study, by name, and how it stands."""
    for row, choice in records.equal_epochs().items():
        plan.choose_epochs(row, int(choice["epochs"]))
    claimed = records.claimed()
    outcomes: dict[str, Outcome] = {}
    for run in _needed_first(plan):
        outcomes[run.name] = _outcome(plan, records, run, claimed, outcomes)
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


def _outcome(
    plan: StudyPlan,
    records: Records,
    run: Run,
    claimed: Mapping[str, Any],
    before: Mapping[str, Outcome],
) -> Outcome:
    if run.epochs is not None and all(path.exists() for path in plan.results(run).values()):
        return finished(plan, run)
    if records.is_claimed(run, claimed):
        return Outcome(run, RUNNING)
    reason = records.failure(run)
    if reason is not None:
        return Outcome(run, FAILED, reason)
    missing = [before[name] for name in run.needs if before[name].status != FINISHED]
    if run.epochs is None:  # costs are taken from the runs that finished
        return _without_epochs(run, [before[name] for name in run.needs])
    broken = [outcome for outcome in missing if outcome.status in (FAILED, BLOCKED)]
    teacher = [
        outcome
        for outcome in broken
        if not run.row.equal_compute_of or str(outcome.run.checkpoint) == run.teacher_ckpt
    ]
    if teacher:
        return Outcome(run, BLOCKED, f"{teacher[0].run.name} failed: {teacher[0].reason}")
    waiting = [outcome.run.name for outcome in missing if outcome not in broken]
    return (
        Outcome(run, WAITING, f"waits for {', '.join(waiting)}") if waiting else Outcome(run, READY)
    )


def _without_epochs(run: Run, needed: list[Outcome]) -> Outcome:
    """A row of equal compute whose epochs are not known: it waits, or nothing is left to measure."""
    open_runs = [
        outcome.run.name for outcome in needed if outcome.status not in (FINISHED, FAILED, BLOCKED)
    ]
    if open_runs:
        return Outcome(run, WAITING, f"waits for the cost of {', '.join(open_runs)}")
    rows = {outcome.run.row.name for outcome in needed}
    measured = {outcome.run.row.name for outcome in needed if outcome.status == FINISHED}
    if rows - measured:
        return Outcome(
            run,
            BLOCKED,
            f"no run of {', '.join(sorted(rows - measured))} finished, so there is no cost to "
            "match",
        )
    return Outcome(run, WAITING, "waits for its epochs to be computed")


def finished(plan: StudyPlan, run: Run) -> Outcome:
    """The numbers of a run that is done; numbers that are none are a failure."""
    try:
        ap = {
            split: read_ap(path, plan.configs[run.row.name].CLASS_NAMES)
            for split, path in plan.results(run).items()
        }
        cost = read_final_cost(plan.root / run.folder / "metrics.jsonl")
    except DataError as error:
        return Outcome(run, FAILED, str(error))
    if not all(
        math.isfinite(value)
        for split in ap.values()
        for values in split.values()
        for value in values.values()
    ):
        return Outcome(run, FAILED, "its evaluation gave numbers that are not finite", ap, cost)
    return Outcome(run, FINISHED, "", ap, cost)


def read_final_cost(metrics: Path) -> Cost | None:
    """What the whole training took; None when its metrics do not tell."""
    try:
        lines = [json.loads(line) for line in metrics.read_text().splitlines() if '"cost"' in line]
        return read_cost(metrics, lines[-1]["it"]) if lines else None
    except (OSError, ValueError, KeyError):
        return None


def mean_ap(ap: Ap, metric: str) -> float:
    """Mean over the classes."""
    return sum(ap[metric].values()) / len(ap[metric])


def seconds(cost: Cost, on_gpu: bool) -> float:
    """The cost that compute is compared by: seconds of the processor, or on the clock where a GPU does the work."""
    return cost.wall_s if on_gpu else cost.cpu_s


def choose_equal_epochs(
    plan: StudyPlan, row: RowSpec, outcomes: Mapping[str, Outcome], on_gpu: bool
) -> dict[str, Any] | None:
    """Epochs for a row so that it costs what the rows of EQUAL_COMPUTE_OF cost on average; None: not measured yet.

    Rounded up, so that it is not the row that is given less, unless a tenth of an epoch would do.
    """

    def costs(name: str) -> list[tuple[float, int]]:
        known = [outcomes[run.name] for run in plan.runs_of(name) if run.name in outcomes]
        return [
            (seconds(each.cost, on_gpu), int(each.run.epochs or 0))
            for each in known
            if each.status == FINISHED and each.cost is not None
        ]

    named = (str(row.like), *row.equal_compute_of)
    if any(
        outcomes[run.name].status not in (FINISHED, FAILED, BLOCKED)
        for name in named
        for run in plan.runs_of(name)
        if run.name in outcomes
    ) or not all(costs(name) for name in named):
        return None
    own = costs(str(row.like))
    per_epoch = sum(cost for cost, _ in own) / sum(epochs for _, epochs in own)
    target = sum(
        sum(cost for cost, _ in costs(name)) / len(costs(name)) for name in row.equal_compute_of
    )
    return {
        "epochs": max(1, math.ceil(target / per_epoch - 0.1)),
        "target_s": round(target, 1),
        "epoch_s": round(per_epoch, 2),
        "unit": "wall" if on_gpu else "cpu",
    }


def write_json(path: Path, content: Any) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(part, path)


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as a record of this study ({error}); delete it"
        ) from None
