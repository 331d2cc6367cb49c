"""Boxes with a velocity: it follows every augmentation of the scene."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.augmentor import DataAugmentor, DataBaseSampler
from pcdet_distill.datasets.augmentor.world import flip_along_axis, rotate_scene, scale_scene
from pcdet_distill.errors import DataError

ANGLES_RAD = st.floats(-np.pi, np.pi)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Points (2, 4) and boxes (3, 9).

    One box moves along its heading, one does not, and one has an unknown velocity.
    """
    points = [[1.0, 2.0, 0.0, 0.5], [-3.0, 4.0, 1.0, 0.1]]
    boxes = [
        [10, 2, -1, 4.0, 1.6, 1.5, 0.4, 5 * np.cos(0.4), 5 * np.sin(0.4)],
        [20, -5, -1, 0.8, 0.6, 1.7, -2.0, 2 * np.sin(2.0), 2 * np.cos(2.0)],
        [5, 5, -1, 4.0, 1.6, 1.5, 0.0, np.nan, np.nan],
    ]
    return np.array(points, dtype=np.float32), np.array(boxes, dtype=np.float32)


def forward_and_sideways(boxes: np.ndarray) -> np.ndarray:
    """(M, 2) velocity along the heading of each box, and to its left."""
    heading, velocity_x, velocity_y = boxes[:, 6:9].T
    cosine = np.cos(heading)
    sine = np.sin(heading)
    forward = cosine * velocity_x + sine * velocity_y
    sideways = cosine * velocity_y - sine * velocity_x
    return np.column_stack([forward, sideways])


@settings(max_examples=50, deadline=None)
@given(angle_rad=ANGLES_RAD)
def test_a_rotation_and_its_inverse_change_nothing(angle_rad: float) -> None:
    points, boxes = scene()
    rotate_scene(points, boxes, angle_rad)
    rotate_scene(points, boxes, -angle_rad)
    expected_points, expected_boxes = scene()
    np.testing.assert_allclose(points, expected_points, atol=1e-5)
    np.testing.assert_allclose(boxes, expected_boxes, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(angle_rad=ANGLES_RAD)
def test_a_rotation_keeps_the_velocity_relative_to_the_heading(angle_rad: float) -> None:
    points, boxes = scene()
    before = forward_and_sideways(boxes)
    rotate_scene(points, boxes, angle_rad)
    np.testing.assert_allclose(forward_and_sideways(boxes), before, atol=1e-5)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_flip_mirrors_the_velocity_too(axis: str) -> None:
    """Forward stays forward, and left becomes right; flipped twice, the scene is as before."""
    points, boxes = scene()
    before = forward_and_sideways(boxes)
    flip_along_axis(points, boxes, axis)
    np.testing.assert_allclose(forward_and_sideways(boxes), before * [1, -1], atol=1e-5)
    flip_along_axis(points, boxes, axis)
    _, expected_boxes = scene()
    np.testing.assert_allclose(boxes[:, 7:], expected_boxes[:, 7:])


def test_a_flip_by_hand() -> None:
    points, boxes = scene()
    flip_along_axis(points, boxes, "y")  # x becomes -x
    np.testing.assert_allclose(boxes[0, 7:], [-5 * np.cos(0.4), 5 * np.sin(0.4)], rtol=1e-6)


def test_a_scaling_scales_the_velocity_too() -> None:
    """A scene twice as large moves twice as far in a second."""
    points, boxes = scene()
    scale_scene(points, boxes, 2.0)
    _, boxes_before = scene()
    np.testing.assert_array_equal(boxes[:, 7:], 2 * boxes_before[:, 7:])
    np.testing.assert_array_equal(boxes[:, 6], boxes_before[:, 6])


def test_an_unknown_velocity_stays_unknown() -> None:
    points, boxes = scene()
    flip_along_axis(points, boxes, "x")
    rotate_scene(points, boxes, 0.3)
    scale_scene(points, boxes, 1.1)
    assert np.isnan(boxes[2, 7:]).all()
    assert np.isfinite(boxes[:, :7]).all()
    assert np.isfinite(boxes[:2]).all()


def test_a_translation_leaves_velocities_alone() -> None:
    points, boxes = scene()
    item = {"points": points, "gt_boxes": boxes, "gt_names": np.array(["Car"] * 3)}
    config = [{"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.2]}]
    augmentor = DataAugmentor(Path("."), config, ["Car"])
    item = augmentor.forward(item, np.random.RandomState(0))
    _, boxes_before = scene()
    np.testing.assert_array_equal(item["gt_boxes"][:, 7:], boxes_before[:, 7:])


def write_database(root: Path, box: list[float]) -> DataBaseSampler:
    """A sampler of one car with five points."""
    np.zeros((5, 4), dtype=np.float32).tofile(root / "car.bin")
    car = {"name": "Car", "path": "car.bin", "box3d_lidar": np.array(box), "num_points_in_gt": 5}
    (root / "dbinfos.pkl").write_bytes(pickle.dumps({"Car": [car]}))
    config = {
        "DB_INFO_PATH": ["dbinfos.pkl"],
        "SAMPLE_GROUPS": ["Car:1"],
        "NUM_POINT_FEATURES": 4,
        "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
    }
    return DataBaseSampler(root, config, ["Car"])


def item_with_velocities() -> dict:
    points, boxes = scene()
    return {"points": points, "gt_boxes": boxes, "gt_names": np.array(["Car", "Car", "Car"])}


def test_a_sampled_object_brings_its_velocity(tmp_path: Path) -> None:
    box = [40.0, 10.0, -1.0, 4.0, 1.6, 1.5, 0.0, 7.0, -1.0]
    item = item_with_velocities()
    write_database(tmp_path, box)(item, np.random.RandomState(0))
    np.testing.assert_array_equal(item["gt_boxes"][3], np.array(box, dtype=np.float32))


def test_a_database_without_velocities_is_refused(tmp_path: Path) -> None:
    sampler = write_database(tmp_path, [40.0, 10.0, -1.0, 4.0, 1.6, 1.5, 0.0])
    with pytest.raises(DataError, match="car.bin: its box has 7 numbers, expected 9"):
        sampler(item_with_velocities(), np.random.RandomState(0))


def test_a_scene_without_velocities_takes_objects_with_them(tmp_path: Path) -> None:
    sampler = write_database(tmp_path, [40.0, 10.0, -1.0, 4.0, 1.6, 1.5, 0.0, 7.0, -1.0])
    item = item_with_velocities()
    item["gt_boxes"] = item["gt_boxes"][:, :7]
    sampler(item, np.random.RandomState(0))
    assert item["gt_boxes"].shape == (4, 7)


def test_a_filter_by_difficulty_needs_difficulties(tmp_path: Path) -> None:
    write_database(tmp_path, [40.0, 10.0, -1.0, 4.0, 1.6, 1.5, 0.0])
    config = {
        "DB_INFO_PATH": ["dbinfos.pkl"],
        "PREPARE": {"filter_by_difficulty": [-1]},
        "SAMPLE_GROUPS": ["Car:1"],
        "NUM_POINT_FEATURES": 4,
        "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
    }
    with pytest.raises(DataError, match="filter_by_difficulty: an object of class Car has no"):
        DataBaseSampler(tmp_path, config, ["Car"])
