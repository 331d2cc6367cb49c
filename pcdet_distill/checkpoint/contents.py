"""What a checkpoint may hold, checked after it was read and before it is written.

Every key that this package reads is declared in ``declared``. What is said here of all entries and
tensors also counts for the keys of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..structures import misfit_of
from .declared import CHECKPOINT
from .words import shorten

MAX_ENTRIES = 3_000_000
MAX_DEPTH = 60
MAX_SHARING = 8  # a checkpoint without tied weights has 1
NUMBERS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
)


def problem_of(content: Mapping[str, Any], allow_nonfinite: bool = False) -> str | None:
    """The first thing that is wrong with a checkpoint, as a phrase; None for a good one."""
    for find in (_wrong_key, _wrong_entry, _wrong_weight):
        problem = find(content)
        if problem is not None:
            return problem
    return None if allow_nonfinite else nonfinite_tensor(content)


def nonfinite_tensor(content: Mapping[str, Any]) -> str | None:
    """Names the first tensor of the weights or the optimizer that has a NaN or infinite value."""
    for key in ("model_state", "optimizer_state", "distill_state"):
        part = content.get(key)
        for name, tensor in _named_tensors(part if isinstance(part, Mapping) else {}):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                return f"{key} {name} has values that are not finite"
    return None


def _wrong_key(content: Mapping[str, Any]) -> str | None:
    misfit = misfit_of(dict(content), CHECKPOINT)
    if misfit is None:
        return None
    found = "missing" if misfit.found is None else misfit.found
    return f"its '{misfit.path}' is {found}, expected {misfit.expected}"


def _wrong_entry(content: Mapping[str, Any]) -> str | None:
    """Look at every entry, with a bound on their number: a small pickle can refer to itself."""
    entries = 0
    tensors: dict[int, int] = {}  # bytes of every storage by its address
    tensor_bytes = 0
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        entries += 1
        if entries > MAX_ENTRIES or depth > MAX_DEPTH:
            return (
                f"has more than {MAX_ENTRIES} entries, or more than {MAX_DEPTH} within each other"
            )
        if isinstance(value, Tensor):
            problem = _tensor_problem(value)
            if problem is not None:
                return f"holds a tensor that {problem}"
            storage = value.untyped_storage()
            tensors[storage.data_ptr()] = storage.nbytes()
            tensor_bytes += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(inner, depth + 1) for inner in value]
    if tensor_bytes > MAX_SHARING * sum(tensors.values()):
        return f"its tensors share their values more than {MAX_SHARING} times"
    return None


def _tensor_problem(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"is not dense ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.device.type != "cpu":
        return f"has no values (device {tensor.device})"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"says it is {tuple(tensor.shape)}, more than is stored"
    return None


def _wrong_weight(content: Mapping[str, Any]) -> str | None:
    state = content.get("model_state", {})
    names = [name for name in state if not isinstance(name, str)]
    if names:
        return f"names its tensors {shorten(map(repr, names))}, expected text"
    for name, tensor in state.items():
        if tensor.dtype not in NUMBERS:
            kind = str(tensor.dtype).removeprefix("torch.")
            return f"its tensor {name} is of type {kind}, expected real or whole numbers"
    return None


def _named_tensors(part: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested mappings and lists, each with its path."""
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, (list, tuple)):
            value = dict(enumerate(value))
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _named_tensors(value, f"{name}.")
