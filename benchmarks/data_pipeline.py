"""Speed of the data pipeline: voxels by hash table or dense grid, objects from memory or files.

    python benchmarks/data_pipeline.py [--points FILE.bin]

Prints milliseconds of both ways, measured in turns in one run, and their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numba
import numpy as np

from pcdet_distill.datasets.augmentor.object_database import ObjectPoints
from pcdet_distill.datasets.point_files import read_points
from pcdet_distill.ops.voxels import grid_size_of, voxelize

GRIDS = {
    "pillars 0.16 m": ([0, -39.68, -3, 69.12, 39.68, 1], [0.16, 0.16, 4], 32, 40000),
    "voxels 0.05 m": ([0, -40, -3, 70.4, 40, 1], [0.05, 0.05, 0.1], 5, 40000),
}
OBJECTS_PER_ITEM = 30  # what a KITTI config draws


@numba.njit
def dense_grid_voxels(points, lower, size, grid, max_points, max_voxels):
    """The published way: a dense map from cell to row and room for all voxels, for each frame."""
    row_of_cell = np.full((grid[2], grid[1], grid[0]), -1, dtype=np.int32)
    voxels = np.zeros((max_voxels, max_points, points.shape[1]), dtype=np.float32)
    coords, counts = np.zeros((max_voxels, 3), dtype=np.int32), np.zeros(max_voxels, dtype=np.int32)
    rows = 0
    for point in points:
        x = np.floor((point[0] - lower[0]) / size[0])
        y = np.floor((point[1] - lower[1]) / size[1])
        z = np.floor((point[2] - lower[2]) / size[2])
        if not (x >= 0 and x < grid[0] and y >= 0 and y < grid[1] and z >= 0 and z < grid[2]):
            continue
        row = row_of_cell[int(z), int(y), int(x)]
        if row < 0:
            if rows >= max_voxels:
                continue
            row = rows
            row_of_cell[int(z), int(y), int(x)] = row
            coords[row, 0], coords[row, 1], coords[row, 2] = z, y, x
            rows += 1
        if counts[row] < max_points:
            voxels[row, counts[row]] = point
            counts[row] += 1
    return voxels[:rows].copy(), coords[:rows].copy(), counts[:rows].copy()


def milliseconds(
    ways: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median time of each way; the ways take turns, so that a busy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start = clock()
            way()
            times[name].append(1e3 * (clock() - start))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def simulated_points(count: int = 18000) -> np.ndarray:
    """(N, 4) points that thin out with the distance, as a turning LiDAR's do."""
    random = np.random.RandomState(0)
    distance_m, angle_rad = 4 + 60 * random.beta(1, 4, count), random.uniform(-0.7, 0.7, count)
    xyz = [
        distance_m * np.cos(angle_rad),
        distance_m * np.sin(angle_rad),
        random.normal(-1.5, 0.5, count),
    ]
    return np.column_stack([*xyz, random.uniform(0, 1, count)]).astype(np.float32)


def report(title: str, slow: str, fast: str, times: dict[str, float]) -> None:
    """One line of the table."""
    ratio = times[slow] / times[fast]
    cells = [f"{way} {times[way]:8.2f} ms" for way in (slow, fast)]
    print(f"{title:22s} {'   '.join(cells)}   {ratio:6.1f} times faster")


def compare_voxelizers(points: np.ndarray) -> None:
    """Both voxelizers on the same points, after checking that they agree."""
    for title, (limits, size, max_points, max_voxels) in GRIDS.items():
        lower, edges = np.array(limits[:3], np.float32), np.array(size, np.float32)
        dense = partial(
            dense_grid_voxels,
            points,
            lower,
            edges,
            grid_size_of(limits, size),
            max_points,
            max_voxels,
        )
        ways = {
            "dense": dense,
            "hash": partial(voxelize, points, limits, size, max_points, max_voxels),
        }
        for one, other in zip(ways["dense"](), ways["hash"]()):
            np.testing.assert_array_equal(one, other)
        report(title, "dense", "hash", milliseconds(ways, 10))


def compare_object_reading() -> None:
    """Points of one item's sampled objects, from (cached) files and from memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = [f"{number}.bin" for number in range(OBJECTS_PER_ITEM)]
        for name in names:
            np.zeros((100, 4), dtype=np.float32).tofile(root / name)
        kept = ObjectPoints(root, 4)
        ways = {
            "files": lambda: [read_points(root / name) for name in names],
            "memory": lambda: [kept.read(name).copy() for name in names],
        }
        report(f"{OBJECTS_PER_ITEM} sampled objects", "files", "memory", milliseconds(ways, 30))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=Path, help="a KITTI .bin file; default: simulated points")
    args = parser.parse_args()
    points = simulated_points() if args.points is None else read_points(args.points)
    print(f"{len(points)} points")
    compare_voxelizers(points)
    compare_object_reading()


if __name__ == "__main__":
    main()
