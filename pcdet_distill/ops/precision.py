"""Number formats in mixed precision training."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_PRECISION = (torch.float16, torch.bfloat16)


def at_least_float32(values: Tensor) -> Tensor:
    """``values`` as float32 where they are half precision, unchanged otherwise.

    Networks run in half precision under autocast. Boxes, distances and losses are computed in
    float32: float16 resolves only 3 cm at a distance of 60 m, and sums over many cells overflow it.
    """
    return values.float() if values.dtype in HALF_PRECISION else values
