"""Made-up folders of ONCE and of Waymo 2, in the layouts that the package tri3d reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

# ---- ONCE: x points to the left and y backwards; tri3d turns the frame to x forward, y left.

ONCE_CAR = (-4.0, -12.0, -1.0, 4.2, 1.8, 1.6, -1.2)  # in ONCE's own frame


def once_frame_points(rng: np.random.Generator) -> np.ndarray:
    """Thirty points in the car, two hundred below it all."""
    x, y, z, length, width, height, heading = ONCE_CAR
    local = rng.uniform(-0.4, 0.4, (30, 3)) * (length, width, height)
    cos = math.cos(heading)
    sin = math.sin(heading)
    inside = local @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + (x, y, z)
    ground = rng.uniform((-40, -40, -2.2), (40, 40, -2.0), (200, 3))
    places = np.concatenate([inside, ground])
    return np.column_stack([places, rng.uniform(0, 255, len(places))]).astype(np.float32)


def write_once(root: Path, split: str, num_frames: int = 4) -> None:
    """A sequence in which every second frame is labelled."""
    sequence = root / split / "data" / "000027"
    (sequence / "lidar_roof").mkdir(parents=True)
    frames = []
    for number in range(num_frames):
        frame_id = str(1616101100000 + 500 * number)
        points = once_frame_points(np.random.default_rng(number))
        points.tofile(sequence / "lidar_roof" / f"{frame_id}.bin")
        frame: dict[str, object] = {
            "frame_id": frame_id,
            "pose": [0.0, 0.0, 0.0, 1.0, float(number), 0.0, 0.0],
        }
        if number % 2 == 0:
            frame["annos"] = {"names": ["Car"], "boxes_3d": [list(ONCE_CAR)]}
        frames.append(frame)
    meta = {"calib": {}, "frames": frames}
    (sequence / "000027.json").write_text(json.dumps(meta))


# ---- Waymo 2: parquet files by component.

RECORD = "10017090168044687777_6380_000_6400_000"
TIMES_US = (1550083467346370, 1550083467446387)
HEIGHT, WIDTH = 8, 90
INCLINATIONS_RAD = np.linspace(-0.3, 0.02, HEIGHT)
MOUNT_M = (1.4, 0.0, 2.2)
HIT_COLUMNS = slice(30, 36)  # an object to the front left is hit in these columns
HIT_ROWS = slice(2, 6)
HIT_RANGE_M = 10.0
LASERS = 5


def waymo_box() -> tuple[np.ndarray, float]:
    """Middle and half width of the cube around the object's points, in the vehicle's frame."""
    rows, columns = np.mgrid[HIT_ROWS, HIT_COLUMNS]
    inclination = INCLINATIONS_RAD[::-1][rows.ravel()]
    azimuth = math.pi - 2 * math.pi / WIDTH * (columns.ravel() + 0.5)
    flat = HIT_RANGE_M * np.cos(inclination)
    points = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), HIT_RANGE_M * np.sin(inclination)], axis=1
    )
    points += MOUNT_M
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return middle, float(np.abs(points - middle).max()) + 0.05


def range_image() -> np.ndarray:
    """(HEIGHT, WIDTH, 4) range, intensity, elongation, zone; -1 where nothing was hit."""
    image = np.full((HEIGHT, WIDTH, 4), -1.0, dtype=np.float32)
    image[HIT_ROWS, HIT_COLUMNS, 0] = HIT_RANGE_M
    image[0, :, 0] = 30.0
    return image


def write_waymo(root: Path, split: str) -> None:
    """A record of two frames; the vehicle stands still, and only the top LiDAR sees something."""
    folder = root / split
    for name, rows in components().items():
        path = folder / name / f"{RECORD}.parquet"
        path.parent.mkdir(parents=True)
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)


def components() -> Mapping[str, list[dict[str, object]]]:
    """The rows of every component that tri3d opens."""
    times = [{"key.frame_timestamp_micros": time} for time in TIMES_US]
    lasers = [{"key.laser_name": number} for number in range(1, LASERS + 1)]
    return {
        "camera_box": [{"key.camera_name": 1}],
        "camera_image": [
            {"key.camera_name": 1, "[CameraImageComponent].pose_timestamp": time / 1e6}
            for time in TIMES_US
        ],
        "camera_segmentation": [{**times[0], "key.camera_name": 1}],
        "lidar_segmentation": [{**times[0], "key.laser_name": 1}],
        "lidar": [{**time, **laser, **_returns(laser)} for time in times for laser in lasers],
        "lidar_calibration": [{**laser, **_calibration()} for laser in lasers],
        "lidar_pose": [{**time, "key.laser_name": 1, **_pixel_poses()} for time in times],
        "vehicle_pose": [
            {
                **time,
                "[VehiclePoseComponent].world_from_vehicle.transform": np.eye(4).ravel().tolist(),
            }
            for time in times
        ],
        "lidar_box": [{**time, **_box(number)} for number, time in enumerate(times)],
    }


def _returns(laser: Mapping[str, int]) -> dict[str, object]:
    first = range_image()
    if laser["key.laser_name"] != 1:
        first[:] = -1
    second = np.full_like(first, -1)
    prefix = "[LiDARComponent].range_image_return"
    return {
        f"{prefix}1.values": first.ravel().tolist(),
        f"{prefix}1.shape": list(first.shape),
        f"{prefix}2.values": second.ravel().tolist(),
        f"{prefix}2.shape": list(second.shape),
    }


def _calibration() -> dict[str, object]:
    transform = np.eye(4)
    transform[:3, 3] = MOUNT_M
    prefix = "[LiDARCalibrationComponent]."
    return {
        f"{prefix}extrinsic.transform": transform.ravel().tolist(),
        f"{prefix}beam_inclination.values": INCLINATIONS_RAD.tolist(),
        f"{prefix}beam_inclination.min": float(INCLINATIONS_RAD[0]),
        f"{prefix}beam_inclination.max": float(INCLINATIONS_RAD[-1]),
    }


def _pixel_poses() -> dict[str, object]:
    poses = np.zeros((HEIGHT, WIDTH, 6), dtype=np.float32)
    prefix = "[LiDARPoseComponent].range_image_return1."
    return {f"{prefix}values": poses.ravel().tolist(), f"{prefix}shape": list(poses.shape)}


def _box(number: int) -> dict[str, object]:
    middle, half_m = waymo_box()
    values: dict[str, object] = {
        "key.laser_object_id": f"object-{number}",
        "[LiDARBoxComponent].type": 1,
        "[LiDARBoxComponent].box.heading": 0.0,
        "[LiDARBoxComponent].num_lidar_points_in_box": 24,
        "[LiDARBoxComponent].num_top_lidar_points_in_box": 24,
        "[LiDARBoxComponent].difficulty_level.detection": 1,
        "[LiDARBoxComponent].difficulty_level.tracking": 1,
    }
    for axis, place in zip("xyz", middle):
        values[f"[LiDARBoxComponent].box.center.{axis}"] = float(place)
        values[f"[LiDARBoxComponent].box.size.{axis}"] = 2 * half_m
        values[f"[LiDARBoxComponent].speed.{axis}"] = 0.0
        values[f"[LiDARBoxComponent].acceleration.{axis}"] = 0.0
    return values
