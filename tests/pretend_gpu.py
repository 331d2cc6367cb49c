"""A GPU that does not exist, to find tensors of two devices that meet: ``pytest --device pretend``.

A tensor on the device ``pretend`` holds a tensor on the CPU and computes there. What a real GPU
refuses is refused here too: an operator on tensors of both devices (numbers without axes aside),
and ``numpy()``. So code or tests that forget to move something fail on a machine without a GPU.

What it cannot show: kernels for CUDA, their speed and rounding, and code behind
``device.type == "cuda"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"
CPU = torch.device("cpu")
# Operators that are there to move numbers between devices.
MOVING = ("aten::copy_", "aten::_to_copy")
# These take whole numbers or masks of the CPU as indices, as on CUDA.
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# They make a tensor of numbers and move it without asking a mode.
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


class TwoDevicesError(RuntimeError):
    """Tensors of two devices met in one operator."""


class PretendTensor(Tensor):
    """A tensor that says that it is on the pretended device.

    Attributes:
        held: the same numbers on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        made: PretendTensor = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"on {NAME}: {self.held!r}"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.tolist:
            return args[0].held.tolist()
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy")
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        return run_on_cpu(func, args, kwargs or {})


def _as_tensors(index: Any) -> Any:
    """An index whose lists are tensors. PyTorch would make them without asking a mode."""
    if isinstance(index, tuple):
        return tuple(_as_tensors(part) for part in index)
    return torch.tensor(index) if isinstance(index, list | np.ndarray) else index


def run_on_cpu(func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """An operator on what the tensors hold; its results are on the device where they belong."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretended = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    refuse_two_devices(func._schema.name, tensors)
    held_args, held_kwargs = tree_map(_held, (tuple(args), dict(kwargs)))
    result = func(*held_args, **held_kwargs)
    if torch.Tag.inplace_view in func.tags and pretended:
        # Such as ``squeeze_``: the shape that the tensor shows has to follow.
        with no_dispatch():
            return func(*args, **kwargs)
    if not _is_result_pretended(func, args, kwargs, bool(pretended)):
        return result
    known = {id(tensor.held): tensor for tensor in pretended}

    def put_back(leaf: Any) -> Any:
        """An argument that was changed in place stays the same object."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, PretendTensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else PretendTensor(leaf)

    return tree_map(put_back, result)


def refuse_two_devices(name: str, tensors: Sequence[Tensor]) -> None:
    """Raise an error where an operator gets tensors of both devices."""
    if name in MOVING or not any(isinstance(tensor, PretendTensor) for tensor in tensors):
        return
    for tensor in tensors:
        is_index = name in INDEXING and not tensor.is_floating_point()
        if not isinstance(tensor, PretendTensor) and tensor.dim() > 0 and not is_index:
            raise TwoDevicesError(f"{name}: tensors on {NAME}:0 and on the CPU")


def _held(leaf: Any) -> Any:
    """What an operator on the CPU gets in place of an argument."""
    if isinstance(leaf, PretendTensor):
        return leaf.held
    return CPU if isinstance(leaf, torch.device) else leaf


def _is_result_pretended(func: Any, args: Arguments, kwargs: Keywords, is_input: bool) -> bool:
    """Whether the results of an operator are on the pretended device."""
    if func._schema.name == "aten::copy_":
        return isinstance(args[0], PretendTensor)
    device = kwargs.get("device")
    return is_input if device is None else torch.device(device).type == NAME


class _Operators(TorchDispatchMode):
    """Also operators that only name the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        return run_on_cpu(func, args, kwargs or {})


class _Makers(TorchFunctionMode):
    """``torch.tensor(..., device=...)`` and the like."""

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor:
            kwargs.setdefault("device", args[0].device)
            kwargs.setdefault("dtype", None)
            func, args = torch.tensor, args[1:]
        device = kwargs.get("device")
        if func not in MAKERS or device is None or torch.device(device).type != NAME:
            return func(*args, **kwargs)
        needs_grad = kwargs.pop("requires_grad", False)
        made = func(*args, **{**kwargs, "device": CPU}).to(device)
        return made.requires_grad_(needs_grad)


class _Backend(_DummyBackendModule):
    """What PyTorch asks a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """For ``torch.autocast``."""
        return [torch.float16, torch.bfloat16]


def register() -> torch.device:
    """Make the device's name known to PyTorch, once a process."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    return torch.device(NAME, 0)


@contextmanager
def pretended() -> Iterator[None]:
    """As long as the context lasts, the device can be used."""
    with _Operators(), _Makers():
        yield
