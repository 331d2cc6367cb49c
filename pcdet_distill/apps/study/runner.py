"""Run what is missing of a study: a few trainings at a time, shared with whoever else works on the same study.

Nothing is lost by a kill: a training resumes from its newest checkpoint, a finished one has its metrics.json. A run
that fails is noted with its reason and does not stop the others.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...config import to_plain
from ...errors import ConfigError, UserError
from ...processes import die_with_parent
from ..quickstart.run import duration
from .claims import Claims
from .data import claim_name, data_commands
from .plan import Run, StudyPlan
from .results import (
    BLOCKED,
    FAILED,
    FINISHED,
    READY,
    RUNNING,
    Outcome,
    Records,
    choose_equal_epochs,
    survey,
)

POLL_SECONDS = 0.5
OTHERS_POLL_SECONDS = 10.0
IN_USE = "another training is running in it"  # what tools/train.py says of an output folder that is taken
Say = Callable[[str], None]


@dataclass
class _Job:
    """A run at work in this process: its commands, one after the other."""

    run: Run
    commands: list[tuple[list[str], Path]]
    log: IO[str]
    process: subprocess.Popen | None = None
    started: float = field(default_factory=time.monotonic)


class Runner:
    """Works on a study until nothing that it may do is left.

    Args:
        only: rows to run, with what they need; all when empty.
        check: called once with the runs to come, before the first of them; raises when one cannot work.
    """

    def __init__(
        self,
        plan: StudyPlan,
        *,
        jobs: int = 1,
        only: Sequence[str] = (),
        on_gpu: bool = False,
        check: Callable[[list[Run]], None] | None = None,
        say: Say = print,
    ) -> None:
        self.plan, self.jobs, self.on_gpu, self.check, self.say = plan, jobs, on_gpu, check, say
        self.records = Records(plan)
        self.wanted = wanted_runs(plan, only)
        self.active: list[_Job] = []

    def run(self) -> dict[str, Outcome]:
        """Everything; gives how all runs stand at the end."""
        self.records.own_the_folder()
        with (
            one_study_at_a_time(self.plan, self.records.claims),
            self.records.shared_claims.holding(),
            terminated_is_interrupted(),
        ):
            try:
                self._make_data()
                if self.check is not None:
                    self.check(
                        [
                            each.run
                            for each in self._survey().values()
                            if each.status not in (FINISHED, FAILED)
                        ]
                    )
                self._work()
            finally:
                self._stop()
        return survey(self.plan, self.records)

    def _survey(self) -> dict[str, Outcome]:
        """How the wanted runs stand, after fixing the epochs of equal compute that can be known by now."""
        outcomes = survey(self.plan, self.records)
        for row in self.plan.spec.rows.values():
            if row.equal_compute_of and self.plan.epochs(row) is None:
                choice = choose_equal_epochs(self.plan, row, outcomes, self.on_gpu)
                if choice is not None:
                    self.records.keep_equal_epochs(row.name, choice)
                    self.say(
                        f"{row.name}: {choice['epochs']} epochs cost what {' + '.join(row.equal_compute_of)} does"
                    )
                    outcomes = survey(self.plan, self.records)
        return {name: outcome for name, outcome in outcomes.items() if name in self.wanted}

    def _make_data(self) -> None:
        """Simulate what is missing, or wait for the process that does: of this study, or of one with the same data."""
        said, claims, name = False, self.records.shared_claims, claim_name(self.plan)
        while data_commands(self.plan):
            if not claims.take(name):
                if not said:
                    self.say("waiting for another process to make the data")
                said = True
                time.sleep(OTHERS_POLL_SECONDS)
                continue
            for command in data_commands(self.plan):
                self.say("$ python " + shlex.join(command))
                if subprocess.run([sys.executable, *command], cwd=self.plan.root).returncode:
                    raise UserError("the data could not be made, the message is above")
            claims.release(name)

    def _work(self) -> None:
        """Start, watch and finish jobs until nothing is left to start."""
        said = False
        while True:
            self._collect()
            outcomes = self._survey()
            started = self._start(outcomes)
            if not self.active and not started:
                others = [name for name, outcome in outcomes.items() if outcome.status == RUNNING]
                if not others:
                    return
                if not said:
                    self.say(f"waiting for {', '.join(others)}, which another process runs")
                said = True
                time.sleep(OTHERS_POLL_SECONDS)
            elif not started:
                self._wait()

    def _start(self, outcomes: dict[str, Outcome]) -> bool:
        """Start what is ready as far as there is room; whether anything was."""
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
        path = self.records.log(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        commands = [
            (command, result)
            for command, result in self.plan.commands(run)
            if not (self.plan.root / result).exists()
        ]
        job = _Job(run, commands, path.open("a"))
        self.active.append(job)
        self._next(job)

    def _next(self, job: _Job) -> None:
        """Start the next command of a job, or end the job when there is none."""
        if not job.commands:
            self._end(job)
            return
        command = job.commands[0][0]
        self.say(f"{job.run.name}: $ python {shlex.join(command)}")
        job.log.write(f"$ python {shlex.join(command)}\n")
        job.log.flush()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.setdefault("OMP_NUM_THREADS", "1")
        job.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.plan.root,
            env=environment,
            stdout=job.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    def _wait(self) -> None:
        """Until a command of some job ends; with room for more jobs, not for long: others may finish what is needed."""
        end = math.inf if len(self.active) >= self.jobs else time.monotonic() + OTHERS_POLL_SECONDS
        while all(job.process is not None and job.process.poll() is None for job in self.active):
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)

    def _collect(self) -> None:
        """Go on with the jobs whose command has ended."""
        for job in list(self.active):
            code = job.process.poll() if job.process is not None else 0
            if code is None:
                continue
            command, result = job.commands.pop(0)
            if code or not (self.plan.root / result).exists():
                reason = failure_reason(self.records.log(job.run), code, command[0])
                if (
                    IN_USE in reason
                ):  # one that was killed a moment ago, or that somebody started by hand
                    self.say(f"{job.run.name}: {reason}")
                    time.sleep(OTHERS_POLL_SECONDS)
                    self._drop(job)
                else:
                    self._end(job, reason)
            else:
                self._next(job)

    def _end(self, job: _Job, reason: str | None = None) -> None:
        """Note how a run ended, and let go of it."""
        if reason is not None:
            reason = reason.replace(f"{self.plan.root}/", "")
            self.records.fail(job.run, reason)
        took = duration(time.monotonic() - job.started)
        self.say(
            f"{job.run.name}: {'finished' if reason is None else 'FAILED: ' + reason} after {took}"
        )
        self._drop(job)

    def _drop(self, job: _Job) -> None:
        job.log.close()
        self.active.remove(job)
        self.records.release(job.run)

    def _stop(self) -> None:
        """End what is still running; the next start goes on with it."""
        for job in list(self.active):
            if job.process is not None and job.process.poll() is None:
                job.process.terminate()
                try:
                    job.process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    job.process.kill()
                    job.process.wait()
            self._drop(job)


def wanted_runs(plan: StudyPlan, only: Sequence[str]) -> set[str]:
    """The names of the runs of the rows ``only``, with all they need; of all rows when there are none."""
    by_name = {run.name: run for run in plan.runs()}
    waiting = [run for run in by_name.values() if not only or run.row.name in only]
    wanted: set[str] = set()
    while waiting:
        run = waiting.pop()
        if run.name not in wanted:
            wanted.add(run.name)
            waiting += [by_name[name] for name in run.needs if name in by_name]
    return wanted


def failure_reason(log: Path, code: int, tool: str) -> str:
    """One sentence from what a failed command said last."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    start = max(
        (number for number, line in enumerate(lines) if line.startswith("$ python ")), default=-1
    )
    errors = [
        line for line in lines[start + 1 :] if line.startswith("error: ") or ": error: " in line
    ]
    if code < 0:
        return f"{tool} was killed by {signal.Signals(-code).name}"
    if errors:
        return errors[-1].split("error: ", 1)[1]
    last = lines[-1] if len(lines) > start + 1 else "it said nothing"
    return (
        f"{tool} ended with {code}: {last}"
        if code
        else f"{tool} ended without writing its result: {last}"
    )


