"""How many CPU threads a step should use: timed, because no rule knows.

Two threads on two busy cores can be ten times slower than one. A few real steps tell, at the beginning, and leave no
trace: weights, BatchNorm statistics, gradients, random generators and data order are as before. The number of threads
can change the last bits of a sum, so the choice is stored in the checkpoint and kept when training resumes.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from ..checkpoints.randomness import randomness_kept

CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WORTH_IT = (
    0.95  # more threads must be this much faster: the cores they take are missing to data workers
)


def candidates(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    powers = [2**k for k in range(most.bit_length()) if 2**k < most]
    return [*powers, most]


def _seconds(step: Callable[[], Any], threads: int, repeats: int) -> float:
    """The fastest of ``repeats`` steps with ``threads`` threads."""
    torch.set_num_threads(threads)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def time_threads(step: Callable[[], Any], most: int, repeats: int = 2) -> dict[int, float]:
    """Seconds of ``step`` by number of threads; stops trying more when they have become clearly slower."""
    seconds: dict[int, float] = {}
    _seconds(step, 1, 1)  # the first step pays for allocations and compilation
    for threads in candidates(most):
        seconds[threads] = _seconds(step, threads, repeats)
        if seconds[threads] > 1.2 * min(seconds.values()):
            break
    return seconds


def best_of(seconds: dict[int, float]) -> int:
    """The number of threads to use: more only when it pays."""
    best = min(seconds)
    for threads, duration in sorted(seconds.items()):
        if duration < WORTH_IT * seconds[best]:
            best = threads
    return best


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restore parameters, buffers, gradients, mode and random generators of ``model`` afterwards, bit for bit."""
    tensors = list(chain(model.parameters(), model.buffers()))
    values = [tensor.detach().clone() for tensor in tensors]
    gradients = [parameter.grad for parameter in model.parameters()]
    with randomness_kept():
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


def tune_threads(
    model: nn.Module,
    run: Callable[[nn.Module, Any], Any],
    sample: Callable[[], Any],
    logger: logging.Logger,
    most: int,
) -> int:
    """Choose and set the number of threads for ``run(model, sample())``; the user's OMP_NUM_THREADS is respected."""
    chosen = next((name for name in CHOSEN_BY_USER if os.environ.get(name)), None)
    if chosen:
        logger.info(f"CPU threads: {torch.get_num_threads()} ({chosen} is set)")
        return torch.get_num_threads()
    if most <= 1:
        torch.set_num_threads(1)
        return 1
    with undisturbed(model):
        batch = sample()
        seconds = time_threads(lambda: run(model, copy.deepcopy(batch)), most)
    best = best_of(seconds)
    torch.set_num_threads(best)
    timings = ", ".join(
        f"{threads}: {duration * 1000:.0f} ms" for threads, duration in seconds.items()
    )
    logger.info(f"CPU threads: {best} (a step with {timings})")
    return best
