"""Data sets with deliberately spoiled labels: every spoiling is named, the healthy one is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from doctor_toys import ToyData, alarms, find, named

from pcdet_distill.apps.doctor import Severity

BoxSpoiling = Callable[[np.ndarray], np.ndarray]
LABEL_CHECKS = (
    "box_values",
    "box_points",
    "scene_frame",
    "frame_labels",
    "headings",
    "heights",
    "box_sizes",
    "double_boxes",
)


def spoiled(
    frames: ToyData, spoil: BoxSpoiling, only: str | None = None, share: float = 1.0
) -> ToyData:
    """A copy with the boxes of all classes, or of one, or of a random share spoiled."""
    data = frames.copy()
    random = np.random.default_rng(1)
    for frame in data.frames:
        chosen = random.random(len(frame.boxes)) < share
        if only is not None:
            chosen &= frame.names == only
        frame.boxes[chosen] = spoil(frame.boxes[chosen].copy())
    return data


def column(number: int, function: BoxSpoiling) -> BoxSpoiling:
    """Replace one column of the boxes."""

    def spoil(boxes: np.ndarray) -> np.ndarray:
        boxes[:, number] = function(boxes)
        return boxes

    return spoil


def order(*places: int) -> BoxSpoiling:
    """Write the sizes in another order."""

    def spoil(boxes: np.ndarray) -> np.ndarray:
        boxes[:, 3:6] = boxes[:, 3:6][:, list(places)]
        return boxes

    return spoil


def scale(factor: float) -> BoxSpoiling:
    """Multiply the sizes."""

    def spoil(boxes: np.ndarray) -> np.ndarray:
        boxes[:, 3:6] *= factor
        return boxes

    return spoil


def places(
    function: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> BoxSpoiling:
    """Replace x and y."""

    def spoil(boxes: np.ndarray) -> np.ndarray:
        x, y = function(boxes[:, 0].copy(), boxes[:, 1].copy())
        boxes[:, 0], boxes[:, 1] = x, y
        return boxes

    return spoil


def camera(boxes: np.ndarray) -> np.ndarray:
    """KITTI's camera coordinates."""
    moved = boxes.copy()
    moved[:, 0] = -boxes[:, 1]
    moved[:, 1] = -boxes[:, 2] + boxes[:, 5] / 2
    moved[:, 2] = boxes[:, 0]
    moved[:, 6] = -boxes[:, 6] - np.pi / 2
    return moved


def rear(boxes: np.ndarray) -> np.ndarray:
    """The rear end as the place of a box."""
    boxes[:, 0] -= boxes[:, 3] / 2 * np.cos(boxes[:, 6])
    boxes[:, 1] -= boxes[:, 3] / 2 * np.sin(boxes[:, 6])
    return boxes


def test_healthy_labels_are_not_reported(frames: ToyData) -> None:
    assert alarms(find(frames.copy(), checks=LABEL_CHECKS)) == []


