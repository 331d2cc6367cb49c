"""KittiResult: the same numbers as nested dicts, as OpenPCDet's keys, as a table and as text."""

from __future__ import annotations

import json

import pytest
from kitti_frames import average_precision
from random_frames import annos, random_set

from pcdet_distill.evaluation.kitti import KittiResult, kitti_eval


@pytest.fixture(scope="module")
def result() -> KittiResult:
    truth, found = random_set(30, frames=40)
    return kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])


def test_metrics_can_be_written_as_json(result: KittiResult) -> None:
    metrics = result.metrics()
    assert json.loads(json.dumps(metrics)) == metrics
    assert set(metrics) == {"Car", "Pedestrian"}


@pytest.mark.parametrize(
    ("name", "metric", "openpcdet_name"),
    [
        ("Car", "3d", "3d"),
        ("Pedestrian", "bev", "bev"),
        ("Car", "bbox", "image"),
        ("Car", "aos", "aos"),
    ],
)
def test_openpcdets_keys_hold_the_same_numbers(
    result: KittiResult, name: str, metric: str, openpcdet_name: str
) -> None:
    for level, value in result.metrics()[name]["strict"][metric]["R40"].items():
        assert result.ap_dict[f"{name}_{openpcdet_name}/{level}_R40"] == value


def test_loose_overlaps_and_other_recall_points_give_other_numbers(result: KittiResult) -> None:
    strict = result.metrics()["Car"]["strict"]
    loose = result.metrics()["Car"]["loose"]
    assert loose["3d"]["R40"]["hard"] > strict["3d"]["R40"]["hard"]
    assert loose["bbox"] == strict["bbox"]
    assert strict["3d"]["R11"] != strict["3d"]["R40"]


def test_the_table_has_a_row_for_every_class_and_for_the_mean(result: KittiResult) -> None:
    car_row, pedestrian_row, mean_row = result.table()
    assert car_row["class"] == "Car"
    assert pedestrian_row["class"] == "Pedestrian"
    assert mean_row["class"] == "mAP"
    assert car_row["3d hard"] == average_precision(result, level="hard")
    pedestrian_ap = average_precision(result, "bev", level="easy", name="Pedestrian")
    assert pedestrian_row["bev easy"] == pedestrian_ap
    assert mean_row["3d moderate"] == pytest.approx(result.map())


def test_the_mean_is_over_the_classes(result: KittiResult) -> None:
    car_ap = average_precision(result, "bev", "R11", "hard")
    pedestrian_ap = average_precision(result, "bev", "R11", "hard", "Pedestrian")
    expected = (car_ap + pedestrian_ap) / 2
    assert result.map("bev", "R11", "hard") == pytest.approx(expected)


def test_the_table_has_the_columns_that_are_asked_for(result: KittiResult) -> None:
    car_row = result.table(metrics=("bbox", "aos"), recall="R11", overlaps="loose")[0]
    assert list(car_row) == [
        "class",
        "bbox easy",
        "bbox moderate",
        "bbox hard",
        "aos easy",
        "aos moderate",
        "aos hard",
    ]
    expected = average_precision(result, "aos", "R11", "easy", overlaps="loose")
    assert car_row["aos easy"] == expected


def test_text_table_is_aligned_and_holds_the_numbers(result: KittiResult) -> None:
    title, *lines = result.text_table().splitlines()
    assert title == "AP R40, strict overlaps"
    assert len({len(line) for line in lines}) == 1
    assert f"{average_precision(result, level='hard'):.2f}" in lines[1]
