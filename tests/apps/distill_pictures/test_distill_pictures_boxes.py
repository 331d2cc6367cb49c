"""Which boxes changed, on a made-up case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pcdet_distill.apps.distill_pictures.box_section import summary_of_changes
from pcdet_distill.apps.distill_pictures.boxes import Boxes, changed_boxes, has_moved, partners


def boxes(*rows, scores=None):
    """Rows of (name, x, y, heading); cars and people have their usual sizes."""
    sizes = {"Car": (4.0, 1.8, 1.5), "Pedestrian": (0.8, 0.6, 1.8)}
    numbers = [[x, y, 0.0, *sizes[name], heading] for name, x, y, heading in rows]
    array = np.array(numbers, dtype=np.float32).reshape(-1, 7)
    names = np.array([row[0] for row in rows], dtype=str)
    return Boxes(array, np.ones(len(rows)) if scores is None else np.array(scores), names)


TRUTH = boxes(("Car", 10, 0, 0), ("Car", 20, 0, 0), ("Pedestrian", 8, 4, 0))
BEFORE = boxes(
    ("Car", 10.5, 0, 0),  # moves 0.4 m nearer
    ("Car", 20.0, 0.05, 0),  # stays
    ("Car", 30, 5, 0),  # a false one, lost
    ("Pedestrian", 20, 0, 0),  # another class than the car around it: lost, and false
)
AFTER = boxes(
    ("Car", 20.1, 0.05, math.pi),  # the same, read from behind
    ("Car", 10.1, 0, 0),
    ("Pedestrian", 8, 4.05, 0),  # gained, and right
    ("Car", 40, -5, 0),  # gained, and false
)


def test_gained_lost_and_moved():
    changes = changed_boxes(BEFORE, AFTER, TRUTH)
    found = [(c.kind, c.name, c.before, c.after, c.is_right) for c in changes]
    assert found == [
        ("moved", "Car", 0, 1, True),
        ("lost", "Car", 2, -1, False),
        ("lost", "Pedestrian", 3, -1, False),
        ("gained", "Pedestrian", -1, 2, True),
        ("gained", "Car", -1, 3, False),
    ]
    moved, lost, _, gained, _ = changes
    assert moved.error_before_m == pytest.approx(0.5, abs=1e-6)
    assert moved.error_after_m == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(lost.error_before_m) and math.isnan(lost.error_after_m)
    assert gained.error_after_m == pytest.approx(0.05, abs=1e-6)
    sentence = summary_of_changes(changes, ("without distillation", "with distillation"), 0.3)
    assert "2 gained (1 right), 2 lost (0 right), 1 moved (1 right)" in sentence


def test_equal_boxes_do_not_change():
    assert changed_boxes(BEFORE, BEFORE, TRUTH) == []
    assert changed_boxes(boxes(), boxes(), TRUTH) == []


def test_without_labels_nothing_is_right():
    kinds = [(c.kind, c.is_right) for c in changed_boxes(boxes(), AFTER, boxes())]
    assert kinds == [("gained", False)] * 4


def test_each_box_has_one_partner_and_the_nearest_pair_comes_first():
    first = boxes(("Car", 0, 0, 0), ("Car", 1, 0, 0))
    second = boxes(("Car", 1.1, 0, 0), ("Car", 9, 9, 0))
    assert partners(first, second, 0.1).tolist() == [-1, 0]
    assert partners(second, first, 0.1).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("shift", "turn_degrees", "moved"),
    [
        (0.19, 0, False),
        (0.21, 0, True),
        (0, 9, False),
        (0, 11, True),
        (0, 179, False),
        (0, -95, True),
    ],
)
def test_what_counts_as_moved(shift, turn_degrees, moved):
    box = boxes(("Car", 5, 5, 0.1)).boxes[0]
    other = boxes(("Car", 5, 5 + shift, 0.1 + math.radians(turn_degrees))).boxes[0]
    assert has_moved(box, other) is moved


def test_scores_choose_the_boxes():
    some = boxes(("Car", 0, 0, 0), ("Car", 9, 0, 0), scores=[0.2, 0.3]).above(0.3)
    assert some.boxes[:, 0].tolist() == [9.0]
