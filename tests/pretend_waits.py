"""Where the host would wait for the device, counted operator by operator.

PyTorch calls the same operators synchronising in ``torch.cuda.set_sync_debug_mode``.
"""

from __future__ import annotations

import inspect
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten
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
WITH_INDICES = {
    ATEN.index.Tensor,
    ATEN.index_put_.default,
    ATEN.index_put.default,
    ATEN._index_put_impl_.default,
}


class Waits:
    """Where the host waited: (operator, line of code) -> times."""

    def __init__(self) -> None:
        self.places: Counter[tuple[str, str]] = Counter()

    def add(self, operator: str) -> None:
        """One more, at the innermost line of the package."""
        line = "outside of the package"
        for frame, _ in traceback.walk_stack(inspect.currentframe()):
            _, package, file = frame.f_code.co_filename.rpartition("/pcdet_distill/")
            if package:
                line = f"{file}:{frame.f_code.co_name}"
                break
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


def must_wait(
    func: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    is_there: Callable[[object], bool],
    goes_there: bool,
) -> bool:
    """Whether the host waits for the device in this call.

    Args:
        func: the operator.
        args: its arguments.
        kwargs: those with names.
        is_there: whether a tensor is on the device.
        goes_there: whether the result is.
    """
    if func in (ATEN._to_copy.default, ATEN.copy_.default):
        source = args[1] if func is ATEN.copy_.default else args[0]
        return is_there(source) != goes_there and not kwargs.get("non_blocking", False)
    if not any(is_there(leaf) for leaf in tree_leaves((args, dict(kwargs)))):
        return False
    if func is ATEN.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return func in WAITING or (func in WITH_INDICES and _has_mask(func, args))


def _has_mask(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an index is a mask; assigning one number needs no positions, so nothing waits."""
    masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
    if not masks:
        return False
    return func is ATEN.index.Tensor or args[2].dim() > 0
