"""A GPU that does not exist, for tests on a machine without one.

A pretended tensor holds a tensor of the CPU, which does the work, and says that it is elsewhere.
What a GPU refuses is refused here too: an operator on tensors of both devices (numbers without axes
aside), and ``numpy()``. It says one of two names:

* ``pretend`` (``pytest --device pretend``): code or tests that forget to move something fail.
* ``cuda`` (``pretended("cuda")``): code takes the way that it takes on CUDA, and ``Waits`` counts
  where the host would wait for the GPU.

What it cannot show: kernels for CUDA, their speed and their rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pretend_waits import Waits, must_wait
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
CPU = torch.device("cpu")
# What PyTorch's own code sees. Without CUDA autograd cannot run on tensors of CUDA.
META = torch.device("meta")
# Operators that are there to move numbers between devices.
MOVING = ("aten::copy_", "aten::_to_copy")
# These take whole numbers or masks of the CPU as indices, as on CUDA.
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# They make a tensor of numbers without asking a mode.
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Function = Callable[..., Any]


class TwoDevicesError(RuntimeError):
    """Tensors of two devices met in one operator."""


class PretendTensor(Tensor):
    """A tensor that says that it is on the pretended device.

    Attributes:
        held: the same numbers on the CPU.
        shown: the device that it names.
    """

    held: Tensor
    shown: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, shown: torch.device) -> PretendTensor:
        made: PretendTensor = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=META,
            requires_grad=held.requires_grad,
        )
        made.held = held
        made.shown = shown
        return made

    @property
    def device(self) -> torch.device:
        """What the package sees."""
        return self.shown

    @property
    def is_cuda(self) -> bool:
        """What the package sees."""
        return self.shown.type == "cuda"

    @property
    def is_meta(self) -> bool:
        """PyTorch warns that numbers copied to such a tensor are lost; here they are not."""
        return False

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"on {self.shown}: {self.held!r}"

    @classmethod
    def __torch_function__(
        cls, func: Function, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        if func is Tensor.tolist:
            return args[0].held.tolist()
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(f"can't convert {args[0].shown} device type tensor to numpy")
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        first = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, cls))
        return run_on_cpu(func, args, kwargs or {}, shown=first.shown)


def _as_tensors(index: Any) -> Any:
    """An index whose lists are tensors. PyTorch would make them without asking a mode."""
    if isinstance(index, tuple):
        return tuple(_as_tensors(part) for part in index)
    return torch.tensor(index) if isinstance(index, list | np.ndarray) else index


def run_on_cpu(func: Any, args: Arguments, kwargs: Keywords, *, shown: torch.device) -> Any:
    """An operator on what the tensors hold; its results are on the device where they belong."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretended_ones = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    refuse_two_devices(func._schema.name, tensors)

    def held(leaf: Any) -> Any:
        """What an operator on the CPU gets in place of an argument."""
        if isinstance(leaf, PretendTensor):
            return leaf.held
        return CPU if isinstance(leaf, torch.device) and is_pretended(leaf, shown) else leaf

    held_args, held_kwargs = tree_map(held, (tuple(args), dict(kwargs)))
    result = func(*held_args, **held_kwargs)
    if torch.Tag.inplace_view in func.tags and pretended_ones:
        # Such as ``squeeze_``: the shape that the tensor shows has to follow.
        with no_dispatch():
            return func(*args, **kwargs)
    if not is_result_pretended(func, args, kwargs, shown=shown):
        return result
    known = {id(tensor.held): tensor for tensor in pretended_ones}

    def put_back(leaf: Any) -> Any:
        """An argument that was changed in place stays the same object."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, PretendTensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else PretendTensor(leaf, shown)

    return tree_map(put_back, result)


def refuse_two_devices(name: str, tensors: Sequence[Tensor]) -> None:
    """Raise an error where an operator gets tensors of both devices."""
    pretended_ones = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    if name in MOVING or not pretended_ones:
        return
    for tensor in tensors:
        is_index = name in INDEXING and not tensor.is_floating_point()
        if not isinstance(tensor, PretendTensor) and tensor.dim() > 0 and not is_index:
            shown = pretended_ones[0].shown
            raise TwoDevicesError(f"{name}: tensors on {shown} and on the CPU")


def is_pretended(device: torch.device | str, shown: torch.device) -> bool:
    """Whether a device means the pretended one."""
    return torch.device(device).type in (shown.type, META.type)


def is_result_pretended(
    func: Any, args: Arguments, kwargs: Keywords, *, shown: torch.device
) -> bool:
    """Whether the results of an operator are on the pretended device."""
    if func._schema.name == "aten::copy_":
        return isinstance(args[0], PretendTensor)
    device = kwargs.get("device")
    if device is not None:
        return is_pretended(device, shown)
    return any(isinstance(leaf, PretendTensor) for leaf in tree_leaves((args, kwargs)))


class _Operators(TorchDispatchMode):
    """Runs every operator, also those that only name the device, and counts waits."""

    def __init__(self, shown: torch.device, waits: Waits) -> None:
        super().__init__()
        self.shown = shown
        self.waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        kwargs = kwargs or {}
        goes_there = is_result_pretended(func, args, kwargs, shown=self.shown)
        if must_wait(func, args, kwargs, is_there=_is_there, goes_there=goes_there):
            self.waits.add(func._schema.name.removeprefix("aten::"))
        return run_on_cpu(func, args, kwargs, shown=self.shown)


def _is_there(value: object) -> bool:
    return isinstance(value, PretendTensor)


class _Functions(TorchFunctionMode):
    """Names the device as PyTorch's own code has to see it, and makes tensors of numbers."""

    def __init__(self, shown: torch.device, waits: Waits) -> None:
        super().__init__()
        self.shown = shown
        self.waits = waits

    def __torch_function__(
        self, func: Function, types: Any, args: Arguments = (), kwargs: Keywords | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        first = args[0] if args else None
        if func is Tensor.tolist and _is_there(first):
            self.waits.add("tolist")
        if func is Tensor.new_tensor:
            kwargs.setdefault("device", first.device)
            kwargs.setdefault("dtype", None)
            func, args = torch.tensor, args[1:]
        args, kwargs = tree_map(self._as_meta, (tuple(args), kwargs))
        if func in MAKERS and kwargs.get("device") == META:
            return self._make(func, args, kwargs)
        return func(*args, **kwargs)

    def _make(self, func: Function, args: Arguments, kwargs: Keywords) -> Tensor:
        """``torch.tensor(..., device=...)``: made on the CPU, then moved."""
        needs_grad = kwargs.pop("requires_grad", False)
        made = func(*args, **{**kwargs, "device": None if _is_there(args[0]) else CPU})
        return made.to(META).requires_grad_(needs_grad or made.requires_grad)

    def _as_meta(self, value: Any) -> Any:
        """A name of the pretended device, or the device itself, as the one PyTorch sees."""
        if isinstance(value, torch.device):
            return META if value.type == self.shown.type else value
        is_name = isinstance(value, str) and value.partition(":")[0] == self.shown.type
        return META if is_name else value


class _Backend:
    """What PyTorch asks a device."""

    def is_available(self) -> bool:
        """For ``torch.manual_seed``."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers come from the CPU."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """For ``torch.autocast``."""
        return [torch.float16, torch.bfloat16]


def register() -> torch.device:
    """Make the name ``pretend`` known to PyTorch, once a process; it cannot be taken back."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        torch.utils.rename_privateuse1_backend(NAME)
        torch._register_device_module(NAME, _Backend())
    return torch.device(NAME, 0)


@contextmanager
def pretended(name: str = NAME) -> Iterator[Waits]:
    """As long as the context lasts, the device ``pretend`` or ``cuda`` can be used.

    Args:
        name: what the tensors say.

    Yields:
        What counts the waits of the host.
    """
    shown = register() if name == NAME else torch.device(name, 0)
    waits = Waits()
    with _Operators(shown, waits), _Functions(shown, waits):
        yield waits
