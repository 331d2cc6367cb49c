"""KITTI's evaluation on random frames: a naive oracle, and what must not change the result."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from kitti_frames import DIFFICULTIES, curve
from naive_kitti import Thing, precision_curve
from random_frames import annos, random_set

from pcdet_distill.evaluation.kitti import kitti_eval

MIN_OVERLAPS = {"Car": 0.7, "Pedestrian": 0.5}


def as_things(things: list[dict]) -> list[Thing]:
    """The same objects for the oracle, with numbers rounded as in an annotation."""
    converted = []
    for thing in things:
        bbox = np.float32(thing["bbox"]).tolist()
        score = float(np.float32(thing["score"]))
        converted.append(
            Thing(thing["name"], tuple(bbox), score, thing["occluded"], thing["truncated"])
        )
    return converted


@pytest.mark.parametrize("seed", range(8))
def test_image_curves_equal_the_naive_oracle(seed: int) -> None:
    truth, found = random_set(seed)
    result = kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])
    frames = [(as_things(things), as_things(hits)) for things, hits in zip(truth, found)]
    for class_index, (name, min_overlap) in enumerate(MIN_OVERLAPS.items()):
        for level in DIFFICULTIES:
            expected = precision_curve(frames, name, level, min_overlap)
            actual = curve(result, "bbox", level, class_index)
            np.testing.assert_allclose(actual, expected, atol=1e-12)
    assert result.precision["bbox"].max() > 0


def test_the_order_of_frames_and_of_classes_does_not_matter() -> None:
    truth, found = (annos(part) for part in random_set(20, frames=30))
    straight = kitti_eval(truth, found, ["Car", "Pedestrian"])
    back = kitti_eval(truth[::-1], found[::-1], ["Pedestrian", "Car"])
    assert straight.ap_dict == pytest.approx(back.ap_dict)


def moved(thing: dict, angle_rad: float, shift_m: tuple[float, float, float]) -> dict:
    """The object after a rotation of the whole scene around the camera, and a shift."""
    cos = math.cos(angle_rad)
    sin = math.sin(angle_rad)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    location = rotation @ np.array(thing["location"]) + np.array(shift_m)
    return {
        **thing,
        "location": tuple(location),
        "rotation_y": thing["rotation_y"] + angle_rad,
    }


def test_a_scene_seen_from_elsewhere_scores_the_same() -> None:
    """Rotating and shifting all ground boxes together keeps BEV and 3D precision."""
    truth, found = random_set(21, frames=30)

    def elsewhere(frames: list[list[dict]]) -> list[dict]:
        placed = []
        for things in frames:
            placed.append([moved(thing, 0.7, (3.0, 0.2, -2.0)) for thing in things])
        return annos(placed)

    here = kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])
    there = kitti_eval(elsewhere(truth), elsewhere(found), ["Car", "Pedestrian"])
    for metric in ("bev", "3d"):
        assert here.precision[metric].max() > 0
        np.testing.assert_allclose(there.precision[metric], here.precision[metric], atol=1e-9)


def test_inputs_stay_as_they_are() -> None:
    truth, found = (annos(part) for part in random_set(22))
    frames = truth + found
    before = copy.deepcopy(frames)
    kitti_eval(truth, found, ["Car"])
    for old_anno, anno in zip(before, frames):
        for key, old_values in old_anno.items():
            np.testing.assert_array_equal(anno[key], old_values)
