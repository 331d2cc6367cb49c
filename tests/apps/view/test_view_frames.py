"""A frame as it is shown: which points are left out, and which boxes."""

from __future__ import annotations

import numpy as np

from pcdet_distill.apps.view.frames import clean, thinned, view_frame
from pcdet_distill.apps.view.loaded import FrameBoxes, LoadedFrame
from pcdet_distill.datasets.readers import PointCloud

FEATURES = ("x", "y", "z", "intensity")


def scan(num_points: int = 1000) -> np.ndarray:
    random = np.random.RandomState(0)
    points = random.uniform([-50, -50, -2, 0], [50, 50, 2, 1], (num_points, 4))
    return points.astype(np.float32)


def loaded(points: np.ndarray) -> LoadedFrame:
    return LoadedFrame(PointCloud(points, FEATURES))


def test_bad_points_are_left_out_and_said():
    points = scan()
    points[3, 0] = np.nan
    points[7, 3] = np.inf
    cleaned = clean(loaded(points))
    assert cleaned.notes == ["2 of 1,000 points hold NaN or infinity, left out"]
    np.testing.assert_array_equal(cleaned.points, np.delete(points, [3, 7], axis=0)[:, :3])
    np.testing.assert_array_equal(cleaned.intensity, np.delete(points, [3, 7], axis=0)[:, 3])


def test_a_wild_point_does_not_spoil_the_others():
    points = scan()
    points[5, :3] = 1e30
    cleaned = clean(loaded(points))
    assert len(cleaned.points) == 999
    assert "1 points farther than 1000 m away left out" in cleaned.notes


def test_a_cloud_of_bad_points_alone_is_shown_empty_and_said():
    cleaned = clean(loaded(np.full((5, 4), np.nan, np.float32)))
    assert len(cleaned.points) == 0
    assert cleaned.notes[-1] == "it holds no points"


def test_two_million_points_are_thinned_evenly_and_said():
    """In a sensor's order: 64 beams after one another. No beam and no direction is preferred."""
    points = np.zeros((2_000_000, 4), np.float32)
    points[:, 0] = np.arange(2_000_000) % 64
    points[:, 1] = np.arange(2_000_000) / 20_000
    frame = view_frame("a", loaded(points), {}, max_points=31_250)
    assert frame.notes == ["31,250 of 2,000,000 points shown, drawn evenly"]
    assert len(frame.points) == len(frame.intensity) == 31_250
    of_beam = np.bincount(frame.points[:, 0].astype(int), minlength=64)
    assert of_beam.min() > 0.7 * 31_250 / 64
    of_direction, _ = np.histogram(frame.points[:, 1], bins=10)
    assert of_direction.min() > 0.9 * 3_125


def test_few_enough_points_stay_as_they_are():
    assert thinned(100, 100) is None
    assert len(np.unique(thinned(101, 100))) == 100


def test_points_in_boxes_are_counted_before_thinning():
    points = scan(100)
    points[:40, :3] = [10, 0, 0]
    box = np.array([[10.0, 0, 0, 2, 2, 2, 0.3]])
    boxes = {"truth": FrameBoxes(box, np.array(["Car"]))}
    frame = view_frame("a", loaded(points), boxes, max_points=10)
    inside = 40 + int((np.abs(points[40:, :3] - [10, 0, 0]) < 0.7).all(axis=1).sum())
    assert frame.boxes["truth"].num_points.tolist() == [inside]


def test_boxes_that_cannot_be_drawn_are_left_out_and_said():
    boxes = np.tile([1.0, 2, 0, 4, 2, 1, 0], (3, 1))
    boxes[0, 2] = np.nan
    boxes[1, 4] = 0.0
    found = FrameBoxes(boxes, np.array(["a", "b", "c"]), np.array([0.9, 0.8, 0.7]))
    frame = view_frame("a", loaded(scan()), {"student": found}, max_points=10_000)
    assert frame.boxes["student"].names == ["c"]
    assert frame.boxes["student"].scores.tolist() == [0.7]
    assert frame.notes == ["2 boxes of student with NaN or without a size left out"]
