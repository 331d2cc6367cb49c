"""Run what is missing of a study: some trainings at a time, on an engine, beside other processes.

A kill loses nothing: a training resumes from its newest checkpoint, a finished one has its
metrics.json. A run that fails is recorded with its reason and does not stop the others.
"""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ...parallel import Ending, Engine, Job, LocalEngine, Started
from ...parallel.shards import Shard
from ...texts import duration_in_words
from .cost.costs import StepTimes, TimerFactory, measurable
from .cost.equal_compute import choose_by_steps, choose_equal_epochs
from .cost.step_times import StepTimer
from .data import data_commands, lock_name, run_data_commands
from .locks import same_version_only
from .plan import Command, Run, StudyPlan
from .records import EqualCompute, Records
from .spec import STEPS, RowSpec
from .survey import FAILED, FINISHED, READY, RUNNING, Outcome, survey

POLL_SECONDS = 0.5
OTHERS_POLL_SECONDS = 10.0
# In the message of tools/train.py when another training uses its output folder.
IN_USE = "another training is running in it"


@dataclass
class _Work:
    """A run that this process works on."""

    run: Run
    commands: list[Command]  # to run one after the other; the first one is running
    job: Started | None = None  # of the first command
    ending: Ending | None = None  # of that job
    begun_s: float = field(default_factory=time.monotonic)

    def is_running(self) -> bool:
        """Whether the first command has not ended yet."""
        if self.job is not None and self.ending is None:
            self.ending = self.job.poll()
        return self.job is not None and self.ending is None


class Runner:
    """Works on a study until nothing is left that it may do.

    Args:
        jobs: trainings at a time on this machine.
        only: rows to run, with what they need; all rows when empty.
        on_gpu: match equal compute by wall-clock instead of CPU seconds.
        check: called with the unfinished runs before the first of them starts; raises when one
            of them cannot work.
        say: receives progress lines.
        make_timer: measures the training steps of rows, for counted costs.
        engine: where the trainings run; on this machine by default.
        shard: the part of the runs that this process owns; it works on what they need too.
    """

    def __init__(
        self,
        plan: StudyPlan,
        *,
        jobs: int = 1,
        only: Sequence[str] = (),
        on_gpu: bool = False,
        check: Callable[[list[Run]], None] | None = None,
        say: Callable[[str], None] = print,
        make_timer: TimerFactory = StepTimer,
        engine: Engine | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.plan = plan
        self.engine = engine or LocalEngine(jobs=jobs)
        self.on_gpu = on_gpu
        self.check = check
        self.say = say
        self.records = Records(plan)
        self.step_times = StepTimes(plan, self.records, on_gpu, make_timer, self.engine)
        self.wanted = wanted_runs(plan, only, shard)
        self.active: list[_Work] = []

    def run(self) -> dict[str, Outcome]:
        """Run everything; returns the state of all runs at the end."""
        self.records.own_the_folder()
        with same_version_only(self.plan, self.records.locks.folder), sigterm_interrupts():
            try:
                self._make_data()
                if self.check is not None:
                    self.check(self._unfinished_runs())
                self._work()
            finally:
                self._stop()
                self.records.release_all()
        return survey(self.plan, self.records)

    def _unfinished_runs(self) -> list[Run]:
        outcomes = self._survey().values()
        return [each.run for each in outcomes if each.status not in (FINISHED, FAILED)]

    def _survey(self) -> dict[str, Outcome]:
        """The state of the wanted runs, after choosing epochs of equal compute where possible."""
        outcomes = survey(self.plan, self.records)
        wanted_rows = {
            each.run.row.name for each in outcomes.values() if each.run.name in self.wanted
        }
        for row in self.plan.spec.rows.values():
            if row.name not in wanted_rows:
                continue
            if row.equal_compute_of and self.plan.epochs(row) is None:
                choice = self._equal_epochs(row, outcomes)
                if choice is not None:
                    self.records.keep_equal_epochs(row.name, choice)
                    named = " + ".join(row.equal_compute_of)
                    self.say(f"{row.name}: {choice['epochs']} epochs cost as much as {named}")
                    outcomes = survey(self.plan, self.records)
        return {name: outcome for name, outcome in outcomes.items() if name in self.wanted}

    def _equal_epochs(self, row: RowSpec, outcomes: Mapping[str, Outcome]) -> EqualCompute | None:
        """The epochs of a row of equal compute; None while runs that it needs are missing."""
        if self.plan.spec.cost != STEPS:
            return choose_equal_epochs(self.plan, row, outcomes, self.on_gpu)
        names = [str(row.like), *row.equal_compute_of]
        rows = [self.plan.spec.row(name) for name in names]
        known = measurable(self.plan, outcomes)
        if not all(each in known for each in rows):
            return None
        while not self.step_times.measure(rows, self.say):
            time.sleep(OTHERS_POLL_SECONDS)
        return choose_by_steps(self.plan, row, self.step_times)

    def _make_data(self) -> None:
        """Simulate missing data, or wait for the process, of any study, that does."""
        locks = self.records.shared_locks
        name = lock_name(self.plan)
        announced = False
        while data_commands(self.plan):
            if locks.take(name):
                run_data_commands(data_commands(self.plan), self.plan.root, self.say)
                locks.release(name)
                return
            if not announced:
                self.say("waiting for another process to make the data")
                announced = True
            time.sleep(OTHERS_POLL_SECONDS)

    def _work(self) -> None:
        """Start, watch and finish runs until nothing is left to start."""
        announced = False
        while True:
            self._collect()
            outcomes = self._survey()
            started = self._start(outcomes)
            if self.active and not started:
                self._wait()
            elif not self.active:
                # A run that could be started was locked a moment ago.
                others = [
                    name for name, each in outcomes.items() if each.status in (RUNNING, READY)
                ]
                if not others:
                    return
                if not announced:
                    self.say(f"waiting for {', '.join(others)}, which another process runs")
                    announced = True
                time.sleep(OTHERS_POLL_SECONDS)

    def _start(self, outcomes: Mapping[str, Outcome]) -> bool:
        """Start ready runs while the engine has room; returns whether any was started."""
        before = len(self.active)
        for outcome in outcomes.values():
            if not self._has_room():
                break
            if outcome.status == READY and self.records.take(outcome.run):
                self._begin(outcome.run)
        return len(self.active) > before

    def _has_room(self) -> bool:
        return self.engine.jobs is None or len(self.active) < self.engine.jobs

    def _begin(self, run: Run) -> None:
        """Start the first command of a run whose result is missing."""
        self.records.begin(run)
        commands = []
        for command in self.plan.commands(run):
            if not (self.plan.root / command.result).exists():
                commands.append(command)
        work = _Work(run, commands)
        self.active.append(work)
        self._start_next(work)

    def _start_next(self, work: _Work) -> None:
        """Start the next command of a run, or end the run when there is none."""
        if not work.commands:
            self._end(work)
            return
        words = work.commands[0].words
        log = self.records.log(work.run)
        self.say(f"{work.run.name}: $ python {shlex.join(words)}")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ python {shlex.join(words)}\n")
        work.ending = None
        work.job = self.engine.start(Job(words, self.plan.root, log))

    def _wait(self) -> None:
        """Wait until a command ends; not for long while more runs could be started."""
        end = time.monotonic() + OTHERS_POLL_SECONDS if self._has_room() else math.inf
        while all(work.is_running() for work in self.active):
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)

    def _collect(self) -> None:
        """Go on with the runs whose command has ended."""
        for work in list(self.active):
            if not work.is_running() and work.ending is not None:
                self._finish_command(work, work.ending)

    def _finish_command(self, work: _Work, ending: Ending) -> None:
        command = work.commands.pop(0)
        if ending.code == 0 and (self.plan.root / command.result).exists():
            self._start_next(work)
            return
        log = self.records.log(work.run)
        reason = ending.reason or failure_reason(log, ending.code, command.words[0])
        if IN_USE in reason:
            # A training killed a moment ago, or one started by hand: try again later.
            self.say(f"{work.run.name}: {reason}")
            time.sleep(OTHERS_POLL_SECONDS)
            self._drop(work)
        else:
            self._end(work, reason)

    def _end(self, work: _Work, reason: str | None = None) -> None:
        """Record how a run ended, and release it."""
        ending = "finished"
        if reason is not None:
            reason = reason.replace(f"{self.plan.root}/", "")
            self.records.fail(work.run, reason)
            ending = f"FAILED: {reason}"
        took = duration_in_words(time.monotonic() - work.begun_s)
        self.say(f"{work.run.name}: {ending} after {took}")
        self._drop(work)

    def _drop(self, work: _Work) -> None:
        self.active.remove(work)
        self.records.release(work.run)

    def _stop(self) -> None:
        """End what is still running; the next start of the study resumes it."""
        for work in list(self.active):
            if work.job is not None:
                work.job.stop()
            self._drop(work)


