"""Small cases of the metric whose numbers follow by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.nuscenes.boxes import boxes_of_samples
from pcdet_distill.evaluation.nuscenes.matching import match_class
from pcdet_distill.evaluation.nuscenes.metrics import running_mean
from pcdet_distill.evaluation.nuscenes.protocol import DETECTION_NAMES
from pcdet_distill.evaluation.nuscenes.score import score_boxes


def box(name: str = "car", x: float = 0.0, score: float = 0.5, **changes: Any) -> Mapping[str, Any]:
    """A box with the field names of result files."""
    fields = {
        "translation": [x, 0.0, 0.0],
        "size": [2.0, 4.0, 1.5],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "velocity": [1.0, 0.0],
        "detection_name": name,
        "detection_score": score,
        "attribute_name": "vehicle.moving",
        "num_pts": 5,
    }
    return {**fields, **changes}


def turned(angle_rad: float) -> list[float]:
    return [float(np.cos(angle_rad / 2)), 0.0, 0.0, float(np.sin(angle_rad / 2))]


def test_the_labels_themselves_score_one() -> None:
    boxes = boxes_of_samples([[box(name, x=20.0 * i) for i, name in enumerate(DETECTION_NAMES)]])
    result = score_boxes(boxes, boxes)
    assert result.mean_ap == pytest.approx(1.0)
    assert result.detection_score == pytest.approx(1.0)
    assert result.primary.name == "NDS"


def test_a_second_detection_takes_the_next_object() -> None:
    """Both detections are nearest to the first object; the worse one gets the second object."""
    truths = boxes_of_samples([[box(x=0.0), box(x=1.5)]])
    found = boxes_of_samples([[box(x=0.2, score=0.9), box(x=0.1, score=0.8)]])
    matches = match_class(truths, found, "car", (1.0, 2.0))
    assert matches[0].truth.tolist() == [0, -1]
    assert matches[1].truth.tolist() == [0, 1]


def test_the_distance_itself_is_too_far() -> None:
    truths = boxes_of_samples([[box(x=0.0)]])
    found = boxes_of_samples([[box(x=2.0)]])
    near, far = match_class(truths, found, "car", (2.0, 4.0))
    assert near.truth.tolist() == [-1]
    assert far.truth.tolist() == [0]


def test_objects_of_other_samples_and_classes_are_no_match() -> None:
    truths = boxes_of_samples([[box()], [box("truck")]])
    found = boxes_of_samples([[], [box()]])
    assert match_class(truths, found, "car", (4.0,))[0].truth.tolist() == [-1]


def test_of_equal_scores_the_later_one_comes_first() -> None:
    truths = boxes_of_samples([[box()]])
    found = boxes_of_samples([[box(x=0.1), box(x=0.3)]])
    matches = match_class(truths, found, "car", (2.0,))[0]
    assert matches.errors["trans_err"] == pytest.approx([0.3])


def test_errors_of_a_match() -> None:
    truth = boxes_of_samples([[box(rotation=turned(3.0))]])
    found = boxes_of_samples(
        [[box(x=0.5, size=[1.0, 4.0, 1.5], rotation=turned(-3.0), velocity=[1.0, 2.0])]]
    )
    errors = match_class(truth, found, "car", (2.0,))[0].errors
    assert errors["trans_err"] == pytest.approx([0.5])
    assert errors["scale_err"] == pytest.approx([0.5])
    assert errors["orient_err"] == pytest.approx([2 * np.pi - 6.0])
    assert errors["vel_err"] == pytest.approx([2.0])
    assert errors["attr_err"].tolist() == [0.0]


def test_a_barrier_looks_the_same_from_behind() -> None:
    truth = boxes_of_samples([[box("barrier"), box("car", x=50)]])
    turned_back = turned(np.pi - 0.1)
    found = boxes_of_samples(
        [[box("barrier", rotation=turned_back), box("car", x=50, rotation=turned_back)]]
    )
    errors = score_boxes(truth, found).errors
    assert errors["barrier"]["orient_err"] == pytest.approx(0.1)
    assert errors["car"]["orient_err"] == pytest.approx(np.pi - 0.1)
    assert np.isnan(errors["barrier"]["vel_err"])
    assert np.isnan(errors["traffic_cone"]["orient_err"])


def test_unknown_attribute_and_velocity_are_not_counted() -> None:
    truth = boxes_of_samples([[box(attribute_name="", velocity=[np.nan, np.nan]), box(x=50.0)]])
    found = boxes_of_samples(
        [[box(score=0.9), box(x=50.0, score=0.8, velocity=[1.0, 3.0], attribute_name="")]]
    )
    errors = match_class(truth, found, "car", (2.0,))[0].errors
    assert running_mean(errors["vel_err"]).tolist() == [0.0, 3.0]
    assert running_mean(errors["attr_err"]).tolist() == [0.0, 1.0]
    assert running_mean(np.array([np.nan, np.nan])).tolist() == [1.0, 1.0]


def test_half_of_the_objects_found() -> None:
    """Recall 0.5 at precision 1: the points 0.11 to 0.50 of 0.11 to 1 count."""
    truths = boxes_of_samples([[box(x=0.0), box(x=100.0)]])
    found = boxes_of_samples([[box(x=0.0)]])
    result = score_boxes(truths, found)
    assert result.class_ap("car") == pytest.approx(40 / 90)
    assert result.mean_ap == pytest.approx(40 / 900)
    assert result.num_objects["car"] == 2


def test_found_below_a_recall_of_ten_percent_is_not_found() -> None:
    truths = boxes_of_samples([[box(x=100.0 * number) for number in range(20)]])
    found = boxes_of_samples([[box()]])
    result = score_boxes(truths, found)
    assert result.class_ap("car") == 0
    assert result.errors["car"]["trans_err"] == 1


def test_the_text_follows_the_order_of_the_classes() -> None:
    boxes = boxes_of_samples([[box()]])
    text = score_boxes(boxes, boxes, ["truck", "car"]).text.splitlines()
    assert text[1] == "***truck error@trans, scale, orient, vel, attr | AP@0.5, 1.0, 2.0, 4.0"
    assert text[4].startswith("0.00, 0.00, 0.00, 0.00, 0.00 | 100.00, 100.00, 100.00, 100.00 | ")


def test_the_table_names_classes_without_objects() -> None:
    boxes = boxes_of_samples([[box()]])
    table = score_boxes(boxes, boxes).text_table()
    assert "no labelled objects, so they count as 0 in mAP: truck, bus" in table


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match="'van' is no class of nuScenes.*; did you mean|expected"):
        boxes_of_samples([[box("van")]])
