"""The precisions that are compared: float32 with and without TF32, bfloat16, float16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How a pass computes.

    Attributes:
        name: of the column.
        autocast: the dtype of torch.autocast; None: float32.
        tf32: whether tensor cores may round float32 to TF32. PyTorch's default leaves it on in
            convolutions.
    """

    name: str
    autocast: torch.dtype | None = None
    tf32: bool = False


FLOAT32 = Precision("float32")
PRECISIONS = (
    FLOAT32,
    Precision("TF32", tf32=True),
    Precision("bfloat16", autocast=torch.bfloat16),
    Precision("float16", autocast=torch.float16),
)


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Passes within the block compute in ``precision``."""
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    torch.backends.cudnn.allow_tf32 = precision.tf32
    torch.backends.cuda.matmul.allow_tf32 = precision.tf32
    try:
        enabled = precision.autocast is not None
        dtype = precision.autocast or torch.bfloat16
        with torch.autocast(device.type, dtype=dtype, enabled=enabled):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def grad_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling, which float16 needs and others do not."""
    enabled = precision.autocast is torch.float16
    return torch.amp.GradScaler(device.type, enabled=enabled)
