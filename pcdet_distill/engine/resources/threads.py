"""The number of CPU threads, chosen by timing a few real steps.

No rule predicts the best number: two threads on two busy cores can be ten times slower than one.
The timed steps leave no trace in weights, BatchNorm statistics, gradients, random generators or
data order. The number of threads can change the last bits of a sum, so it is stored in the
checkpoint and kept when training resumes.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from ...types import BatchDict
from ..checkpoints.randomness import preserve_randomness

# Variables by which users choose the number of threads themselves.
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# More threads must need less than this share of the time: data workers need the other cores.
WORTHWHILE = 0.95
# A number of threads this much slower than the best ends the search: more would be slower still.
CLEARLY_SLOWER = 1.2
REPEATS = 2  # steps with each number, of which the fastest counts


def tune_threads(
    model: nn.Module,
    run_step: Callable[[nn.Module, BatchDict], None],
    make_batch: Callable[[], BatchDict],
    logger: logging.Logger,
    most: int,
) -> int:
    """Choose, set and return the number of threads for ``run_step(model, make_batch())``.

    Args:
        model: unchanged afterwards.
        run_step: a step of the kind that is to be fast.
        make_batch: called once; each step gets its own copy.
        logger: receives the choice with its timings.
        most: largest number to try. OMP_NUM_THREADS of the user overrides the choice.
    """
    variable = user_variable()
    if variable is not None:
        logger.info(f"CPU threads: {torch.get_num_threads()} ({variable} is set)")
        return torch.get_num_threads()
    if most <= 1:
        torch.set_num_threads(1)
        return 1
    with unchanged(model):
        batch = make_batch()
        seconds = time_threads(lambda: run_step(model, copy.deepcopy(batch)), most)
    best = best_number(seconds)
    torch.set_num_threads(best)
    timings = [f"{threads}: {duration * 1000:.0f} ms" for threads, duration in seconds.items()]
    logger.info(f"CPU threads: {best} (a step with {', '.join(timings)})")
    return best


def user_variable() -> str | None:
    """The variable that sets the number of threads, if the user has set one."""
    for name in CHOSEN_BY_USER:
        if os.environ.get(name):
            return name
    return None


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore parameters, buffers, gradients and random generators afterwards, bit for bit."""
    tensors = list(chain(model.parameters(), model.buffers()))
    values = [tensor.detach().clone() for tensor in tensors]
    gradients = [parameter.grad for parameter in model.parameters()]
    with preserve_randomness():
        try:
            for parameter in model.parameters():
                parameter.grad = None
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values):
                    tensor.copy_(value)
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter.grad = gradient


def time_threads(step: Callable[[], None], most: int) -> dict[int, float]:
    """Seconds of ``step`` by number of threads; stops when more are clearly slower."""
    _fastest(step, threads=1, repeats=1)  # the first step pays for allocations and compilation
    seconds: dict[int, float] = {}
    for threads in candidates(most):
        seconds[threads] = _fastest(step, threads, REPEATS)
        if seconds[threads] > CLEARLY_SLOWER * min(seconds.values()):
            break
    return seconds


def candidates(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    numbers = []
    threads = 1
    while threads < most:
        numbers.append(threads)
        threads *= 2
    return [*numbers, most]


def _fastest(step: Callable[[], None], threads: int, repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` steps with ``threads`` threads."""
    torch.set_num_threads(threads)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def best_number(seconds: dict[int, float]) -> int:
    """The number of threads to use: a larger one only where it is worthwhile."""
    best = min(seconds)
    for threads, duration in sorted(seconds.items()):
        if duration < WORTHWHILE * seconds[best]:
            best = threads
    return best
