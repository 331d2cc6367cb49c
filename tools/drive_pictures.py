"""A picture for docs/synthetic.md: a key frame of simulated nuScenes, and its sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcdet_distill.datasets.synthetic.nuscenes.drive import Drive, simulate_drive, sweep_times
from pcdet_distill.datasets.synthetic.nuscenes.turn import sensor_place
from pcdet_distill.datasets.synthetic.sensors.sensor_options import read_sensor
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.evaluation.nuscenes import CATEGORY_CLASS, DETECTION_NAMES
from pcdet_distill.visualize import BevPanel, draw_bev

SEED, SCENE, KEY_FRAMES, SWEEPS = 0, 20, 2, 10
RANGE = (-40.0, -16.0, -5.0, 40.0, 16.0, 3.0)


def draw_drive(file: Path) -> None:
    """The last key frame alone, and with the sweeps of the half second before it."""
    clouds: list[np.ndarray] = []
    sensor = read_sensor("lidar32")
    drive = simulate_drive(
        Streams(SEED, SCENE),
        sensor,
        sweep_times(KEY_FRAMES, SWEEPS, sensor.options.rate_hz),
        lambda _, points: clouds.append(points),
    )
    boxes, names = labels_ahead(drive)
    merged = [as_seen_last(drive, number, clouds[number]) for number in range(-SWEEPS, 0)]
    panels = [
        BevPanel("one key frame", boxes, names, points=merged[-1]),
        BevPanel(f"{SWEEPS} sweeps", boxes, names, points=np.concatenate(merged)),
    ]
    draw_bev(
        merged[-1],
        panels,
        file,
        point_cloud_range=RANGE,
        class_names=DETECTION_NAMES,
        dpi=72,
    )


def as_seen_last(drive: Drive, number: int, points: np.ndarray) -> np.ndarray:
    """A sweep in the coordinates of the last key frame, turned so that x looks ahead."""
    x, y, _, yaw = drive.ego_poses[number]
    place = sensor_place(np.array([x, y, yaw]), drive.plan.ground)
    ahead, left = points[:, 1], -points[:, 0]
    street = np.column_stack(
        [
            place[0] + np.cos(yaw) * ahead - np.sin(yaw) * left,
            place[1] + np.sin(yaw) * ahead + np.cos(yaw) * left,
            place[2] + points[:, 2],
        ]
    )
    return np.column_stack([into_last(drive, street), points[:, 3] / 255.0])


def into_last(drive: Drive, street: np.ndarray) -> np.ndarray:
    """Places (N, 3) of the street in the frame of the last key frame."""
    x, y, _, yaw = drive.ego_poses[-1]
    offset = street - sensor_place(np.array([x, y, yaw]), drive.plan.ground)
    return np.column_stack(
        [
            np.cos(yaw) * offset[:, 0] + np.sin(yaw) * offset[:, 1],
            np.cos(yaw) * offset[:, 1] - np.sin(yaw) * offset[:, 0],
            offset[:, 2],
        ]
    )


def labels_ahead(drive: Drive) -> tuple[np.ndarray, list[str]]:
    """Boxes (N, 7) and classes of the objects that the last key frame sees."""
    boxes = []
    names = []
    for seen in drive.sightings:
        actor = drive.plan.actors[seen.actor]
        name = CATEGORY_CLASS.get(actor.category)
        if seen.key_frame == KEY_FRAMES - 1 and seen.num_points and name:
            x, y, z, yaw = seen.pose
            (centre,) = into_last(drive, np.array([[x, y, z + actor.size_m[2] / 2]]))
            boxes.append([*centre, *actor.size_m, yaw - drive.ego_poses[-1, 3]])
            names.append(name)
    return np.array(boxes), names
