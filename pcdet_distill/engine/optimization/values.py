"""The numbers of an OPTIMIZATION block. One that is missing or impossible is one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from ...errors import ConfigError
from ...types import ConfigDict

# The smallest value that each number may have.
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


def required_value(config: ConfigDict, key: str) -> object:
    """``config[key]``, which the optimizer of ``config`` needs."""
    if key not in config:
        raise ConfigError(
            f"OPTIMIZATION.{key}: missing, and OPTIMIZER '{config.get('OPTIMIZER')}' needs it"
        )
    return config[key]


def optimizer_name(config: ConfigDict) -> str:
    """The OPTIMIZER of ``config``."""
    return str(required_value(config, "OPTIMIZER"))


def number(config: ConfigDict, key: str) -> float:
    """``config[key]``, a finite number of ``LEAST[key]`` or more."""
    value = required_value(config, key)
    if not isinstance(value, (int, float)) or not LEAST[key] <= value < math.inf:
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not a number of {LEAST[key]} or more")
    return value


def whole_number(config: ConfigDict, key: str) -> int:
    """``config[key]``, a whole number of ``LEAST[key]`` or more."""
    value = number(config, key)
    if value != int(value):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not a whole number")
    return int(value)


def epoch_list(config: ConfigDict, key: str) -> list[float]:
    """``config[key]``, a list of epochs."""
    value = required_value(config, key)
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not a list of epochs")
    return list(value)


def number_pair(config: ConfigDict, key: str) -> tuple[float, float]:
    """``config[key]``, two numbers from 0 to below 1, which is what Adam accepts."""
    value = required_value(config, key)
    if not _is_pair_of_rates(value):
        raise ConfigError(f"OPTIMIZATION.{key}: {value!r} is not {PAIRS[key]}")
    first, second = value
    return first, second


def _is_pair_of_rates(value: object) -> TypeGuard[Sequence[float]]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(isinstance(rate, (int, float)) and 0 <= rate < 1 for rate in value)
