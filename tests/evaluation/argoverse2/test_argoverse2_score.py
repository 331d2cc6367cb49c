"""Argoverse 2's metric against recorded numbers of the package av2, and its rules one by one."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from av2_sets import NAMES, RANGES_M, RECORDED, official_numbers, random_set

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.argoverse2 import (
    CATEGORIES,
    Argoverse2Protocol,
    Argoverse2Result,
    argoverse2_eval,
)
from pcdet_distill.evaluation.result import EvaluationResult

ROUNDED = 6e-4  # av2 rounds to three decimals
BOX = (10.0, 2.0, 0.5, 4.0, 2.0, 1.5, 0.3)


def evaluate(frames: list, names: list[str], max_range_m: float = 150.0) -> Argoverse2Result:
    protocol = Argoverse2Protocol(max_range_m=max_range_m)
    truth = [labels for labels, _ in frames]
    found = [detections for _, detections in frames]
    return argoverse2_eval(truth, found, names, protocol)


def check_numbers(result: Argoverse2Result, numbers: dict[str, dict[str, float]]) -> None:
    for name, row in numbers.items():
        for title, value in row.items():
            key = "mean" if name == "AVERAGE_METRICS" else name.capitalize()
            assert result.ap_dict[f"{key}/{title}"] == pytest.approx(value, abs=ROUNDED)


@pytest.mark.parametrize("kind", RANGES_M)
def test_numbers_of_av2_are_reproduced(kind: str) -> None:
    recorded = json.loads(RECORDED.read_text())[kind]
    names = [name.capitalize() for name in recorded["numbers"] if name != "AVERAGE_METRICS"]
    result = evaluate(recorded["frames"], names, recorded["max_range_m"])
    check_numbers(result, recorded["numbers"])


@pytest.mark.parametrize("kind", RANGES_M)
def test_numbers_of_the_installed_av2(kind: str) -> None:
    pytest.importorskip("av2")
    frames = random_set(kind)
    present = {name for truth, _ in frames for name in truth["name"]}
    names = [name for name in NAMES if name in present]
    check_numbers(
        evaluate(frames, names, RANGES_M[kind]), official_numbers(frames, names, RANGES_M[kind])
    )


# ---- The rules, one by one ----


def labelled(*boxes: tuple, points: int = 5) -> dict[str, Any]:
    names = ["Bus"] * len(boxes)
    return {"name": names, "gt_boxes_lidar": boxes, "num_points_in_gt": [points] * len(boxes)}


def detected(*scored: tuple[float, tuple]) -> dict[str, Any]:
    return {
        "name": ["Bus"] * len(scored),
        "score": [score for score, _ in scored],
        "boxes_lidar": [box for _, box in scored],
    }


def moved(x: float = 0, y: float = 0, z: float = 0, turn: float = 0) -> tuple:
    return (BOX[0] + x, BOX[1] + y, BOX[2] + z, *BOX[3:6], BOX[6] + turn)


def bus(truth: dict, found: dict, **options: float) -> Any:
    return evaluate([(truth, found)], ["Bus"], **options).of_category("Bus")


def test_ap_is_the_mean_over_four_distances_in_3d() -> None:
    row = bus(labelled(BOX), detected((0.9, moved(z=1.5))))
    assert row.ap_by_distance == pytest.approx((0, 0, 1, 1))
    assert row.ap == pytest.approx(0.5)
    assert row.ate_m == pytest.approx(1.5)


def test_only_the_best_scored_detection_of_an_object_is_right_and_none_moves_on() -> None:
    """The second detection lies nearer to the first object, so the other object stays missed."""
    truth = labelled(BOX, moved(x=1.5))
    found = detected((0.9, moved(x=0.1)), (0.8, moved(x=0.2)))
    row = bus(truth, found)
    assert row.num_objects == 2
    below_half = 50  # of 101 recalls, with precision 1; at 0.5 itself it is 0.5 already
    assert row.ap_by_distance[2] == pytest.approx((below_half + 0.5) / 101)


def test_errors_of_size_and_heading() -> None:
    larger = (*BOX[:3], 8.0, 2.0, 1.5, BOX[6] + 2 * math.pi - 0.2)
    row = bus(labelled(BOX), detected((0.9, larger)))
    assert row.ase == pytest.approx(0.5)
    assert row.aoe_rad == pytest.approx(0.2)
    goodness = (1 + 0.5 + (1 - 0.2 / math.pi)) / 3
    assert row.cds == pytest.approx(goodness)


def test_a_category_without_a_match_has_the_worst_errors() -> None:
    row = bus(labelled(BOX), detected((0.9, moved(x=30))))
    assert (row.ap, row.ate_m, row.ase, row.aoe_rad, row.cds) == (0, 2.0, 1.0, math.pi, 0)


def test_objects_without_points_and_beyond_the_range_do_not_count() -> None:
    assert bus(labelled(BOX, points=0), detected((0.9, BOX))).num_objects == 0
    row = bus(labelled(BOX), detected((0.9, BOX)), max_range_m=10.0)
    assert (row.num_objects, row.num_detections) == (0, 0)


def test_the_best_hundred_detections_count() -> None:
    wrong = [(0.5 + number / 1000, moved(y=20 + number / 10)) for number in range(100)]
    row = bus(labelled(BOX), detected((0.4, BOX), *wrong))
    assert row.num_detections == 100
    assert row.ap == 0


def test_detections_with_nan_do_not_count() -> None:
    flat = (*BOX[:3], math.nan, *BOX[4:])
    row = bus(labelled(BOX), detected((0.9, flat), (math.nan, BOX), (0.5, BOX)))
    assert row.num_detections == 1
    assert row.cds == pytest.approx(1)


def test_frames_without_boxes() -> None:
    empty = {"name": np.zeros(0), "score": np.zeros(0), "boxes_lidar": np.zeros((0, 7))}
    result = evaluate([(labelled(), empty), (labelled(BOX), empty)], ["Bus"])
    assert result.of_category("Bus").ap == 0
    assert result.primary.value == 0


# ---- The result ----


def test_the_mean_is_over_the_categories_with_objects() -> None:
    result = evaluate([(labelled(BOX), detected((0.9, BOX)))], ["Bus", "Dog"])
    assert isinstance(result, EvaluationResult)
    assert result.primary.name == "CDS"
    assert result.primary.value == pytest.approx(1)
    assert not any(key.startswith("Dog") for key in result.ap_dict)
    metrics = result.metrics()
    assert json.loads(json.dumps(metrics))["Bus"]["ap"] == pytest.approx(1)
    assert metrics["mean"]["AP"] == pytest.approx(1)


def test_the_text_has_the_number_of_objects_and_warns_of_few() -> None:
    text = evaluate([(labelled(BOX), detected((0.9, BOX)))], ["Bus", "Dog"]).text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert lines["Bus"] == ["1", "1.000", "0.000", "0.000", "0.000", "1.000"]
    assert lines["Dog"] == ["0", "-", "-", "-", "-", "-"]
    assert "Warning: few objects" in text
    assert "Bus 1" in text


def test_frames_must_pair() -> None:
    with pytest.raises(DataError, match="detections of 0 frames, expected the 1 frames"):
        argoverse2_eval([labelled(BOX)], [], ["Bus"])


def test_there_are_26_categories() -> None:
    assert len(set(CATEGORIES)) == 26
