"""Voxels of a batch against the voxelizer of one frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.batch_voxels import (
    BatchVoxels,
    VoxelRule,
    voxelize_batch,
    voxelize_batch_on_device,
)
from pcdet_distill.ops.voxels import voxelize

RANGE = [0, -1, 0, 4, 3, 2]
SIZE = [0.5, 0.4, 1.0]


def rule_of(max_points: int, max_voxels: int) -> VoxelRule:
    return VoxelRule(RANGE, SIZE, max_points, max_voxels)


def points_of(seed: int, sizes: list[int], channels: int = 5) -> Tensor:
    """Frames of these sizes as a view of a wider tensor.

    Coordinates with one decimal lie on the borders of cells; some are outside, infinite or NaN.
    """
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    points = rng.uniform(-1, 5, (total, channels)).astype(np.float32).round(1)
    points[::17, 1] = np.nan
    points[5::29, 0] = np.inf
    frame = np.repeat(np.arange(len(sizes)), sizes).astype(np.float32)
    wide = np.concatenate([frame[:, None], points, points], axis=1)
    return torch.from_numpy(wide)[:, : 1 + channels]


def expected_voxels(points: Tensor, batch_size: int, rule: VoxelRule) -> BatchVoxels:
    """Frame by frame."""
    parts = []
    for frame in range(batch_size):
        rows = points[points[:, 0] == frame, 1:].numpy()
        voxels, coords, counts = voxelize(rows, RANGE, SIZE, rule.max_points, rule.max_voxels)
        with_frame = np.insert(coords, 0, frame, axis=1)
        parts.append([torch.from_numpy(array) for array in (voxels, with_frame, counts)])
    return BatchVoxels(*(torch.cat(arrays) for arrays in zip(*parts)))


def assert_same_voxels(found: BatchVoxels, expected: BatchVoxels) -> None:
    for name in BatchVoxels._fields:
        one = getattr(found, name).cpu()
        torch.testing.assert_close(one, getattr(expected, name), rtol=0, atol=0)


SIZES = [[300], [0, 120, 0, 0, 200, 1], [0, 0]]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("max_points", "max_voxels"), [(3, 30), (1, 1), (40, 500)])
def test_numbers_of_the_voxelizer(
    sizes: list[int], max_points: int, max_voxels: int, device: torch.device
) -> None:
    rule = rule_of(max_points, max_voxels)
    points = points_of(1, sizes)
    expected = expected_voxels(points, len(sizes), rule)
    found = voxelize_batch(points.to(device), len(sizes), rule)
    assert_same_voxels(found, expected)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("max_points", "max_voxels"), [(3, 30), (1, 1), (40, 500)])
def test_numbers_of_the_plain_form(
    sizes: list[int],
    max_points: int,
    max_voxels: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    rule = rule_of(max_points, max_voxels)
    points = points_of(2, sizes)
    expected = expected_voxels(points, len(sizes), rule)
    found = voxelize_batch(points.to(device), len(sizes), rule)
    assert_same_voxels(found, expected)


def test_each_frame_has_its_own_limit() -> None:
    """Two voxels a frame; the third cell of frame 0 is dropped, its number is not missed."""
    x_of_frames = [(0, 0.1), (0, 0.6), (0, 1.1), (0, 0.2), (1, 1.1), (1, 0.1)]
    points = torch.tensor([[frame, x, 0.0, 0.0] for frame, x in x_of_frames])
    found = voxelize_batch_on_device(points, 2, rule_of(5, 2))
    assert found.coords[:, [0, 3]].tolist() == [[0, 0], [0, 1], [1, 2], [1, 0]]
    assert found.num_points.tolist() == [2, 1, 1, 1]
    np.testing.assert_allclose(found.voxels[0, :3, 0].numpy(), [0.1, 0.2, 0.0])


def test_points_stay_as_they_are() -> None:
    points = points_of(3, [50, 60])
    before = points.clone()
    voxelize_batch_on_device(points, 2, rule_of(4, 20))
    torch.testing.assert_close(points, before, rtol=0, atol=0, equal_nan=True)
