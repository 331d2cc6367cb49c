"""TEACHER.PRECISION: the teacher's forward pass in another number format than the student's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..config import nearest
from ..errors import ConfigError
from ..ops.precision import at_least_float32
from ..types import BatchDict
from .tap_source import Features

# None stands for the format of the training: float32, or autocast's.
PRECISIONS: Mapping[str, torch.dtype | None] = {
    "training": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def check_precision(name: str) -> None:
    """Refuse a name that is not in ``PRECISIONS``."""
    if name not in PRECISIONS:
        raise ConfigError(
            f"DISTILL.TEACHER.PRECISION: unknown value '{name}'{nearest(name, PRECISIONS)}"
        )


def computing_in(name: str, batch_dict: BatchDict) -> AbstractContextManager[object]:
    """A context in which the teacher computes in the format ``name``, on the batch's device."""
    dtype = PRECISIONS[name]
    if dtype is None:
        return nullcontext()
    device = _device_of(batch_dict)
    if dtype == torch.float32:
        return torch.autocast(device, enabled=False)
    return torch.autocast(device, dtype=dtype)


def in_float32(features: Features) -> Features:
    """The features with float32 in place of half precision: a loss compares like with like."""
    return {path: _in_float32(value) for path, value in features.items()}


@runtime_checkable
class SparseFeatures(Protocol):
    """A sparse tensor, of this package or of spconv."""

    features: Tensor

    def replace_feature(self, features: Tensor) -> SparseFeatures:
        """The same sites with other features."""


def _in_float32(value: object) -> object:
    if isinstance(value, Tensor):
        return at_least_float32(value)
    if isinstance(value, dict):
        return {key: _in_float32(entry) for key, entry in value.items()}
    if isinstance(value, SparseFeatures):
        return value.replace_feature(at_least_float32(value.features))
    return value


def _device_of(batch_dict: BatchDict) -> str:
    """The type of the device of a batch: where its first tensor is."""
    for value in batch_dict.values():
        if isinstance(value, Tensor):
            return value.device.type
    return "cpu"
