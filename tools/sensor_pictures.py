"""A picture for docs/synthetic.md: one simulated scene, as four sensors see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.scan import scan
from pcdet_distill.datasets.synthetic.sensors.sensor_options import read_sensor
from pcdet_distill.datasets.synthetic.streams import Streams
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.visualize import (
    BACKGROUND,
    BevPanel,
    Limits,
    colours_of,
    draw_panel,
    draw_points,
    import_pyplot,
    prepare_axis,
)

SENSORS = ("hdl64e", "lidar32", "vlp16", "solid_state")
SEED = 3
LIMITS = Limits(0.0, -12.8, 44.8, 12.8)
CLASSES = ("Car", "Pedestrian", "Cyclist", "Van", "Truck")


def draw_sensors(file: Path, frame: int) -> None:
    """The points of each sensor from above, with the boxes of all road users in view."""
    plt = import_pyplot()
    scene, _ = simulate_frame(SEED, frame)
    colours = colours_of(CLASSES)
    figure, axes = plt.subplots(
        1, 4, figsize=(12.0, 6.0), facecolor=BACKGROUND, layout="constrained"
    )
    poses = scene.instances.poses
    sizes_m = scene.instances.sizes_m
    shown = [index for index, label in enumerate(scene.labels) if label in CLASSES]
    centres = poses[shown, :3] + sizes_m[shown] * [0.0, 0.0, 0.5]
    boxes = np.column_stack([centres, sizes_m[shown], poses[shown, 3]])
    names = [str(scene.labels[index]) for index in shown]
    for axis, name in zip(axes, SENSORS):
        random = Streams(SEED, frame).of(name)
        points = scan(scene, read_sensor(name), Camera.standard(), random).points
        prepare_axis(axis, f"{name}: {len(points)} points", LIMITS)
        draw_points(axis, points, LIMITS, point_size=1.2)
        draw_panel(axis, BevPanel(name, boxes, names), colours, LIMITS, metres_per_point=0.1)
    figure.savefig(file, dpi=80, facecolor=BACKGROUND)
    plt.close(figure)
