"""Annotations that are empty, or that cannot be evaluated: the sentence names frame and key."""

from __future__ import annotations

import numpy as np
import pytest
from kitti_frames import CAR, curve, detected, frame, precision_at_0

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.kitti import kitti_eval


def test_no_frames_and_empty_frames_give_zero() -> None:
    empty = frame()
    assert kitti_eval([], [], ["Car"]).map() == 0
    assert kitti_eval([empty, empty], [empty, empty], ["Car"]).map() == 0


def test_empty_frames_among_others() -> None:
    """Frame 0 has a false positive, frame 1 a missed car, frame 2 a hit: 1 of 2 is right."""
    empty = frame()
    truth = [empty, frame(CAR), frame(CAR)]
    found = [detected(CAR), empty, detected(CAR)]
    result = kitti_eval(truth, found, ["Car", "Cyclist"])
    np.testing.assert_allclose(curve(result, "3d")[:2], [0.5, 0])
    precision_of_cyclists = result.precision["3d"][1]
    assert not precision_of_cyclists.any()


def test_a_frame_without_detections_as_openpcdet_writes_it() -> None:
    """There the names of no detections are an array of floats."""
    empty = {
        "name": np.zeros(0),
        "alpha": np.zeros(0),
        "rotation_y": np.zeros(0),
        "score": np.zeros(0),
        "bbox": np.zeros((0, 4)),
        "dimensions": np.zeros((0, 3)),
        "location": np.zeros((0, 3)),
    }
    result = kitti_eval([frame(CAR), frame(CAR)], [empty, detected(CAR)], ["Car"])
    assert precision_at_0(result, "3d") == 1


def test_unknown_classes_are_refused() -> None:
    words = "unknown class 'car'; did you mean 'Car'.*Pedestrian.*Truck"
    with pytest.raises(DataError, match=words):
        kitti_eval([frame(CAR)], [detected(CAR)], ["car"])
    with pytest.raises(DataError, match="unknown class 'Zebra'; known: Car, Cyclist"):
        kitti_eval([frame(CAR)], [detected(CAR)], ["Car", "Zebra"])


def test_detections_of_too_few_frames_are_refused() -> None:
    with pytest.raises(DataError, match="detections of 1 frames, expected the 2 frames"):
        kitti_eval([frame(CAR), frame(CAR)], [detected(CAR)], ["Car"])


def test_a_missing_key_is_named() -> None:
    lacking = frame(CAR)
    del lacking["score"]
    with pytest.raises(DataError, match="detections of frame number 1: key 'score' is missing"):
        kitti_eval([frame(CAR), frame(CAR)], [detected(CAR), lacking], ["Car"])
    with pytest.raises(DataError, match="ground truth of frame number 0: no 'name'"):
        kitti_eval([{}], [detected(CAR)], ["Car"])


def test_arrays_of_different_lengths_are_named() -> None:
    uneven = {**frame(CAR), "alpha": np.zeros(2)}
    words = "ground truth of frame number 0: 'alpha' has 2 rows, expected 1"
    with pytest.raises(DataError, match=words):
        kitti_eval([uneven], [detected(CAR)], ["Car"])