def own_runs(plan: StudyPlan, only: Sequence[str] = (), shard: Shard | None = None) -> list[Run]:
    """The runs of the rows ``only``, all when it is empty, that belong to a shard."""
    runs = [run for run in plan.runs() if not only or run.row.name in only]
    return runs if shard is None else shard.of(runs)


def wanted_runs(plan: StudyPlan, only: Sequence[str] = (), shard: Shard | None = None) -> set[str]:
    """The names of ``own_runs`` and of all they need."""
    by_name = {run.name: run for run in plan.runs()}
    unvisited = own_runs(plan, only, shard)
    wanted: set[str] = set()
    while unvisited:
        run = unvisited.pop()
        if run.name not in wanted:
            wanted.add(run.name)
            unvisited += [by_name[name] for name in run.needs if name in by_name]
    return wanted


def failure_reason(log: Path, code: int, tool: str) -> str:
    """One sentence from the last lines of a failed command.

    Args:
        log: the log of the run; its last ``$ python`` line begins the output of the command.
        code: exit code of the command, negative for a signal.
        tool: the command's script.
    """
    if code < 0:
        return f"{tool} was killed by {signal.Signals(-code).name}"
    lines = _last_output(log)
    errors = [line for line in lines if line.startswith("error: ") or ": error: " in line]
    if errors:
        return errors[-1].split("error: ", 1)[1]
    last = lines[-1] if lines else "it printed nothing"
    if code:
        return f"{tool} ended with {code}: {last}"
    return f"{tool} ended without writing its result: {last}"


def _last_output(log: Path) -> list[str]:
    """The non-empty lines that the last command in a log printed."""
    output: list[str] = []
    for line in log.read_text(errors="replace").splitlines():
        if line.strip().startswith("$ python "):
            output = []
        elif line.strip():
            output.append(line.strip())
    return output


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Make SIGTERM end the study like Ctrl-C, so that its jobs are stopped and released."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
