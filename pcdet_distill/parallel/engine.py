"""What an engine can do: a function for many arguments, and a command in the background."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Job:
    """A Python command, which runs for long."""

    words: Sequence[str]  # after ``python``
    folder: Path  # where it runs
    log: Path  # its output is appended to this file

    def command(self) -> list[str]:
        """The words of the operating system."""
        return [sys.executable, *self.words]


@dataclass(frozen=True)
class Ending:
    """How a job ended."""

    code: int  # the exit code; negative: the number of the signal that killed it
    reason: str = ""  # why it ended without an exit code of its own


class Started(Protocol):
    """A job that was started."""

    def poll(self) -> Ending | None:
        """How it ended; None while it runs, or waits for a machine."""

    def stop(self) -> None:
        """End it, in good order where it can, and wait for that."""


class FrameEngine(Protocol):
    """Works on many items, such as frames."""

    def results(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> AbstractContextManager[Iterator[Result]]:
        """``task`` of every item, in the order of the items. An error of a task is passed on."""


class Engine(FrameEngine, Protocol):
    """Runs work on some machines. All of them see the same files under the same paths."""

    jobs: int | None
    """How many jobs to start at a time; None: all at once, because the engine has a queue."""

    def call(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, where a job would run: it may need the device of jobs."""

    def start(self, job: Job) -> Started:
        """Start a job; it writes its log, and is not waited for."""


Workers: TypeAlias = int | FrameEngine
"""Processes of this machine, or the engine that does the work."""


def job_environment(threads: str | None = None) -> dict[str, str]:
    """The variables of a job: this process's, with one thread unless another number is asked for.

    Args:
        threads: OMP_NUM_THREADS of the process that asks for the job; None for this process's.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment[THREADS] = threads or os.environ.get(THREADS, "1")
    return environment
