"""What the training of a row costs, in seconds that can be compared between rows.

COST: steps (the default) counts: the step time of each row, measured in turns (``step_times.py``),
times its steps, plus what comes before the first step. COST: seconds takes the measured seconds of
whole trainings, which have noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ....parallel import Engine, LocalEngine
from ..plan import StudyPlan
from ..records import Records, read_json, write_json
from ..spec import TEACHER, RowSpec
from ..survey import FINISHED, Outcome, seconds
from .step_times import StepTime, StepTimer

LOCK = "step-times"
TimerFactory = Callable[[StudyPlan, str], StepTimer]


def measured_costs(
    plan: StudyPlan, outcomes: Mapping[str, Outcome], on_gpu: bool
) -> dict[str, float]:
    """Mean measured seconds of each row's finished runs."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes.values():
        if outcome.status == FINISHED and outcome.cost is not None:
            row_seconds = found.setdefault(outcome.run.row.name, [])
            row_seconds.append(seconds(outcome.cost, on_gpu))
    return {name: statistics.fmean(values) for name, values in found.items()}


class StepTimes:
    """The step times of a study's rows, kept in ``step_times_<device>.json``.

    Args:
        on_gpu: which of the files; ratios of a CPU say nothing about a GPU.
        make_timer: builds what measures, with the reference row.
        engine: where it is measured; on this machine by default.
    """

    def __init__(
        self,
        plan: StudyPlan,
        records: Records,
        on_gpu: bool,
        make_timer: TimerFactory = StepTimer,
        engine: Engine | None = None,
    ) -> None:
        self.plan = plan
        self.records = records
        self.on_gpu = on_gpu
        self.make_timer = make_timer
        self.engine = engine or LocalEngine()
        self.path = records.folder / f"step_times_{'gpu' if on_gpu else 'cpu'}.json"

    def known(self) -> dict[str, StepTime]:
        """The rows measured so far, by name."""
        return read_json(self.path) if self.path.exists() else {}

    def counted(self, row: RowSpec) -> float | None:
        """Seconds of a whole training; None while its epochs or its step time are not known."""
        epochs = self.plan.epochs(row)
        time = self.known().get(self.measured_as(row))
        if epochs is None or time is None:
            return None
        return time["once_s"] + epochs * time["steps"] * time["step_s"]

    def epoch_s(self, row: RowSpec) -> float | None:
        """Seconds of an epoch; None before it is measured."""
        time = self.known().get(self.measured_as(row))
        return None if time is None else time["steps"] * time["step_s"]

    def once_s(self, row: RowSpec) -> float | None:
        """Seconds before the first step; None before they are measured."""
        time = self.known().get(self.measured_as(row))
        return None if time is None else time["once_s"]

    def all_counted(self) -> dict[str, float]:
        """Seconds of every row that can be counted, by name."""
        costs = {row.name: self.counted(row) for row in self.plan.spec.all_rows()}
        return {name: cost for name, cost in costs.items() if cost is not None}

    @property
    def reference(self) -> str:
        """The row that all others take turns with: the first one without a teacher, if any."""
        rows = [row for row in self.plan.spec.rows.values() if row.checkpoint is None]
        plain = [row.name for row in rows if not self.plan.distils(row)]
        if plain:
            return plain[0]
        return rows[0].name if rows else TEACHER

    def measured_as(self, row: RowSpec) -> str:
        """The first row that trains the same: rows that differ in epochs share a step time."""
        for other in self.plan.spec.rows.values():
            if row.name != TEACHER and self.plan.same_training(row, other):
                return other.name
        return row.name

    def measure(self, rows: Sequence[RowSpec], say: Callable[[str], None]) -> bool:
        """Measure those of ``rows`` that are not known yet; False when another process does."""
        names = dict.fromkeys(self.measured_as(row) for row in rows if row.checkpoint is None)
        if not names.keys() - self.known().keys():
            return True
        if not self.records.locks.take(LOCK):
            return False
        missing = [name for name in names if name not in self.known()]
        try:
            say(f"measuring the training steps of {', '.join(missing)}")
            task = partial(measure_steps, self.plan, self.on_gpu, self.make_timer, missing)
            self.engine.call(task)
        finally:
            self.records.locks.release(LOCK)
        return True

    def measure_here(self, names: Sequence[str]) -> None:
        """Measure rows in this process, and keep each as soon as it is known."""
        reference = self.reference
        timer = self.make_timer(self.plan, reference)
        if reference not in self.known():
            self._keep(reference, timer.measure_reference())
        reference_s = self.known()[reference]["step_s"]
        for name in names:
            if name != reference:
                self._keep(name, timer.measure(name, reference_s))

    def _keep(self, name: str, time: StepTime) -> None:
        write_json(self.path, {**self.known(), name: time})


def measure_steps(
    plan: StudyPlan, on_gpu: bool, make_timer: TimerFactory, names: Sequence[str]
) -> None:
    """Measure rows on the machine that an engine has chosen; the file is on the shared disk."""
    StepTimes(plan, Records(plan), on_gpu, make_timer).measure_here(names)


def measurable(plan: StudyPlan, outcomes: Mapping[str, Outcome]) -> list[RowSpec]:
    """The rows whose step can be measured: those whose teacher, if any, is trained."""
    found = []
    for row in plan.spec.all_rows():
        teachers = [outcomes[name] for name in plan.teacher_runs(row)]
        if all(outcome.status == FINISHED for outcome in teachers):
            found.append(row)
    return found
