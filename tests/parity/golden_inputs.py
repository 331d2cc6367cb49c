"""Inputs of the recorded forward passes, rebuilt from the points in the golden folder."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.ops.voxels import voxelize


def load_scenes(golden_dir: Path, variant: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points (N, features) and boxes (G, 7 + C + 1) of every frame of a variant."""
    if variant == "public":
        return _public_scenes(golden_dir / "inputs_000008.npz")
    with np.load(golden_dir / f"inputs_{variant}.npz", allow_pickle=False) as data:
        frames = sum(name.startswith("points_") for name in data.files)
        return [(data[f"points_{frame}"], data[f"gt_{frame}"]) for frame in range(frames)]


def _public_scenes(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """A real frame with two boxes more, and its mirror image with every second point."""
    with np.load(file, allow_pickle=False) as data:
        points = data["points"]
        cars = _camera_to_lidar(data["boxes_camera_xyzlhwr"], data["R0"], data["Tr_velo2cam"])
    label = np.ones((len(cars), 1), np.float32)
    pedestrian = [12, 4, -0.7, 0.8, 0.6, 1.73, 0.3, 2]
    cyclist = [20, -6, -0.7, 1.76, 0.6, 1.73, -1.2, 3]
    added = np.array([pedestrian, cyclist], np.float32)
    boxes = np.concatenate([np.concatenate([cars, label], axis=1), added]).astype(np.float32)

    mirrored_points = points[::2].copy()
    mirrored_points[:, 1] *= -1
    mirrored_boxes = boxes[[0, 1, 3, 4, 7]].copy()
    mirrored_boxes[:, 1] *= -1
    mirrored_boxes[:, 6] *= -1
    return [(points, boxes), (mirrored_points, mirrored_boxes)]


def _camera_to_lidar(
    boxes: np.ndarray, rectification: np.ndarray, velodyne_to_camera: np.ndarray
) -> np.ndarray:
    """Boxes (x, y, z of the bottom, l, h, w, ry) of the camera in LiDAR coordinates."""
    rotation = (rectification @ velodyne_to_camera[:, :3]).astype(np.float64)
    shift = rectification @ velodyne_to_camera[:, 3]
    # Camera coordinates are rotation @ xyz + shift.
    offsets = (boxes[:, :3] - shift).astype(np.float64)
    centres = np.linalg.solve(rotation, offsets.T).T
    length, height, width, angle = boxes[:, 3:7].T
    centres[:, 2] += height / 2
    heading = -(angle + np.pi / 2)
    lidar_boxes = np.column_stack([centres, length, width, height, heading])
    return lidar_boxes.astype(np.float32)


def make_batch(
    scenes: list[tuple[np.ndarray, np.ndarray]], spec: DataSpec, max_points: int, max_voxels: int
) -> dict[str, np.ndarray | int]:
    """Range mask on x and y, voxels in the points' order, and collation."""
    frames = _mask(scenes, spec)
    voxels = []
    coords = []
    num_points = []
    for points, _ in frames:
        voxels_of_frame, coords_of_frame, counts = voxelize(
            points, spec.point_cloud_range, spec.voxel_size, max_points, max_voxels
        )
        voxels.append(voxels_of_frame)
        coords.append(coords_of_frame)
        num_points.append(counts)
    return {
        **_collate(frames),
        "voxels": np.concatenate(voxels),
        "voxel_coords": _with_frame(coords),
        "voxel_num_points": np.concatenate(num_points),
    }


def make_plain_batch(
    scenes: list[tuple[np.ndarray, np.ndarray]], spec: DataSpec
) -> dict[str, np.ndarray | int]:
    """Range mask on x and y, and collation: for a VFE that groups the points itself."""
    return _collate(_mask(scenes, spec))


def make_point_batch(
    scenes: list[tuple[np.ndarray, np.ndarray]], spec: DataSpec, num_points: int
) -> dict[str, np.ndarray | int]:
    """Range mask on x and y, points repeated and cut to the first ``num_points``, and collation."""
    frames = []
    for points, boxes in _mask(scenes, spec):
        repeats = math.ceil(num_points / len(points))
        repeated = np.tile(points, (repeats, 1))
        frames.append((repeated[:num_points], boxes))
    return _collate(frames)


def _mask(
    scenes: list[tuple[np.ndarray, np.ndarray]], spec: DataSpec
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points in the range and boxes of the classes."""
    limits = spec.point_cloud_range
    frames = []
    for points, boxes in scenes:
        x = points[:, 0]
        y = points[:, 1]
        x_inside = (x >= limits[0]) & (x <= limits[3])
        y_inside = (y >= limits[1]) & (y <= limits[4])
        known_class = boxes[:, -1] <= len(spec.class_names)
        frames.append((points[x_inside & y_inside], boxes[known_class]))
    return frames


def _collate(frames: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray | int]:
    """Points with their frame in front, and boxes filled up with zeros."""
    most_boxes = max(len(rows) for _, rows in frames)
    width = frames[0][1].shape[1]
    boxes = np.zeros((len(frames), most_boxes, width), np.float32)
    for frame, (_, rows) in enumerate(frames):
        boxes[frame, : len(rows)] = rows
    return {
        "points": _with_frame([points for points, _ in frames]),
        "gt_boxes": boxes,
        "batch_size": len(frames),
    }


def _with_frame(frames: list[np.ndarray]) -> np.ndarray:
    """Rows of all frames, the number of the frame in front."""
    numbered = [
        np.pad(rows, ((0, 0), (1, 0)), constant_values=number) for number, rows in enumerate(frames)
    ]
    return np.concatenate(numbered)
