"""Beams that are found in clouds: by KITTI's order of points, and by clustered elevations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.beams import beam_numbers, beams_by_elevation, beams_by_order
from pcdet_distill.datasets.synthetic.sensors.sensor_options import standard_sensor
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.errors import DataError

# KITTI's frames have another licence, so a folder of them is named from outside.
REAL = Path(os.environ.get("KITTI_FRAMES", "nowhere")) / "training/velodyne"


def true_beams(points: np.ndarray) -> np.ndarray:
    """(N,) beam of each simulated point: the elevation of its ray is exact to the millimetre."""
    elevation = np.arctan2(points[:, 2].astype(float), np.hypot(*points[:, :2].T.astype(float)))
    table = standard_sensor().elevations_rad
    return np.abs(elevation[:, None] - table).argmin(axis=1)


@pytest.mark.parametrize("frame", range(4))
def test_elevations_give_the_beams_of_a_simulated_cloud(frame: int) -> None:
    points = simulate_frame(0, frame)[1].points
    np.testing.assert_array_equal(beam_numbers(points, "elevation"), true_beams(points))


@pytest.mark.parametrize("frame", range(4))
def test_the_order_gives_the_rings_of_a_simulated_cloud(frame: int) -> None:
    """But for the one point that may start a ring a little to the right of straight ahead."""
    points = simulate_frame(0, frame)[1].points
    rings = beam_numbers(points, "order")
    expected = np.unique(true_beams(points), return_inverse=True)[1]
    assert (rings != expected).mean() < 0.001
    assert rings.max() == expected.max()


def test_clusters_follow_a_sensor_that_differs_from_its_table() -> None:
    table = np.deg2rad([2.0, 0.0, -2.0, -4.0])
    real = np.deg2rad([2.9, 0.95, -1.1, -3.05])
    beams = np.repeat(np.arange(4), 50)
    elevation = real[beams] + np.random.default_rng(0).normal(0, np.deg2rad(0.1), 200)
    points = np.column_stack([np.cos(elevation), np.zeros(200), np.sin(elevation)]) * 20.0
    nearest = np.abs(elevation[:, None] - table).argmin(axis=1)
    assert (nearest != beams).mean() > 0.1
    np.testing.assert_array_equal(beams_by_elevation(points, table), beams)


def test_rings_start_where_the_azimuth_falls() -> None:
    degrees = np.array([1, 30, 170, 190, 350, 2, 40, 5, 300, 200, 359])
    expected = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    angle = np.deg2rad(degrees)
    points = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(len(angle))])
    assert beams_by_order(points).tolist() == expected
    assert beams_by_order(points[:0]).tolist() == []


def test_points_in_no_order_are_refused() -> None:
    points = np.random.default_rng(0).normal(size=(2000, 3))
    with pytest.raises(DataError, match="rings by their order, and no sensor has more than 256"):
        beams_by_order(points)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs frames of KITTI")
def test_real_frames_have_the_46_beams_of_the_cameras_view() -> None:
    for file in sorted(REAL.glob("*.bin")):
        points = np.fromfile(file, dtype=np.float32).reshape(-1, 4)
        rings = beams_by_order(points)
        assert rings[-1] + 1 == 46
        elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
        medians = np.array([np.median(elevation[rings == ring]) for ring in range(46)])
        falls = np.diff(medians) < 0
        assert falls.mean() > 0.95
