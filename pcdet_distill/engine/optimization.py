"""Optimizers and learning rates of OpenPCDet's OPTIMIZATION block.

A schedule is a pure function of the iteration number, so a resumed training needs nothing but that number.
``adam_onecycle``: A disciplined approach to neural network hyper-parameters (Smith, 2018), with the decoupled
weight decay of Loshchilov and Hutter (2019) on every parameter, BatchNorm and biases included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..config import lookup
from ..errors import CheckpointError, ConfigError

Rate = tuple[float, float | None]  # learning rate, momentum (None: as the optimizer was built)
Schedule = Callable[[int], Rate]
FINAL_DIVISOR = 1e4  # one-cycle ends at LR / DIV_FACTOR / 1e4
BETAS = (0.9, 0.99)  # adam_onecycle and adam_cosineanneal without BETAS
LOSS_SCALE = 2.0**16  # where --use_amp starts without LOSS_SCALE_FP16
COSINE_FLOOR = 1e-3  # adam_cosineanneal ends at LR * 1e-3
COSINE_WARMUP_START = 1 / 3  # ... and starts at a third of LR
LEAST = {
    "LR": 0,
    "WEIGHT_DECAY": 0,
    "MOMENTUM": 0,
    "PCT_START": 0,
    "DIV_FACTOR": 1,
    "LR_DECAY": 0,
    "LR_CLIP": 0,
    "WARMUP_EPOCH": 0,
    "NUM_EPOCHS": 1,
    "BATCH_SIZE_PER_GPU": 1,
    "LOSS_SCALE_FP16": 1,
}
PAIRS = {
    "MOMS": "the highest and lowest momentum, as in [0.95, 0.85]",
    "BETAS": "Adam's two rates of decay, as in [0.9, 0.99]",
}
WHOLE = ("NUM_EPOCHS", "BATCH_SIZE_PER_GPU")
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def setting(config: Mapping[str, Any], key: str) -> Any:
    """``config[key]``, or one sentence about the key that is missing or the number that cannot be meant."""
    if key not in config:
        raise ConfigError(
            f"OPTIMIZATION.{key}: missing, and OPTIMIZER '{config.get('OPTIMIZER')}' needs it"
        )
    value = config[key]
    if key in LEAST and not (isinstance(value, (int, float)) and LEAST[key] <= value < math.inf):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not a number of {LEAST[key]} or more")
    if key in WHOLE and value != int(value):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not a whole number")
    if key in PAIRS and not _are_two_rates(value):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not {PAIRS[key]}")
    return value


def _are_two_rates(value: Any) -> bool:
    """Two numbers from 0 to below 1, which is what Adam takes."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(rate, (int, float)) and 0 <= rate < 1 for rate in value)
    )


def parameter_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """Trainable parameters as OpenPCDet's one-cycle optimizer stores them: first all others, then BatchNorm's."""
    norms = [
        parameter
        for module in model.modules()
        if isinstance(module, BATCH_NORMS)
        for parameter in module.parameters(recurse=False)
    ]
    norm_ids = {id(parameter) for parameter in norms}
    others = [parameter for parameter in model.parameters() if id(parameter) not in norm_ids]
    return [
        [parameter for parameter in group if parameter.requires_grad] for group in (others, norms)
    ]


