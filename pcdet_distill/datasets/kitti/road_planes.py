"""Estimate the ground of each frame from its points, for those who have not downloaded ``training/planes``.

The ground is ``z = a x + b y + c`` in LiDAR coordinates. It is fitted to the lowest points of one-metre cells near the
car, and refitted several times to the cells that agree with it: walls and roofs drop out, because they lie higher.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...errors import DataError
from .calibration import Calibration
from .folder import KittiFolder, check_root, read_points
from .kitti_infos import frame_results

STAGING = ".planes_unfinished"
MAX_FORWARD_M, MAX_ASIDE_M = 40.0, 15.0
LIDAR_HEIGHT_M = 1.73  # over the road, where KITTI's car carries it: the plane to start from
AGREEMENT_M = (0.5, 0.3, 0.2, 0.15, 0.1)  # how near to the last fit a cell must lie, fit by fit
LEAST_CELLS = 12


def create_road_planes(root: Path, workers: int = 1, show_progress: bool = True) -> int:
    """Write ``training/planes/<frame>.txt`` for every frame of ``training/velodyne``; returns how many."""
    half = check_root(root) / "training"
    if (half / "planes").exists():
        raise DataError(
            f"{half / 'planes'}: exists already; remove it first to estimate the planes again"
        )
    frame_ids = sorted(path.stem for path in (half / "velodyne").glob("*.bin"))
    staging = half / STAGING
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        with frame_results(partial(_write_plane, root, staging), frame_ids, workers) as results:
            hidden = None if show_progress else True  # None: shown on a terminal only
            list(
                tqdm(
                    results, total=len(frame_ids), desc="road planes", unit="frame", disable=hidden
                )
            )
        os.replace(staging, half / "planes")
    except OSError as error:
        raise DataError(f"{half}: cannot be written: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(frame_ids)


def estimate_road_plane(points: np.ndarray, calib: Calibration) -> np.ndarray:
    """(4,) a, b, c, d of the ground in rect coordinates, unit normal pointing up, from LiDAR points (N, 3+)."""
    slope_x, slope_y, height_m = _fit_ground(_lowest_of_cells(points))
    corners = np.array([[0, 0], [20, 0], [0, 20]], dtype=np.float32)
    on_ground = np.column_stack(
        [corners, corners @ np.array([slope_x, slope_y]) + height_m]
    ).astype(np.float32)
    first, forward, aside = calib.lidar_to_rect(on_ground).astype(np.float64)
    normal = np.cross(forward - first, aside - first)
    normal /= np.linalg.norm(normal) * (-1 if normal[1] > 0 else 1)
    return np.append(normal, -normal @ first)


def _lowest_of_cells(points: np.ndarray) -> np.ndarray:
    """(K, 3) the lowest point of each square metre before the car."""
    near = points[
        (points[:, 0] > 0) & (points[:, 0] < MAX_FORWARD_M) & (np.abs(points[:, 1]) < MAX_ASIDE_M),
        :3,
    ]
    near = near[np.argsort(near[:, 2], kind="stable")].astype(np.float64)
    _, first = np.unique(np.floor(near[:, :2]), axis=0, return_index=True)
    return near[first]


def _fit_ground(cells: np.ndarray) -> np.ndarray:
    """(3,) slope along x, slope along y, height at the car; the flat default where too few cells agree."""
    ground = np.array([0.0, 0.0, -LIDAR_HEIGHT_M])
    design = np.column_stack([cells[:, :2], np.ones(len(cells))])
    for limit_m in AGREEMENT_M:
        agrees = np.abs(cells[:, 2] - design @ ground) < limit_m
        if agrees.sum() < LEAST_CELLS:
            break
        ground = np.linalg.lstsq(design[agrees], cells[agrees, 2], rcond=None)[0]
    return ground


def _write_plane(root: Path, target: Path, frame_id: str) -> None:
    """Write the plane of one frame in the format of KITTI's plane files."""
    folder = KittiFolder(root, "train")
    points = read_points(folder.half / "velodyne" / f"{frame_id}.bin")
    plane = estimate_road_plane(points, folder.calibration(frame_id))
    numbers = " ".join(f"{value:.6e}" for value in plane)
    (target / f"{frame_id}.txt").write_text(f"# Plane\nWidth 4\nHeight 1\n{numbers}\n")
