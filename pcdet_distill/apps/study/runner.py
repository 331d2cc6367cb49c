"""Run what is missing of a study: a few trainings at a time, shared with other processes.

A kill loses nothing: a training resumes from its newest checkpoint, a finished one has its
metrics.json. A run that fails is recorded with its reason and does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from ...config import to_plain
from ...errors import ConfigError
from ...processes import die_with_parent
from ..quickstart.run import duration
from .claims import Claims
from .costs import StepTimes, TimerFactory, measurable
from .data import claim_name, data_commands, run_data_commands
from .equal_compute import choose_by_steps, choose_equal_epochs
from .plan import Command, Run, StudyPlan
from .records import EqualCompute, Records
from .spec import STEPS, RowSpec
from .step_times import StepTimer
from .survey import FAILED, FINISHED, READY, RUNNING, Outcome, survey

POLL_SECONDS = 0.5
OTHERS_POLL_SECONDS = 10.0
TERMINATE_SECONDS = 10.0
# In the message of tools/train.py when another training uses its output folder.
IN_USE = "another training is running in it"


@dataclass
class _Job:
    """A run that this process works on."""

    run: Run
    commands: list[Command]  # to run one after the other; the first one is running
    log: IO[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = field(default_factory=time.monotonic)


class Runner:
    """Works on a study until nothing is left that it may do.

    Args:
        jobs: trainings at a time.
        only: rows to run, with what they need; all rows when empty.
        on_gpu: match equal compute by wall-clock instead of CPU seconds.
        check: called with the unfinished runs before the first of them starts; raises when one
            of them cannot work.
        say: receives progress lines.
        make_timer: measures the training steps of rows, for counted costs.
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
    ) -> None:
        self.plan = plan
        self.jobs = jobs
        self.on_gpu = on_gpu
        self.check = check
        self.say = say
        self.records = Records(plan)
        self.step_times = StepTimes(plan, self.records, on_gpu, make_timer)
        self.wanted = wanted_runs(plan, only)
        self.active: list[_Job] = []

    def run(self) -> dict[str, Outcome]:
        """Run everything; returns the state of all runs at the end."""
        self.records.own_the_folder()
        with (
            same_version_only(self.plan, self.records.claims),
            self.records.shared_claims.kept_alive(),
            sigterm_interrupts(),
        ):
            try:
                self._make_data()
                if self.check is not None:
                    self.check(self._unfinished_runs())
                self._work()
            finally:
                self._stop()
        return survey(self.plan, self.records)

    def _unfinished_runs(self) -> list[Run]:
        outcomes = self._survey().values()
        return [each.run for each in outcomes if each.status not in (FINISHED, FAILED)]

    def _survey(self) -> dict[str, Outcome]:
        """The state of the wanted runs, after choosing epochs of equal compute where possible."""
        outcomes = survey(self.plan, self.records)
        for row in self.plan.spec.rows.values():
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
        claims = self.records.shared_claims
        name = claim_name(self.plan)
        announced = False
        while data_commands(self.plan):
            if claims.take(name):
                run_data_commands(data_commands(self.plan), self.plan.root, self.say)
                claims.release(name)
                return
            if not announced:
                self.say("waiting for another process to make the data")
                announced = True
            time.sleep(OTHERS_POLL_SECONDS)

    def _work(self) -> None:
        """Start, watch and finish jobs until nothing is left to start."""
        announced = False
        while True:
            self._collect()
            outcomes = self._survey()
            started = self._start(outcomes)
            if self.active and not started:
                self._wait()
            elif not self.active:
                others = [name for name, each in outcomes.items() if each.status == RUNNING]
                if not others:
                    return
                if not announced:
                    self.say(f"waiting for {', '.join(others)}, which another process runs")
                    announced = True
                time.sleep(OTHERS_POLL_SECONDS)

    def _start(self, outcomes: Mapping[str, Outcome]) -> bool:
        """Start ready runs up to ``jobs``; returns whether any was started."""
        before = len(self.active)
        for outcome in outcomes.values():
            if len(self.active) >= self.jobs:
                break
            if outcome.status == READY and self.records.claim(outcome.run):
                self._begin(outcome.run)
        return len(self.active) > before

    def _begin(self, run: Run) -> None:
        """Start the first command of a run whose result is missing."""
        self.records.begin(run)
        log = self.records.log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        commands = []
        for command in self.plan.commands(run):
            if not (self.plan.root / command.result).exists():
                commands.append(command)
        job = _Job(run, commands, log.open("a"))
        self.active.append(job)
        self._start_next(job)

    def _start_next(self, job: _Job) -> None:
        """Start the next command of a job, or end the job when there is none."""
        if not job.commands:
            self._end(job)
            return
        words = job.commands[0].words
        self.say(f"{job.run.name}: $ python {shlex.join(words)}")
        job.log.write(f"$ python {shlex.join(words)}\n")
        job.log.flush()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.setdefault("OMP_NUM_THREADS", "1")
        job.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.plan.root,
            env=environment,
            stdout=job.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    def _wait(self) -> None:
        """Wait until a command ends; not for long while more jobs could be started."""
        has_room = len(self.active) < self.jobs
        end = time.monotonic() + OTHERS_POLL_SECONDS if has_room else math.inf
        while all(_is_running(job) for job in self.active):
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)

    def _collect(self) -> None:
        """Go on with the jobs whose command has ended."""
        for job in list(self.active):
            if not _is_running(job):
                self._finish_command(job)

    def _finish_command(self, job: _Job) -> None:
        command = job.commands.pop(0)
        code = 0 if job.process is None else job.process.returncode
        if code == 0 and (self.plan.root / command.result).exists():
            self._start_next(job)
            return
        reason = failure_reason(self.records.log(job.run), code, command.words[0])
        if IN_USE in reason:
            # A training killed a moment ago, or one started by hand: try again later.
            self.say(f"{job.run.name}: {reason}")
            time.sleep(OTHERS_POLL_SECONDS)
            self._drop(job)
        else:
            self._end(job, reason)

    def _end(self, job: _Job, reason: str | None = None) -> None:
        """Record how a run ended, and release it."""
        ending = "finished"
        if reason is not None:
            reason = reason.replace(f"{self.plan.root}/", "")
            self.records.fail(job.run, reason)
            ending = f"FAILED: {reason}"
        self.say(f"{job.run.name}: {ending} after {duration(time.monotonic() - job.started)}")
        self._drop(job)

    def _drop(self, job: _Job) -> None:
        job.log.close()
        self.active.remove(job)
        self.records.release(job.run)

    def _stop(self) -> None:
        """End what is still running; the next start of the study resumes it."""
        for job in list(self.active):
            if job.process is not None and job.process.poll() is None:
                job.process.terminate()
                try:
                    job.process.wait(timeout=TERMINATE_SECONDS)
                except subprocess.TimeoutExpired:
                    job.process.kill()
                    job.process.wait()
            self._drop(job)


