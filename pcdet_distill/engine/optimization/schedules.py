"""Learning rate and momentum of every iteration, for each OPTIMIZER of OpenPCDet.

A schedule is a function of the iteration number alone. So a resumed training needs nothing else to
continue it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ...config import lookup
from ...types import ConfigDict
from .values import epoch_list, number, number_pair, optimizer_name

# Learning rate, and momentum or None: the momentum with which the optimizer was built.
Rate: TypeAlias = tuple[float, float | None]
Schedule: TypeAlias = Callable[[int], Rate]

ONE_CYCLE_FINAL_DIVISOR = 1e4  # fastai's: one-cycle ends at LR / DIV_FACTOR / 1e4
COSINE_FLOOR = 1e-3  # adam_cosineanneal ends at LR * 1e-3
COSINE_WARMUP_START = 1 / 3  # and its warm-up begins at LR / 3


def build_schedule(config: ConfigDict, iterations_per_epoch: int, epochs: int) -> Schedule:
    """The schedule of the optimizer that ``config`` (cfg.OPTIMIZATION) names."""
    build = lookup(SCHEDULES, optimizer_name(config), "OPTIMIZATION.OPTIMIZER")
    return build(config, max(iterations_per_epoch, 1), max(epochs, 1))


def one_cycle(config: ConfigDict, iterations_per_epoch: int, epochs: int) -> Schedule:
    """adam_onecycle: Smith, A disciplined approach to neural network hyper-parameters, 2018.

    The rate rises from LR / DIV_FACTOR to LR over the first PCT_START of the training, then falls
    to LR / DIV_FACTOR / 1e4. The momentum moves the other way: high rates need less of it.
    """
    total = iterations_per_epoch * epochs
    peak = int(total * number(config, "PCT_START"))
    top = number(config, "LR")
    low = top / number(config, "DIV_FACTOR")
    momentum = _momentum(config, peak, total)

    def schedule(iteration: int) -> Rate:
        rate = _two_phases((low, top, low / ONE_CYCLE_FINAL_DIVISOR), iteration, peak, total)
        return rate, momentum(iteration)

    return schedule


def cosine_annealing(config: ConfigDict, iterations_per_epoch: int, epochs: int) -> Schedule:
    """adam_cosineanneal: a linear warm-up of WARMUP_ITER iterations, then a cosine over the epochs.

    As in OpenPCDet, the cosine is a step function: it changes from epoch to epoch only.
    """
    total = iterations_per_epoch * epochs
    top = number(config, "LR")
    warmup = config.get("WARMUP_ITER", 0)
    momentum = _momentum(config, int(total * number(config, "PCT_START")), total)

    def schedule(iteration: int) -> Rate:
        if iteration < warmup:
            factor = COSINE_WARMUP_START + (1 - COSINE_WARMUP_START) * iteration / warmup
            return top * factor, momentum(iteration)
        fraction = (iteration // iterations_per_epoch) / epochs
        return _cosine(top, top * COSINE_FLOOR, fraction), momentum(iteration)

    return schedule


def step_decay(config: ConfigDict, iterations_per_epoch: int, epochs: int) -> Schedule:
    """adam and sgd: LR times LR_DECAY at each epoch of DECAY_STEP_LIST, but never below LR_CLIP.

    With LR_WARMUP the rate first rises from LR / DIV_FACTOR, along a cosine of WARMUP_EPOCH epochs.
    """
    top = number(config, "LR")
    clip = number(config, "LR_CLIP")
    decay_epochs = epoch_list(config, "DECAY_STEP_LIST")
    decay_iterations = [epoch * iterations_per_epoch for epoch in decay_epochs]
    warmup: float = 0
    low = top
    if config.get("LR_WARMUP", False):
        warmup = number(config, "WARMUP_EPOCH") * iterations_per_epoch
        low = top / number(config, "DIV_FACTOR")

    def schedule(iteration: int) -> Rate:
        if iteration < warmup:
            return _cosine(low, top, iteration / warmup), None
        num_decays = sum(iteration >= step for step in decay_iterations)
        return max(top * number(config, "LR_DECAY") ** num_decays, clip), None

    return schedule


def _momentum(config: ConfigDict, peak: int, total: int) -> Callable[[int], float]:
    """MOMS[0], falling to MOMS[1] at iteration ``peak`` and rising again until ``total``."""
    high, low = number_pair(config, "MOMS")

    def momentum(iteration: int) -> float:
        return _two_phases((high, low, high), iteration, peak, total)

    return momentum


def _two_phases(values: tuple[float, float, float], iteration: int, peak: int, total: int) -> float:
    """A cosine from the first value to the second at ``peak``, one to the third at ``total``."""
    start, middle, end = values
    if iteration < peak:
        return _cosine(start, middle, iteration / peak)
    return _cosine(middle, end, (iteration - peak) / max(total - peak, 1))


def _cosine(start: float, end: float, fraction: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES = {
    "adam_onecycle": one_cycle,
    "adam_cosineanneal": cosine_annealing,
    "adam": step_decay,
    "sgd": step_decay,
}
