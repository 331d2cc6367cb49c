"""Point operators equal the numbers recorded from OpenPCDet's kernels to the last bit."""

from __future__ import annotations

import math
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
    """All arrays of a file."""
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def cases(golden: dict[str, np.ndarray], kind: str) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The numbers in the name of every array of a kind, and the array; there must be one."""
    num_cases = 0
    for name, array in golden.items():
        match = re.fullmatch(PATTERNS[kind], name)
        if match is not None:
            num_cases += 1
            yield match.groups(), array
    assert num_cases


def tensors(golden: dict[str, np.ndarray], device: torch.device, *names: str) -> list[Tensor]:
    """Some arrays of a file, on the device of the test."""
    return [torch.from_numpy(golden[name]).to(device) for name in names]


def same(found: Tensor, recorded: np.ndarray) -> None:
    """Assert that every number is equal."""
    np.testing.assert_array_equal(found.cpu(), recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_every_array_is_checked(golden_file: Path) -> None:
    for name in load(golden_file):
        is_result = any(re.fullmatch(pattern, name) for pattern in PATTERNS.values())
        assert name in PARTS or is_result, name


@pytest.mark.golden("ops/point_ops*.npz")
def test_furthest_points(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    (xyz,) = tensors(golden, device, "fps_xyz")
    for (count,), recorded in cases(golden, "fps"):
        rows = ops.furthest_point_sample(xyz, int(count))
        same(rows, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_furthest_points_of_a_lattice_where_many_distances_are_equal(
    golden_file: Path, device: torch.device
) -> None:
    golden = load(golden_file)
    steps = torch.arange(9.0, device=device)
    lattice = torch.cartesian_prod(steps, steps, steps)[None]
    for (count,), recorded in cases(golden, "lattice"):
        rows = ops.furthest_point_sample(lattice, int(count))
        same(rows, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_furthest_points_of_a_stack(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    (xyz,) = tensors(golden, device, "fps_xyz")
    for numbers, recorded in cases(golden, "stack_fps"):
        first, second, *samples = map(int, numbers)
        rows = ops.stack_furthest_point_sample(xyz.reshape(-1, 3), [first, second], samples)
        same(rows, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_balls(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    xyz, centres = tensors(golden, device, "fps_xyz", "ball_new_xyz")
    for (radius, slots), recorded in cases(golden, "ball"):
        rows, _ = ops.ball_query(float(radius), int(slots), xyz, centres)
        same(rows, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_balls_of_a_stack(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    xyz, centres = tensors(golden, device, "fps_xyz", "ball_new_xyz")
    frames, points_per_frame, _ = xyz.shape
    _, centres_per_frame, _ = centres.shape
    # The recorded rows count from the first point of their frame.
    first_point = torch.arange(frames, device=device) * points_per_frame
    first_of_centre = first_point.repeat_interleave(centres_per_frame)[:, None]
    for (radius, slots), recorded in cases(golden, "stack_ball"):
        rows, found = ops.stack_ball_query(
            radius_m=float(radius),
            num_neighbors=int(slots),
            points=xyz.reshape(-1, 3),
            point_counts=[points_per_frame] * frames,
            centres=centres.reshape(-1, 3),
            centre_counts=[centres_per_frame] * frames,
        )
        same(found == 0, golden["stack_ball_empty"])
        rows_in_frame = torch.where(found[:, None] > 0, rows - first_of_centre, 0)
        same(rows_in_frame, recorded)


@pytest.mark.golden("ops/point_ops*.npz")
def test_interpolation(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    xyz, known, features = tensors(golden, device, "fps_xyz", "ball_new_xyz", "three_interp_feat")
    distance, rows = ops.three_nn(xyz, known)
    same(rows, golden["three_nn_idx"])
    # A GPU may round a root to the neighbouring number.
    units = 0 if device.type == "cpu" else 2
    np.testing.assert_array_max_ulp(distance.cpu().numpy(), golden["three_nn_dist"], units)
    weights = ops.interpolation_weights(distance)
    carried = ops.three_interpolate(features.transpose(1, 2), rows, weights)
    # Only every few points are recorded.
    recorded = golden["three_interp_out_sample"]
    stride = math.ceil(xyz.shape[1] / recorded.shape[2])
    sample = carried.transpose(1, 2)[:, :, ::stride]
    np.testing.assert_allclose(sample.cpu(), recorded, rtol=1e-6, atol=1e-6)


@pytest.mark.golden("ops/point_ops*.npz")
def test_roi_point_pooling(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    xyz, features, boxes = tensors(golden, device, "fps_xyz", "pool_feat", "pib_boxes")
    boxes_of_frames = boxes.expand(len(xyz), -1, -1)
    for (samples, width), recorded in cases(golden, "roipoint"):
        extra_width = [float(width)] * 3
        pooled, empty = roi_pooling.roipoint_pool3d(
            xyz, features, boxes_of_frames, int(samples), extra_width
        )
        same(pooled, recorded)
        same(empty, golden["roipoint_empty"])


@pytest.mark.golden("ops/point_ops*.npz")
def test_roi_aware_pooling(golden_file: Path, device: torch.device) -> None:
    golden = load(golden_file)
    xyz, features, boxes = tensors(golden, device, "fps_xyz", "pool_feat", "pib_boxes")
    for (*sizes, method), recorded in cases(golden, "roiaware"):
        pooled = roi_pooling.roiaware_pool3d(
            rois=boxes,
            points=xyz[0],
            features=features[0],
            out_size=[int(size) for size in sizes],
            max_points_per_voxel=128,
            pool_method=method,
        )
        np.testing.assert_allclose(pooled.cpu(), recorded, rtol=1e-6, atol=1e-7)
