"""Estimate the ground of each frame from its points, for folders without ``training/planes``.

The ground is ``z = a x + b y + c`` in LiDAR coordinates. It is fitted to the lowest point of each
square metre in front of the car. Several fits follow one another, each to the points near the last
fit, with a smaller limit each time. Walls and roofs are above the ground and drop out.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...config import inside
from ...errors import DataError
from ...parallel import Workers, as_engine
from ..info_files import staging_folder
from .calibration import Calibration
from .folder import KittiFolder, check_root

STAGING = ".planes_unfinished"
MAX_FORWARD_M = 40.0
MAX_SIDEWAYS_M = 15.0
LIDAR_HEIGHT_M = 1.73  # above the road on KITTI's car: the first fit starts from it
LIMITS_M = (0.5, 0.3, 0.2, 0.15, 0.1)  # each fit uses the points this near to the last one
MIN_CELLS = 12


def create_road_planes(root: Path, workers: Workers = 1, show_progress: bool = True) -> int:
    """Write ``training/planes/<frame>.txt`` for every frame of ``training/velodyne``.

    Returns:
        the number of frames.
    """
    half = check_root(root) / "training"
    if (half / "planes").exists():
        raise DataError(
            f"{half / 'planes'}: exists already; remove it first to estimate the planes again"
        )
    frame_ids = sorted(path.stem for path in (half / "velodyne").glob("*.bin"))
    with staging_folder(half.parent, name=STAGING) as staging:
        _write_planes(root, staging, frame_ids, workers, show_progress)
        os.replace(staging, half / "planes")
    return len(frame_ids)


def _write_planes(
    root: Path, target: Path, frame_ids: list[str], workers: Workers, show_progress: bool
) -> None:
    task = partial(_write_plane, root, target)
    hidden = None if show_progress else True  # None: shown on a terminal only
    with as_engine(workers).results(task, frame_ids) as results:
        bar = tqdm(results, total=len(frame_ids), desc="road planes", unit="frame", disable=hidden)
        for _ in bar:
            pass


def _write_plane(root: Path, target: Path, frame_id: str) -> None:
    """Write the plane of one frame in the format of KITTI's plane files."""
    folder = KittiFolder(root, "train")
    points = folder.points(frame_id)
    plane = estimate_road_plane(points, folder.calibration(frame_id))
    numbers = " ".join(f"{value:.6e}" for value in plane)
    file = inside(target, f"{frame_id}.txt", "frame of a split")
    file.write_text(f"# Plane\nWidth 4\nHeight 1\n{numbers}\n")


def estimate_road_plane(points: np.ndarray, calib: Calibration) -> np.ndarray:
    """(4,) a, b, c, d of the ground in rect coordinates, from LiDAR points (N, 3+).

    The normal (a, b, c) has length 1 and points up.
    """
    slope_x, slope_y, height_m = _fit_ground(_lowest_of_cells(points))
    places = np.array([[0, 0], [20, 0], [0, 20]], dtype=np.float32)
    heights = places @ np.array([slope_x, slope_y]) + height_m
    on_ground = np.column_stack([places, heights]).astype(np.float32)
    origin, forward, left = calib.lidar_to_rect(on_ground).astype(np.float64)
    normal = np.cross(forward - origin, left - origin)
    points_down = normal[1] > 0  # y of the rect coordinates points down
    normal /= np.linalg.norm(normal) * (-1 if points_down else 1)
    return np.append(normal, -normal @ origin)


def _lowest_of_cells(points: np.ndarray) -> np.ndarray:
    """(K, 3) the lowest point of each square metre in front of the car."""
    x = points[:, 0]
    y = points[:, 1]
    is_near = (x > 0) & (x < MAX_FORWARD_M) & (np.abs(y) < MAX_SIDEWAYS_M)
    near = points[is_near, :3]
    near = near[np.argsort(near[:, 2], kind="stable")].astype(np.float64)
    # The points are sorted by height, so the first of a cell is its lowest.
    _, first = np.unique(np.floor(near[:, :2]), axis=0, return_index=True)
    return near[first]


def _fit_ground(cells: np.ndarray) -> np.ndarray:
    """(3,) slope along x, slope along y, height at the car, from points (K, 3).

    The result is a flat road under KITTI's car where too few points lie near one.
    """
    ground = np.array([0.0, 0.0, -LIDAR_HEIGHT_M])
    design = np.column_stack([cells[:, :2], np.ones(len(cells))])
    for limit_m in LIMITS_M:
        agrees = np.abs(cells[:, 2] - design @ ground) < limit_m
        if agrees.sum() < MIN_CELLS:
            break
        ground = np.linalg.lstsq(design[agrees], cells[agrees, 2], rcond=None)[0]
    return ground