WRONG = {
    "negated": (column(6, lambda b: -b[:, 6]), "headings", "negated"),
    "from y": (column(6, lambda b: b[:, 6] + np.pi / 2), "headings", "count from the y axis"),
    "rotation_y": (column(6, lambda b: -b[:, 6] - np.pi / 2), "headings", "rotation_y"),
    "width, length": (order(1, 0, 2), "headings", "length and width are swapped"),
    "degrees": (column(6, lambda b: np.degrees(b[:, 6])), "box_values", "degrees"),
    "no headings": (column(6, lambda b: 0 * b[:, 6]), "headings", "heading 0.00"),
    "height first": (order(2, 1, 0), "box_sizes", "read as height, width, length"),
    "height second": (order(0, 2, 1), "box_sizes", "read as length, height, width"),
    "length last": (order(1, 2, 0), "box_sizes", "read as width, height, length"),
    "height, length": (order(2, 0, 1), "box_sizes", "read as height, length, width"),
    "half sizes": (scale(0.5), "box_sizes", "half of what they should be"),
    "double sizes": (scale(2.0), "box_sizes", "too large"),
    "centimetres": (scale(100.0), "box_values", "not metres"),
    "z of bottom": (column(2, lambda b: b[:, 2] - b[:, 5] / 2), "heights", "of the bottom"),
    "z of top": (column(2, lambda b: b[:, 2] + b[:, 5] / 2), "heights", "of the top"),
    "ground at 0": (column(2, lambda b: b[:, 2] + 1.73), "heights", "another coordinate frame"),
    "higher": (column(2, lambda b: b[:, 2] + 0.5), "heights", "above the ground"),
    "turned": (places(lambda x, y: (y, -x)), "scene_frame", "different axes"),
    "backwards": (places(lambda x, y: (-x, -y)), "scene_frame", "turned by 180 degrees"),
    "mirrored": (places(lambda x, y: (x, -y)), "scene_frame", "y of the boxes is negated"),
    "swapped": (places(lambda x, y: (y, x)), "scene_frame", "are swapped"),
    "camera": (camera, "scene_frame", "camera coordinates"),
    "shifted": (places(lambda x, y: (x + 1, y)), "scene_frame", "moved by -1 m along x"),
    "rear": (rear, "scene_frame", "rear end"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_convention_is_named(frames: ToyData, name: str) -> None:
    spoil, check, words = WRONG[name]
    findings = find(spoiled(frames, spoil), checks=LABEL_CHECKS)
    least = Severity.WARNING if name == "no headings" else Severity.ERROR
    assert named(findings, check, least, words), alarms(findings)


@pytest.mark.parametrize("name", ["negated", "z of bottom", "height first", "shifted"])
def test_it_is_the_only_geometry_that_is_reported(frames: ToyData, name: str) -> None:
    spoil, check, _ = WRONG[name]
    findings = find(spoiled(frames, spoil), checks=("scene_frame", "headings", "heights"))
    assert {finding.check for finding in alarms(findings)} <= {check}


def test_one_class_alone_is_named(frames: ToyData) -> None:
    swapped = find(spoiled(frames, order(1, 0, 2), only="Car"), checks=("headings",))
    assert named(swapped, "headings", Severity.ERROR, "class Car,", "swapped")
    sunk = column(2, lambda boxes: boxes[:, 2] - boxes[:, 5] / 2)
    lowered = find(spoiled(frames, sunk, only="Pedestrian"), checks=("heights",))
    assert named(lowered, "heights", Severity.ERROR, "class Pedestrian,")


def test_some_boxes_among_right_ones_are_named(frames: ToyData) -> None:
    turned = find(spoiled(frames, order(1, 0, 2), share=0.2), checks=LABEL_CHECKS)
    assert named(turned, "headings", Severity.WARNING, "class Car", "conventions")
    assert named(turned, "box_sizes", Severity.WARNING, "class Cyclist", "swapped")


def test_labels_of_the_next_frame_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for part in (data.train, data.val):
        boxes = [frame.boxes for frame in part]
        names = [frame.names for frame in part]
        for number, frame in enumerate(part):
            frame.boxes = boxes[(number + 1) % len(part)]
            frame.names = names[(number + 1) % len(part)]
    findings = find(data, checks=("box_points", "frame_labels"))
    assert named(findings, "box_points", Severity.ERROR, "later in the list")
    assert named(findings, "frame_labels", Severity.ERROR, "frame 1 later in the list")


def test_frames_with_axes_of_their_own_are_named(frames: ToyData) -> None:
    """The points of some frames are turned, so that their boxes hold others, of the ground too."""
    data = frames.copy()
    turned = data.train[::3]
    for frame in turned:
        frame.points[:, :2] *= -1
    findings = find(data, checks=LABEL_CHECKS)
    assert named(findings, "frame_labels", Severity.ERROR, "turned by 180 degrees", "of 14 frames")
    (finding,) = [finding for finding in findings if finding.check == "frame_labels"]
    assert set(finding.frames) <= {frame.name for frame in turned}


def test_impossible_boxes_are_named_with_their_frame(frames: ToyData) -> None:
    data = frames.copy()
    data.train[2].boxes[0, 3] = -4.0
    data.train[3].boxes[0, 1] = np.nan
    findings = find(data, checks=("box_values",))
    assert named(findings, "box_values", Severity.ERROR, data.train[2].name, "below")
    assert named(findings, "box_values", Severity.ERROR, data.train[3].name, "NaN")


def test_objects_that_are_labelled_twice_are_named(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.train:
        frame.boxes = np.concatenate([frame.boxes, frame.boxes + 0.02])
        frame.names = np.concatenate([frame.names, frame.names])
    findings = find(data, checks=("double_boxes",))
    assert named(findings, "double_boxes", Severity.WARNING, "labelled twice")