@contextmanager
def one_study_at_a_time(plan: StudyPlan, claims: Claims) -> Iterator[None]:
    """Let others work on the very same study, and refuse one whose yaml says something else."""
    spec: Any = {
        "rows": {name: to_plain(config) for name, config in plan.configs.items()},
        "study": repr((plan.spec.rows, plan.spec.data, plan.spec.evaluate)),
    }
    print_of = hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[
        :12
    ]
    others = [owner for name, owner in claims.alive().items() if name.startswith("worker-")]
    for owner in others:
        if owner.get("study") != print_of:
            raise ConfigError(
                f"{plan.folder}: process {owner.get('pid')} on {owner.get('host')} works there on another"
                " version of this study; wait for its end, or give this one another NAME"
            )
    with claims.holding():
        claims.take(f"worker-{socket.gethostname()}-{os.getpid()}", {"study": print_of})
        yield


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM ends the study as Ctrl-C does: in good order."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(outcomes: dict[str, Outcome]) -> str:
    """``12 finished, 1 failed, 3 waiting``."""
    order = (FINISHED, RUNNING, READY, FAILED, BLOCKED)
    counts = {
        status: sum(outcome.status == status for outcome in outcomes.values()) for status in order
    }
    counts["waiting"] = len(outcomes) - sum(counts.values())
    return (
        ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        or "nothing to do"
    )
