"""A CPU that says it is a GPU, and counts where the host would wait for the device.

Tensors of ``PretendGpu`` say that they are on ``cuda:0``. They hold a tensor of the CPU, which does
the work. So code runs the way it takes on CUDA, and every operator passes through one function,
which knows the operators that make the host wait. PyTorch calls the same ones synchronising in
``torch.cuda.set_sync_debug_mode``.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ATEN = torch.ops.aten
CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
# PyTorch without CUDA cannot run autograd on cuda tensors, but it can on meta tensors.
META = torch.device("meta")

# Their result is a number on the host, or its size depends on the values.
WAITING = {
    ATEN._local_scalar_dense.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN._unique2.default,
    ATEN.unique_dim.default,
    ATEN.unique_consecutive.default,
    ATEN.equal.default,
    ATEN.bincount.default,
}
INDEXING = {
    ATEN.index.Tensor,
    ATEN.index_put_.default,
    ATEN.index_put.default,
    ATEN._index_put_impl_.default,
}
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}


class PretendGpu(Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendGpu:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=META,
        )
        tensor.held = held
        return tensor

    @property
    def device(self) -> torch.device:
        """What the package sees."""
        return CUDA

    @property
    def is_cuda(self) -> bool:
        """What the package sees."""
        return True

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        raise AssertionError(f"{func} of a pretended GPU, outside of pretend_cuda()")


class Waits:
    """Where the host waited: (operator, line of code) -> times."""

    def __init__(self) -> None:
        self.places: Counter[tuple[str, str]] = Counter()

    def add(self, operator: str) -> None:
        """One more, at the innermost line of the package."""
        frames = [
            frame for frame in traceback.extract_stack() if "/pcdet_distill/" in frame.filename
        ]
        line = "outside of the package"
        if frames:
            _, _, file = frames[-1].filename.rpartition("/pcdet_distill/")
            line = f"{file}:{frames[-1].name}"
        self.places[operator, line] += 1

    @property
    def total(self) -> int:
        """All waits."""
        return sum(self.places.values())

    def by_function(self) -> dict[str, int]:
        """``file:function`` -> waits."""
        counts: Counter[str] = Counter()
        for (_, line), times in self.places.items():
            counts[line] += times
        return dict(counts)

    def table(self) -> str:
        """One line for each place, for messages."""
        lines = [
            f"{times:4d}  {operator}  {line}"
            for (operator, line), times in sorted(self.places.items(), key=str)
        ]
        return "\n".join(lines)


class _Dispatch(TorchDispatchMode):
    """Runs every operator on the CPU and wraps its results."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        on_gpu = any(isinstance(tensor, PretendGpu) for tensor in tensors_in((args, kwargs)))
        target = kwargs.get("device")
        goes_to_gpu = on_gpu if target is None else is_pretended(target)
        if must_wait(func, args, kwargs, on_gpu, goes_to_gpu):
            self.waits.add(str(func).removeprefix("aten."))
        held_args, held_kwargs = tree_map(_held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        if not goes_to_gpu:
            return result
        changed = _changed_argument(func, args)
        if changed is not None and isinstance(result, Tensor):
            return changed
        return tree_map(_wrapped, result)


class _Functions(TorchFunctionMode):
    """Translates cuda to meta on the way in."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func is torch.device:
            return func(*args, **kwargs)
        if func == Tensor.tolist and isinstance(first, PretendGpu):
            self.waits.add("tolist")
            return first.held.tolist()
        if func in (torch.tensor, torch.as_tensor) and not isinstance(first, Tensor):
            target = kwargs.pop("device", CPU)
            return func(*args, **kwargs).to(CPU if target is None else _as_meta(target))
        if func == Tensor.new_tensor and isinstance(first, PretendGpu):
            return first.held.new_tensor(*args[1:], **kwargs).to(META)
        args, kwargs = tree_map(_as_meta, (args, kwargs))
        return func(*args, **kwargs)


@contextmanager
def pretend_cuda() -> Iterator[Waits]:
    """Within the block ``.to("cuda")`` gives a PretendGpu; the result counts the waits."""
    waits = Waits()
    with _Dispatch(waits), _Functions(waits):
        yield waits


def tensors_in(tree: object) -> list[Tensor]:
    """All tensors of nested tuples, lists and dicts."""
    found: list[Tensor] = []

    def note(value: object) -> None:
        if isinstance(value, Tensor):
            found.append(value)

    tree_map(note, tree)
    return found


def is_pretended(device: torch.device | str) -> bool:
    """Whether a device means the pretended GPU."""
    return torch.device(device).type in ("cuda", "meta")


def must_wait(func: Any, args: tuple, kwargs: Mapping, on_gpu: bool, goes_to_gpu: bool) -> bool:
    """Whether the host waits for the device in this call."""
    if func in COPIES:
        source_on_gpu = isinstance(args[1] if func is ATEN.copy_.default else args[0], PretendGpu)
        if func is ATEN.copy_.default:
            goes_to_gpu = isinstance(args[0], PretendGpu)
        waits = not kwargs.get("non_blocking", False)
        return source_on_gpu != goes_to_gpu and waits
    if not on_gpu:
        return False
    if func is ATEN.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return func in WAITING or (func in INDEXING and _has_mask(func, args))


def _has_mask(func: Any, args: tuple) -> bool:
    """Whether an index is a mask; assigning one number needs no positions, so nothing waits."""
    masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
    if not masks:
        return False
    if func is ATEN.index.Tensor:
        return True
    return args[2].dim() > 0


def _changed_argument(func: Any, args: tuple) -> Tensor | None:
    """The argument that an operator writes to and returns."""
    for value, argument in zip(args, func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return value
    return None


def _held(value: Any) -> Any:
    if isinstance(value, PretendGpu):
        return value.held
    return CPU if isinstance(value, torch.device) and is_pretended(value) else value


def _wrapped(value: Any) -> Any:
    is_plain = isinstance(value, Tensor) and not isinstance(value, PretendGpu)
    return PretendGpu(value) if is_plain else value


def _as_meta(value: Any) -> Any:
    is_cuda_name = isinstance(value, str) and value.startswith("cuda")
    is_cuda_device = isinstance(value, torch.device) and value.type == "cuda"
    return META if is_cuda_name or is_cuda_device else value
