"""Numbers of the host as tensors of a device, without waiting for it.

``torch.tensor(numbers, device="cuda")`` waits until the GPU has done all earlier work. A copy that
does not wait is safe here: CUDA has read numbers in ordinary memory before the call returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Numbers, or rows of numbers.
Numbers = Sequence[float] | Sequence[Sequence[float]]


def constant(
    numbers: Numbers, device: torch.device | str | None, dtype: torch.dtype | None = None
) -> Tensor:
    """``numbers`` on ``device`` (None: the CPU); without a dtype PyTorch chooses one for them."""
    return torch.tensor(numbers, dtype=dtype).to(device or "cpu", non_blocking=True)


def constant_like(numbers: Numbers, like: Tensor) -> Tensor:
    """``numbers`` with the dtype and on the device of ``like``."""
    return constant(numbers, like.device, like.dtype)
