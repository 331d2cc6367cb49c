"""The cores of this machine: a pool of processes for frames, a process for each job."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import IO

from ..errors import UserError
from ..processes import die_with_parent
from .engine import Ending, FrameEngine, Item, Job, Result, Workers, job_environment

TERMINATE_SECONDS = 10.0  # a training writes a checkpoint before it ends


class LocalEngine:
    """Processes of this machine.

    Args:
        workers: processes that work on items; with 0 or 1 this process does.
        jobs: jobs at a time.
        method: how a worker process begins, as in ``multiprocessing``; None for Python's default.
    """

    def __init__(self, workers: int = 1, *, jobs: int = 1, method: str | None = None) -> None:
        self.workers = workers
        self.jobs: int | None = jobs
        self.method = method

    @contextmanager
    def results(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Iterator[Result]]:
        """``task`` of every item, in their order."""
        workers = min(self.workers, len(items))
        if workers <= 1:
            yield map(task, items)
            return
        context = multiprocessing.get_context(self.method)
        # A fork server is the parent of its workers, and ends with this process itself.
        is_parent = context.get_start_method() != "forkserver"
        begin = partial(_begin_worker, os.getpid() if is_parent else None)
        with ProcessPoolExecutor(workers, context, begin) as pool:
            try:
                yield pool.map(task, items, chunksize=chunk_size(len(items), workers))
            except BaseException as error:
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise UserError(
                        "a worker process was killed, perhaps because the memory was full; fewer "
                        "--workers need less"
                    ) from None
                raise

    def call(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, in this process."""
        return function()

    def start(self, job: Job) -> LocalJob:
        """Start a job in a process of its own."""
        return LocalJob(job)


class LocalJob:
    """A job in a process of this machine, which ends with this process."""

    def __init__(self, job: Job, threads: str | None = None) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self.log: IO[str] = job.log.open("a")
        self.process = subprocess.Popen(
            job.command(),
            cwd=job.folder,
            env=job_environment(threads),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    def poll(self) -> Ending | None:
        """How it ended; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        self.log.close()
        return Ending(code)

    def stop(self) -> None:
        """SIGTERM, by which a training writes a checkpoint; SIGKILL where that takes long."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def as_engine(workers: Workers) -> FrameEngine:
    """The engine of a number of processes; an engine stays as it is."""
    return LocalEngine(workers) if isinstance(workers, int) else workers


def chunk_size(num_items: int, workers: int) -> int:
    """Items at once save messages between processes; four parts each keep all of them busy."""
    return max(1, min(16, num_items // (4 * workers)))


def _begin_worker(parent: int | None) -> None:
    """Several processes of several threads each would compete for the same cores."""
    import torch

    die_with_parent(parent)
    torch.set_num_threads(1)