def _is_running(job: _Job) -> bool:
    return job.process is not None and job.process.poll() is None


def wanted_runs(plan: StudyPlan, only: Sequence[str]) -> set[str]:
    """The names of the runs of the rows ``only`` with all they need; every run when it is empty."""
    by_name = {run.name: run for run in plan.runs()}
    unvisited = [run for run in by_name.values() if not only or run.row.name in only]
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
def same_version_only(plan: StudyPlan, claims: Claims) -> Iterator[None]:
    """Let other processes work on the very same study; refuse to join one with another yaml."""
    version = _fingerprint(plan)
    for name, owner in claims.held().items():
        if name.startswith("worker-") and owner.get("study") != version:
            raise ConfigError(
                f"{plan.folder}: process {owner.get('pid')} on {owner.get('host')} works there on "
                "another version of this study; wait for its end, or give this one another NAME"
            )
    with claims.kept_alive():
        claims.take(f"worker-{socket.gethostname()}-{os.getpid()}", {"study": version})
        yield


def _fingerprint(plan: StudyPlan) -> str:
    """A short hash of everything that a study's yaml decides."""
    spec = {
        "rows": {name: to_plain(config) for name, config in plan.configs.items()},
        "study": repr((plan.spec.rows, plan.spec.data, plan.spec.evaluate, plan.spec.cost)),
    }
    text = json.dumps(spec, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
