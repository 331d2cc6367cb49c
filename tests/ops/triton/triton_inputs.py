"""Inputs of the kernels' tests: ragged stacks with ties, views that are not contiguous."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdet_distill.ops.stacks import Stack


def places(seed: int, count: int, device: torch.device, *, on_grid: bool) -> Tensor:
    """Coordinates (count, 3) in metres as a view of a wider tensor.

    On a grid of whole metres many points coincide and many distances are equal.
    """
    rng = np.random.default_rng(seed)
    wide = rng.uniform(-4, 4, (count, 5)).astype(np.float32)
    if on_grid:
        wide = np.round(wide / 2)
    return torch.from_numpy(wide).to(device)[:, 1:4]


def ragged(seed: int, sizes: list[int], device: torch.device, *, on_grid: bool) -> Stack:
    """A stack whose items have these sizes."""
    return Stack.of_counts(places(seed, sum(sizes), device, on_grid=on_grid), sizes)


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Assert that tensors are equal in every bit, type and device."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def features(
    seed: int, count: int, channels: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Random numbers (count, channels), every second column of a wider tensor."""
    rng = np.random.default_rng(seed)
    wide = torch.from_numpy(rng.normal(size=(count, 2 * channels)))
    return wide.to(device, dtype)[:, ::2]
