"""LidarResult: one EvaluationResult, whose text, table, dicts and primary number agree."""

from __future__ import annotations

import json

import pytest
from lidar_annos import CAR, detected, labels, moved, random_frames

from pcdet_distill.evaluation.lidar import LidarEvalOptions, LidarResult, lidar_eval
from pcdet_distill.evaluation.lidar.matching import Criterion
from pcdet_distill.evaluation.result import EvaluationResult


@pytest.fixture(scope="module")
def result() -> LidarResult:
    truth, found = random_frames(5, num_frames=30)
    return lidar_eval(truth, found, ["Car", "Bollard", "Van"])


def test_it_is_an_evaluation_result(result: LidarResult) -> None:
    assert isinstance(result, EvaluationResult)
    assert str(result) == result.text


def test_metrics_can_be_written_as_json(result: LidarResult) -> None:
    metrics = result.metrics()
    assert json.loads(json.dumps(metrics)) == metrics
    assert list(metrics) == ["Car", "Bollard", "Van"]
    assert list(metrics["Car"]["3d"]) == ["iou0.7", "iou0.5"]
    assert metrics["Car"]["objects"] == result.of_class("Car").num_objects


def test_all_forms_hold_the_same_numbers(result: LidarResult) -> None:
    figures = result.of_class("Bollard").figures[Criterion("bev", 0.25)]
    assert result.metrics()["Bollard"]["bev"]["iou0.25"]["area"] == figures.area
    assert result.ap_dict["Bollard_bev/iou0.25_area"] == figures.area
    assert result.ap_dict["Bollard_bev/iou0.25_R40"] == figures.average_precision("R40")
    assert f"{figures.area:.2f}" in result.text
    errors = result.of_class("Bollard").errors
    assert result.ap_dict["Bollard_errors/position_m"] == errors.position_m


def test_the_mean_is_over_the_classes_by_the_thresholds_that_rank(result: LidarResult) -> None:
    strict = {"Car": 0.7, "Bollard": 0.5, "Van": 0.7}
    values = []
    for name, threshold in strict.items():
        values.append(result.of_class(name).figures[Criterion("3d", threshold)].area)
    assert result.map("3d", "area") == pytest.approx(sum(values) / 3)
    car = result.of_class("Car")
    by_distance = [car.figures[Criterion("center", m)].area for m in (0.5, 1.0, 2.0, 4.0)]
    assert car.average_precision("center", "area") == pytest.approx(sum(by_distance) / 4)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "3D mAP area"),
        ({"primary": "bev", "primary_ap": "R40"}, "BEV mAP R40"),
        ({"primary": "center", "primary_ap": "R11"}, "center mAP R11"),
    ],
)
def test_the_options_choose_what_ranks(options: dict, name: str) -> None:
    truth, found = random_frames(6, num_frames=30)
    result = lidar_eval(truth, found, ["Car"], LidarEvalOptions(**options))
    assert result.primary.name == name
    kind = options.get("primary", "3d")
    ap = options.get("primary_ap", "area")
    assert result.primary.value == result.ap_dict[f"mAP_{kind}/{ap}"]
    assert f"{name} {result.primary.value:.2f}" in result.text


def test_the_number_of_objects_stands_beside_every_figure(result: LidarResult) -> None:
    blocks = result.text.split("\n\n")
    for entry in result.classes:
        block = next(text for text in blocks if text.startswith(f"{entry.name}:"))
        first_cells = {line[:20].strip(): line[20:].split()[:1] for line in block.splitlines()}
        for criterion, figures in entry.figures.items():
            title = {"3d": "3D", "bev": "BEV", "center": "center"}[criterion.kind]
            assert first_cells[f"{title} {criterion.label}"] == [str(figures.num_objects)]
        for part in (*entry.by_distance, *entry.by_points):
            num_objects = next(iter(part.figures.values())).num_objects
            assert first_cells[part.label] == [str(num_objects)]


def test_few_objects_are_marked_where_kittis_ap_cannot_reach_100() -> None:
    boxes = [moved(CAR, x=20 * n) for n in range(41)]
    truth = [labels(f"{n}", ("Car", box)) for n, box in enumerate(boxes)]
    found = [detected(f"{n}", ("Car", 1 - n / 100, box)) for n, box in enumerate(boxes)]
    options = LidarEvalOptions(distance_edges_m=())
    enough = lidar_eval(truth, found, ["Car"], options).text
    assert "*" not in enough
    assert "100.00  100.00" in enough
    few = lidar_eval(truth[:40], found[:40], ["Car"], options).text
    assert "97.50*" in few
    assert "* so few objects cannot reach 100: that takes 41" in few


def test_the_table_has_a_line_for_every_class_and_the_mean(result: LidarResult) -> None:
    title, heading, *lines = result.text_table().splitlines()
    assert title == "AP area, first IoU threshold of each class"
    assert heading.split() == [
        "class",
        "objects",
        "3D",
        "AP",
        "BEV",
        "AP",
        "center",
        "AP",
        "recall",
    ]
    assert [line.split()[0] for line in lines] == ["Car", "Bollard", "Van", "mAP"]
    assert lines[-1].split()[2] == f"{result.map():.2f}"


def test_points_are_left_out_where_the_labels_do_not_tell_them() -> None:
    truth = [labels("a", ("Car", CAR))]
    entry = lidar_eval(truth, [detected("a", ("Car", 0.9, CAR))], ["Car"]).of_class("Car")
    assert entry.by_points == []
    truth = [labels("a", ("Car", CAR), points=[12])]
    entry = lidar_eval(truth, [detected("a", ("Car", 0.9, CAR))], ["Car"]).of_class("Car")
    assert [part.label for part in entry.by_points] == [
        "0 to 9 points",
        "10 to 49 points",
        "50 to 199 points",
        "from 200 points",
    ]
    assert [part.figures[Criterion("3d", 0.7)].num_objects for part in entry.by_points] == [
        0,
        1,
        0,
        0,
    ]
