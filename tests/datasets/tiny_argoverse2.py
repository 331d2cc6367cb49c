"""A small folder in the layout of Argoverse 2's sensor data set, known to the last number.

The vehicle drives along the city's y axis with 10 m/s. In each sweep a parked bus is full of
points, and a pedestrian walks; a far sign has no points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather

STEP_NS = 100_000_000
START_NS = 315_966_000_000_000_000
SPEED_MPS = 10.0
BUS_IN_CITY = np.array([2.0, 30.0, 1.5])
HEADING_IN_CITY = 1.2
BUS_SIZE = (10.0, 2.5, 3.0)
VEHICLE_HEADING = math.pi / 2


def write_table(path: Path, columns: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.feather.write_feather(pyarrow.table(dict(columns)), path)


def timestamp(number: int) -> int:
    return START_NS + number * STEP_NS


def vehicle_at(number: int) -> np.ndarray:
    """Where the vehicle is in the city."""
    return np.array([1.0, SPEED_MPS * number * STEP_NS * 1e-9, 0.2])


def in_vehicle(place: np.ndarray, number: int) -> np.ndarray:
    """A place (..., 3) of the city in the vehicle's frame of a sweep."""
    offset = place - vehicle_at(number)
    cos = math.cos(VEHICLE_HEADING)
    sin = math.sin(VEHICLE_HEADING)
    x = cos * offset[..., 0] + sin * offset[..., 1]
    y = -sin * offset[..., 0] + cos * offset[..., 1]
    return np.stack([x, y, offset[..., 2]], axis=-1)


def bus_points(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points (count, 3) inside the bus, in the city."""
    local = rng.uniform(-0.45, 0.45, (count, 3)) * BUS_SIZE
    cos = math.cos(HEADING_IN_CITY)
    sin = math.sin(HEADING_IN_CITY)
    turned = local @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return turned + BUS_IN_CITY


def quaternion(heading: float) -> tuple[float, float, float, float]:
    return (math.cos(heading / 2), 0.0, 0.0, math.sin(heading / 2))


def box_row(number: int, name: str, place: np.ndarray, size: tuple, heading: float, points: int):
    return (timestamp(number), f"{name}-id", name, *size, *quaternion(heading), *place, points)


ANNOTATION_COLUMNS = (
    "timestamp_ns",
    "track_uuid",
    "category",
    "length_m",
    "width_m",
    "height_m",
    "qw",
    "qx",
    "qy",
    "qz",
    "tx_m",
    "ty_m",
    "tz_m",
    "num_interior_pts",
)


def annotation_rows(number: int) -> list[tuple]:
    """The labels of one sweep."""
    bus = in_vehicle(BUS_IN_CITY, number)
    walker = np.array([8.0, -3.0 + number * 0.1, 0.9])
    sign = np.array([60.0, 0.0, 2.0])
    return [
        box_row(number, "BUS", bus, BUS_SIZE, HEADING_IN_CITY - VEHICLE_HEADING, 40),
        box_row(number, "PEDESTRIAN", walker, (0.6, 0.7, 1.8), 0.5, 12),
        box_row(number, "STOP_SIGN", sign, (0.2, 0.8, 0.8), 0.0, 0),
    ]


def write_annotations(log: Path, rows: list[tuple]) -> None:
    columns = {name: list(values) for name, values in zip(ANNOTATION_COLUMNS, zip(*rows))}
    write_table(log / "annotations.feather", columns)


def write_sweep(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    bus = in_vehicle(bus_points(rng, 40), number)
    walker = np.array([8.0, -3.0 + number * 0.1, 0.9]) + rng.uniform(-0.2, 0.2, (12, 3))
    ground = rng.uniform((-40, -40, -0.6), (40, 40, -0.4), (300, 3))
    points = np.concatenate([bus, walker, ground]).astype(np.float32)
    columns = {
        "x": points[:, 0],
        "y": points[:, 1],
        "z": points[:, 2],
        "intensity": rng.integers(0, 256, len(points)).astype(np.uint8),
        "laser_number": rng.integers(0, 64, len(points)).astype(np.uint8),
        "offset_ns": np.arange(len(points), dtype=np.int32) * 1000,
    }
    write_table(path, columns)


def write_poses(log: Path, num_sweeps: int) -> None:
    rows = []
    for number in range(num_sweeps):
        rows.append((timestamp(number), *quaternion(VEHICLE_HEADING), *vehicle_at(number)))
    names = ("timestamp_ns", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
    columns = {name: list(values) for name, values in zip(names, zip(*rows))}
    write_table(log / "city_SE3_egovehicle.feather", columns)


def write_log(log: Path, num_sweeps: int, *, labelled: bool = True, flat: bool = False) -> Path:
    """A log; ``flat`` puts its sweeps beside its tables."""
    for number in range(num_sweeps):
        folder = log if flat else log / "sensors" / "lidar"
        write_sweep(folder / f"{timestamp(number)}.feather", number)
    write_poses(log, num_sweeps)
    if labelled:
        rows = [row for number in range(num_sweeps) for row in annotation_rows(number)]
        write_annotations(log, rows)
    return log


def write_folder(root: Path) -> Path:
    """The official layout: two logs to train on, one for validation, one test log."""
    write_log(root / "sensor" / "train" / "log-a", 3)
    write_log(root / "sensor" / "train" / "log-b", 2)
    write_log(root / "sensor" / "val" / "log-c", 2)
    write_log(root / "sensor" / "test" / "log-d", 1, labelled=False)
    return root