def _adam_decoupled(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Adam after ``p *= 1 - lr * weight_decay``. The schedule's momentum takes the place of the first beta."""
    groups = [{"params": group} for group in parameter_groups(model)]
    betas = setting(config, "BETAS") if config.get("BETAS") is not None else BETAS
    return torch.optim.AdamW(
        groups,
        lr=setting(config, "LR"),
        betas=tuple(betas),
        weight_decay=setting(config, "WEIGHT_DECAY"),
    )


def _adam(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Adam with its decay in the gradient."""
    return torch.optim.Adam(
        model.parameters(), lr=setting(config, "LR"), weight_decay=setting(config, "WEIGHT_DECAY")
    )


def _sgd(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(
        model.parameters(),
        lr=setting(config, "LR"),
        momentum=setting(config, "MOMENTUM"),
        weight_decay=setting(config, "WEIGHT_DECAY"),
    )


def _cosine(start: float, end: float, fraction: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def _two_phases(values: tuple[float, float, float], it: int, peak: int, total: int) -> float:
    """Cosine from ``values[0]`` to ``values[1]`` at iteration ``peak``, then to ``values[2]`` at ``total``."""
    if it < peak:
        return _cosine(values[0], values[1], it / peak)
    return _cosine(values[1], values[2], (it - peak) / max(total - peak, 1))


def _momentum(config: Mapping[str, Any], peak: int, total: int) -> Callable[[int], float]:
    """MOMS[0] -> MOMS[1] -> MOMS[0]."""
    high, low = setting(config, "MOMS")
    return lambda it: _two_phases((high, low, high), it, peak, total)


def one_cycle(config: Mapping[str, Any], iterations_per_epoch: int, epochs: int) -> Schedule:
    """LR / DIV_FACTOR -> LR over the first PCT_START of the run, then to LR / DIV_FACTOR / 1e4."""
    total = iterations_per_epoch * epochs
    peak = int(total * setting(config, "PCT_START"))
    top, low = setting(config, "LR"), setting(config, "LR") / setting(config, "DIV_FACTOR")
    momentum = _momentum(config, peak, total)
    return lambda it: (_two_phases((low, top, low / FINAL_DIVISOR), it, peak, total), momentum(it))


def cosine_annealing(config: Mapping[str, Any], iterations_per_epoch: int, epochs: int) -> Schedule:
    """A linear start of WARMUP_ITER iterations from LR / 3, then a cosine over the epochs to LR / 1000."""
    total = iterations_per_epoch * epochs
    top, warmup = setting(config, "LR"), config.get("WARMUP_ITER", 0)
    momentum = _momentum(config, int(total * setting(config, "PCT_START")), total)

    def rate(it: int) -> Rate:
        if it < warmup:
            return top * (COSINE_WARMUP_START + (1 - COSINE_WARMUP_START) * it / warmup), momentum(
                it
            )
        return _cosine(top, top * COSINE_FLOOR, (it // iterations_per_epoch) / epochs), momentum(it)

    return rate


def step_decay(config: Mapping[str, Any], iterations_per_epoch: int, epochs: int) -> Schedule:
    """LR times LR_DECAY at each epoch of DECAY_STEP_LIST, never under LR_CLIP; LR_WARMUP: a cosine rise before."""
    top, clip = setting(config, "LR"), setting(config, "LR_CLIP")
    decay_iterations = [
        epoch * iterations_per_epoch for epoch in setting(config, "DECAY_STEP_LIST")
    ]
    warmup = (
        setting(config, "WARMUP_EPOCH") * iterations_per_epoch
        if config.get("LR_WARMUP", False)
        else 0
    )
    low = top / setting(config, "DIV_FACTOR") if warmup else top

    def rate(it: int) -> Rate:
        if it < warmup:
            return _cosine(low, top, it / warmup), None
        passed = sum(it >= step for step in decay_iterations)
        return max(top * setting(config, "LR_DECAY") ** passed, clip), None

    return rate


OPTIMIZERS = {
    "adam_onecycle": _adam_decoupled,
    "adam_cosineanneal": _adam_decoupled,
    "adam": _adam,
    "sgd": _sgd,
}
SCHEDULES = {
    "adam_onecycle": one_cycle,
    "adam_cosineanneal": cosine_annealing,
    "adam": step_decay,
    "sgd": step_decay,
}


def build_optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that ``config`` (cfg.OPTIMIZATION) names."""
    return lookup(OPTIMIZERS, setting(config, "OPTIMIZER"), "OPTIMIZATION.OPTIMIZER")(model, config)


def build_schedule(config: Mapping[str, Any], iterations_per_epoch: int, epochs: int) -> Schedule:
    """Learning rate and momentum by iteration, for the optimizer that ``config`` names."""
    build = lookup(SCHEDULES, setting(config, "OPTIMIZER"), "OPTIMIZATION.OPTIMIZER")
    return build(config, max(iterations_per_epoch, 1), max(epochs, 1))


def loss_scale(config: Mapping[str, Any]) -> float:
    """By how much mixed precision multiplies its first losses; from then on the scale follows the gradients."""
    return (
        LOSS_SCALE
        if config.get("LOSS_SCALE_FP16") is None
        else float(setting(config, "LOSS_SCALE_FP16"))
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: Rate) -> None:
    """Give all parameter groups the learning rate and momentum of this iteration."""
    lr, momentum = rate
    for group in optimizer.param_groups:
        group["lr"] = lr
        if momentum is not None:
            group["betas"] = (momentum, group["betas"][1])


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], where: str
) -> None:
    """Take the moments from ``state``; the options (decay, betas ...) stay those of the config.

    OpenPCDet stores a weight decay of 0 because it decays by hand: its options must not be believed.
    """
    if not isinstance(state, Mapping) or "state" not in state:
        raise CheckpointError(
            f"{where}: the optimizer_state is no state of an optimizer; expected 'state' and "
            "'param_groups'"
        )
    own = optimizer.state_dict()["param_groups"]
    saved = state.get("param_groups", [])
    if [len(group["params"]) for group in own] != [len(group["params"]) for group in saved]:
        raise CheckpointError(
            f"{where}: the optimizer state is of another model or optimizer: parameters in groups of "
            f"{[len(group['params']) for group in saved]}, expected "
            f"{[len(group['params']) for group in own]}"
        )
    groups = [{**mine, "params": theirs["params"]} for mine, theirs in zip(own, saved)]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
