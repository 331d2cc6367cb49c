"""Point operators equal the numbers recorded from OpenPCDet's kernels to the last bit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdet_distill.ops import point_sampling as ops
from pcdet_distill.ops import roi_pooling

PARTS = {
    "three_nn_dist",
    "three_nn_idx",
    "three_interp_feat",
    "three_interp_out_sample",
    "stack_ball_empty",
    "roipoint_empty",
    "fps_xyz",
    "ball_new_xyz",
    "pib_boxes",
    "pool_feat",
    "points_in_boxes_gpu",
    "points_in_boxes_cpu",
}
PATTERNS = {
    "fps": r"fps_idx_(\d+)",
    "lattice": r"fps_lattice_idx_(\d+)",
    "stack_fps": r"fps_stack_idx_(\d+)_(\d+)_to_(\d+)_(\d+)",
    "ball": r"ball_idx_r([\d.]+)_n(\d+)",
    "stack_ball": r"stack_ball_idx_r([\d.]+)_n(\d+)",
    "roipoint": r"roipoint_pool_(\d+)_w([\d.]+)",
    "roiaware": r"roiaware_pool_(\d+)x(\d+)x(\d+)_(max|avg)",
}


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def cases(golden: dict[str, np.ndarray], kind: str) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The numbers in the name of every array of a kind, and the array; there must be one."""
    found = [
        (match.groups(), golden[name])
        for name in golden
        if (match := re.fullmatch(PATTERNS[kind], name))
    ]
    assert found
    yield from found


def tensors(golden: dict[str, np.ndarray], *names: str) -> list[Tensor]:
    return [torch.from_numpy(golden[name]) for name in names]


@pytest.mark.golden("ops/point_ops*.npz")
def test_every_array_is_checked(golden_file: Path) -> None:
    for name in load(golden_file):
        is_result = any(re.fullmatch(pattern, name) for pattern in PATTERNS.values())
        assert name in PARTS or is_result, name


@pytest.mark.golden("ops/point_ops*.npz")
def test_furthest_points(golden_file: Path) -> None:
    golden = load(golden_file)
    (xyz,) = tensors(golden, "fps_xyz")
    for (count,), recorded in cases(golden, "fps"):
        np.testing.assert_array_equal(ops.furthest_point_sample(xyz, int(count)), recorded)
    lattice = (
        np.stack(np.meshgrid(*[np.arange(9)] * 3, indexing="ij"), axis=-1)
        .reshape(1, -1, 3)
        .astype(np.float32)
    )
    for (count,), recorded in cases(golden, "lattice"):
        np.testing.assert_array_equal(
            ops.furthest_point_sample(torch.from_numpy(lattice), int(count)), recorded
        )
    for numbers, recorded in cases(golden, "stack_fps"):
        first, second, *samples = map(int, numbers)
        got = ops.stack_furthest_point_sample(xyz.reshape(-1, 3), [first, second], samples)
        np.testing.assert_array_equal(got, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_balls(golden_file: Path) -> None:
    golden = load(golden_file)
    xyz, centres = tensors(golden, "fps_xyz", "ball_new_xyz")
    for (radius, slots), recorded in cases(golden, "ball"):
        rows, _ = ops.ball_query(float(radius), int(slots), xyz, centres)
        np.testing.assert_array_equal(rows, recorded)
    counts = [xyz.shape[1]] * len(xyz)
    centre_counts = [centres.shape[1]] * len(xyz)
    for (radius, slots), recorded in cases(golden, "stack_ball"):
        rows, found = ops.stack_ball_query(
            float(radius),
            int(slots),
            xyz.reshape(-1, 3),
            counts,
            centres.reshape(-1, 3),
            centre_counts,
        )
        first = torch.repeat_interleave(torch.arange(len(xyz)) * xyz.shape[1], centres.shape[1])
        np.testing.assert_array_equal(found == 0, golden["stack_ball_empty"])
        np.testing.assert_array_equal(
            torch.where(found[:, None] > 0, rows - first[:, None], 0), recorded
        )


@pytest.mark.golden("ops/point_ops*.npz")
def test_interpolation(golden_file: Path) -> None:
    golden = load(golden_file)
    xyz, known, features = tensors(golden, "fps_xyz", "ball_new_xyz", "three_interp_feat")
    distance, rows = ops.three_nn(xyz, known)
    np.testing.assert_array_equal(rows, golden["three_nn_idx"])
    np.testing.assert_array_equal(distance, golden["three_nn_dist"])
    carried = ops.three_interpolate(
        features.transpose(1, 2), rows, ops.interpolation_weights(distance)
    )
    recorded = golden["three_interp_out_sample"]
    stride = -(-xyz.shape[1] // recorded.shape[2])
    np.testing.assert_allclose(
        carried.transpose(1, 2)[:, :, ::stride], recorded, rtol=1e-6, atol=1e-6
    )


@pytest.mark.golden("ops/point_ops*.npz")
def test_roi_point_pooling(golden_file: Path) -> None:
    golden = load(golden_file)
    xyz, features, boxes = tensors(golden, "fps_xyz", "pool_feat", "pib_boxes")
    for (samples, width), recorded in cases(golden, "roipoint"):
        pooled, empty = roi_pooling.roipoint_pool3d(
            xyz, features, boxes.expand(len(xyz), -1, -1), int(samples), [float(width)] * 3
        )
        np.testing.assert_array_equal(pooled, recorded)
        np.testing.assert_array_equal(empty, golden["roipoint_empty"])


@pytest.mark.golden("ops/point_ops*.npz")
def test_roi_aware_pooling(golden_file: Path) -> None:
    golden = load(golden_file)
    xyz, features, boxes = tensors(golden, "fps_xyz", "pool_feat", "pib_boxes")
    for (*sizes, method), recorded in cases(golden, "roiaware"):
        pooled = roi_pooling.roiaware_pool3d(
            boxes, xyz[0], features[0], [int(size) for size in sizes], 128, method
        )
        np.testing.assert_allclose(pooled, recorded, rtol=1e-6, atol=1e-7)
