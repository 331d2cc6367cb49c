"""NMS of centre heads: by distance, and by class."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.dense_heads.center_nms import nms_of_head
from pcdet_distill.ops.nms import nms_circle

HEADS = [[1], [2, 3]]
LIMITS = {"NMS_PRE_MAXSIZE": 100, "NMS_POST_MAXSIZE": 100}


def scene(count=60, seed=0):
    """Boxes (N, 9), scores and labels of the second head."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 9, generator=generator) * 8
    boxes[:, 3:6] = 1.5
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(2, 4, (count,), generator=generator)
    return boxes, scores, labels


def circle_by_loop(boxes, scores, radius_m):
    kept = []
    for row in scores.argsort(descending=True).tolist():
        distances = [(boxes[row, :2] - boxes[other, :2]).norm() for other in kept]
        if all(distance > radius_m for distance in distances):
            kept.append(row)
    return kept


@pytest.mark.parametrize("radius_m", [0.3, 1.0, 2.5])
def test_circle_nms_equals_a_loop(radius_m):
    boxes, scores, labels = scene()
    expected = circle_by_loop(boxes, scores, radius_m)
    assert nms_circle(boxes, scores, radius_m).tolist() == expected
    assert nms_circle(boxes, scores, radius_m, post_maxsize=3).tolist() == expected[:3]
    config = {"NMS_TYPE": "circle_nms", "NMS_THRESH": [9.0, radius_m], **LIMITS}
    kept = nms_of_head(boxes, scores, labels, config, head=1, head_labels=HEADS)
    assert kept.tolist() == expected


def test_a_box_at_the_radius_is_dropped_and_no_box_is_no_error():
    boxes = torch.zeros(2, 7)
    boxes[1, 0] = 2.0
    assert nms_circle(boxes, torch.tensor([0.5, 0.9]), 2.0).tolist() == [1]
    assert nms_circle(boxes, torch.tensor([0.5, 0.9]), 1.99).tolist() == [1, 0]
    assert nms_circle(boxes[:0], torch.zeros(0), 1.0).tolist() == []


def test_nms_by_class_is_one_nms_for_each_class():
    boxes, scores, labels = scene()
    config = {
        "NMS_TYPE": "class_specific_nms",
        "NMS_THRESH": [0.5, 0.1, 0.4],
        "NMS_PRE_MAXSIZE": [100, 50, 100],
        "NMS_POST_MAXSIZE": [100, 5, 100],
    }
    kept = nms_of_head(boxes, scores, labels, config, head=1, head_labels=HEADS)
    expected = []
    for label, thresh, most in ((2, 0.1, 5), (3, 0.4, 100)):
        rows = torch.nonzero(labels == label)[:, 0]
        one = {"NMS_TYPE": "nms_gpu", "NMS_THRESH": thresh, **LIMITS, "NMS_POST_MAXSIZE": most}
        own = nms_of_head(boxes[rows], scores[rows], labels[rows], one, head=1, head_labels=HEADS)
        expected += rows[own].tolist()
    assert kept.tolist() == expected
    assert (labels[kept] == 2).sum() == 5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"NMS_TYPE": "circle_nms", "NMS_THRESH": [1.0], **LIMITS},
            "NMS_THRESH has 1 distances, expected one for each of the 2 heads",
        ),
        (
            {"NMS_TYPE": "class_specific_nms", "NMS_THRESH": 0.2, **LIMITS},
            "NMS_THRESH is 0.2, expected a list with an entry for each of the 3 classes",
        ),
    ],
)
def test_wrong_lists(config, message):
    boxes, scores, labels = scene(4)
    with pytest.raises(ConfigError, match=message):
        nms_of_head(boxes, scores, labels, config, head=1, head_labels=HEADS)
