"""A Ray cluster: its machines must see the same files, and the same Python packages, as this one.

Frames go there some at a time, a job is one task. A task whose worker process or machine is lost is
run again by Ray; a training goes on from its last checkpoint then.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import EXIT_STOPPED, ConfigError, UserError, first_line
from ..extras import import_extra
from .engine import THREADS, Ending, Item, Job, Result
from .local import TERMINATE_SECONDS, LocalJob, chunk_size

POLL_SECONDS = 0.2
CONNECT_SECONDS = 10.0
PARTS_AHEAD = 4  # for each core: parts of the frames that wait in Ray's queue
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class JobLost(Exception):
    """The process of a job was killed, or asked to end: Ray starts it again elsewhere."""


@dataclass(frozen=True)
class RayOptions:
    """What the work takes of the cluster.

    Args:
        address: of the cluster: ``auto`` for the one that this machine is part of, or
            ``ray://HOST:PORT``. None starts one on this machine, for this command alone.
        cpus: cores of a job; frames have one each.
        gpus: GPUs of a job. A fraction lets several share one.
        retries: how often a task is run again when it is lost.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3


class RayEngine:
    """The machines of a Ray cluster."""

    jobs: int | None = None  # Ray has a queue

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self.ray = connect(options.address)

    @contextmanager
    def results(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Iterator[Result]]:
        """``task`` of every item, in their order."""
        waiting: deque[Any] = deque()
        try:
            yield self._results(task, items, waiting)
        finally:
            for part in waiting:
                self.ray.cancel(part)

    def _results(
        self, task: Callable[[Item], Result], items: Sequence[Item], waiting: deque[Any]
    ) -> Iterator[Result]:
        """The results, while some parts are always in Ray's queue."""
        cores = max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        size = chunk_size(len(items), cores)
        run_part = self.ray.remote(work_on).options(num_cpus=1, max_retries=self.options.retries)
        shared_task = self.ray.put(task)
        here = os.getcwd()
        for start in range(0, len(items), size):
            part = list(items[start : start + size])
            waiting.append(run_part.remote(shared_task, part, here))
            if len(waiting) >= PARTS_AHEAD * cores:
                yield from self._get(waiting.popleft())
        while waiting:
            yield from self._get(waiting.popleft())

    def call(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, on a machine that has room for a job."""
        run = self.ray.remote(call_at).options(**self._job_resources())
        result: Result = self._get(run.remote(function, os.getcwd()))
        return result

    def _get(self, part: Any) -> Any:
        """The result of a task; its error as the task raised it."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(part)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise UserError(f"Ray: {first_line(error)}") from None

    def start(self, job: Job) -> RayJob:
        """Put a job into Ray's queue."""
        run = self.ray.remote(run_job).options(**self._job_resources(), retry_exceptions=[JobLost])
        here = replace(job, folder=job.folder.absolute(), log=job.log.absolute())
        return RayJob(self.ray, run.remote(here, os.environ.get(THREADS, "1")))

    def _job_resources(self) -> dict[str, float]:
        """What Ray reserves for a job."""
        options = self.options
        return {
            "num_cpus": options.cpus,
            "num_gpus": options.gpus,
            "max_retries": options.retries,
        }


class RayJob:
    """A job on the cluster."""

    def __init__(self, ray: ModuleType, reference: Any) -> None:
        self.ray = ray
        self.reference = reference

    def poll(self) -> Ending | None:
        """How it ended; None while it runs, waits, or is run again."""
        done, _ = self.ray.wait([self.reference], timeout=0)
        if not done:
            return None
        errors = self.ray.exceptions
        try:
            return Ending(self.ray.get(self.reference))
        except errors.RayTaskError as error:
            return Ending(1, str(error.cause))
        except errors.RayError as error:
            return Ending(1, f"Ray: {first_line(error)}")

    def stop(self) -> None:
        """Interrupt its worker, which ends the process; kill the worker where that takes long."""
        self.ray.cancel(self.reference)
        done, _ = self.ray.wait([self.reference], timeout=TERMINATE_SECONDS + 2.0)
        if not done:
            self.ray.cancel(self.reference, force=True)


def connect(address: str | None) -> ModuleType:
    """Ray, connected to a cluster."""
    import_extra("ray.exceptions", needed_by="--engine ray")
    ray = import_extra("ray", needed_by="--engine ray")
    if ray.is_initialized():
        return ray
    if address is not None and ":" in address:
        check_answers(address)
    # A checkout that is not installed is found by the workers too.
    paths = [PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": variables},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise no_cluster(address, error) from None
    return ray


def check_answers(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        raise ConfigError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, error) from None


def no_cluster(address: str | None, error: Exception) -> ConfigError:
    """The sentence about an address without a cluster."""
    return ConfigError(
        f"--address {address}: no Ray cluster answers there ({first_line(error)}); start one by "
        "ray start --head"
    )


def work_on(task: Callable[[Item], Result], items: Sequence[Item], folder: str) -> list[Result]:
    """A Ray task: some frames, from the folder to which relative paths belong."""
    import torch

    torch.set_num_threads(1)
    _go_to(folder)
    return [task(item) for item in items]


def call_at(function: Callable[[], Result], folder: str) -> Result:
    """A Ray task: one function, called in the folder to which relative paths belong."""
    _go_to(folder)
    return function()


def _go_to(folder: str) -> None:
    """Work in a folder, if this machine has it."""
    with suppress(OSError):
        os.chdir(folder)


def run_job(job: Job, threads: str) -> int:
    """A Ray task: a job, to its end. Its exit code.

    Raises:
        JobLost: it was killed, or stopped by a signal.
    """
    if not job.folder.is_dir():
        raise UserError(
            f"{os.uname().nodename} has no folder {job.folder}: all machines of the cluster must "
            "see it under this path"
        )
    running = LocalJob(job, threads)
    try:
        while (ending := running.poll()) is None:
            time.sleep(POLL_SECONDS)
    except BaseException:  # cancelled
        running.stop()
        raise
    if ending.code < 0:
        raise JobLost(f"{job.words[0]} was killed by {signal.Signals(-ending.code).name}")
    if ending.code == EXIT_STOPPED:
        raise JobLost(f"{job.words[0]} was stopped by a signal")
    return ending.code
