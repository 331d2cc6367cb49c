"""Detections in LiDAR coordinates as nuScenes' result file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tiny_tables import VERSION, TinyTables, detections, tokens_of

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.nuscenes import (
    MAX_BOXES_PER_SAMPLE,
    Tables,
    nuscenes_eval,
    read_poses,
    submission,
    write_submission,
)
from pcdet_distill.evaluation.nuscenes.quaternions import yaws
from pcdet_distill.evaluation.nuscenes.submission import attribute_of

TOKENS = tokens_of("scene-0103", 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tables = TinyTables()
    tables.add_scene("scene-0103", 2, ego_m=(100, 50))
    tables.add_object("vehicle.car", TOKENS, [[110.0, 50.0, 1.0]] * 2)
    return tables.write(tmp_path)


def cars(token: str, boxes: np.ndarray, scores: np.ndarray | None = None) -> dict:
    scores = np.full(len(boxes), 0.5) if scores is None else scores
    return dict(detections(token, ["car"] * len(boxes), score=scores, boxes_lidar=boxes))


def test_a_box_in_global_coordinates(root: Path) -> None:
    """The sensor looks along -y of the vehicle, which has driven one metre at the second sample."""
    box = np.array([[3.0, 1.0, -0.5, 4.0, 2.0, 1.5, 0.25, 2.0, 0.0]], np.float32)
    det_annos = [cars(TOKENS[0], box[:0]), cars(TOKENS[1], box)]
    content = submission(det_annos, TOKENS, read_poses(Tables(root, VERSION), TOKENS))
    assert content["results"][TOKENS[0]] == []
    (row,) = content["results"][TOKENS[1]]
    assert row["translation"] == pytest.approx([100 + 1 + 0.9 + 1.0, 50 - 3.0, 1.8 - 0.5])
    assert row["size"] == [2.0, 4.0, 1.5]
    assert yaws(np.array(row["rotation"])) == pytest.approx(0.25 - np.pi / 2)
    assert row["velocity"] == pytest.approx([0.0, -2.0])
    assert row["attribute_name"] == "vehicle.moving"
    assert content["meta"]["use_lidar"] and not content["meta"]["use_camera"]


def test_detections_without_scores(root: Path) -> None:
    anno = cars(TOKENS[0], np.ones((1, 7)))
    del anno["score"]
    poses = read_poses(Tables(root, VERSION), TOKENS[:1])
    with pytest.raises(DataError, match="'score' is missing, expected name, score, boxes_lidar"):
        submission([anno], TOKENS[:1], poses)


def test_boxes_without_velocity_stand_still(root: Path) -> None:
    box = np.array([[3.0, 1.0, -0.5, 4.0, 2.0, 1.5, 0.25]])
    poses = read_poses(Tables(root, VERSION), TOKENS[:1])
    content = submission([cars(TOKENS[0], box)], TOKENS[:1], poses)
    assert content["results"][TOKENS[0]][0]["velocity"] == [0.0, 0.0]
    assert content["results"][TOKENS[0]][0]["attribute_name"] == "vehicle.parked"


@pytest.mark.parametrize(
    ("name", "slow", "fast"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("barrier", "cycle.with_rider", "cycle.with_rider"),
    ],
)
def test_attributes(name: str, slow: str, fast: str) -> None:
    assert attribute_of(name, 0.2) == slow
    assert attribute_of(name, 0.21) == fast


def test_the_best_500_boxes_are_kept(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = np.tile([[3.0, 1.0, -0.5, 4.0, 2.0, 1.5, 0.0]], (620, 1))
    boxes[:, 0] = np.arange(620) / 100
    scores = np.random.default_rng(0).permutation(620) / 620
    det_annos = [cars(TOKENS[0], boxes, scores), cars(TOKENS[1], boxes[:3])]
    folder = root / "out"
    with caplog.at_level(logging.WARNING):
        nuscenes_eval([{"token": token} for token in TOKENS], det_annos, root, VERSION,
                      output_path=folder, use_devkit=False)  # fmt: skip
    assert "the 120 boxes with the lowest scores of 1 samples are left out" in caplog.text
    results = json.loads((folder / "results_nusc.json").read_text())["results"]
    kept = [row["detection_score"] for row in results[TOKENS[0]]]
    assert len(kept) == MAX_BOXES_PER_SAMPLE
    assert min(kept) == 120 / 620
    assert kept == [score for score in scores.tolist() if score >= 120 / 620]  # order kept
    assert len(results[TOKENS[1]]) == 3


def test_boxes_that_are_not_finite_are_left_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """exp of a size that a network has not learned yet is infinite."""
    boxes = np.tile([[3.0, 1.0, -0.5, 4.0, 2.0, 1.5, 0.0]], (3, 1))
    boxes[1, 3] = np.inf
    det_annos = [cars(TOKENS[0], boxes, np.array([0.3, 0.4, np.nan])), cars(TOKENS[1], boxes[:1])]
    folder = root / "out"
    infos = [{"token": token} for token in TOKENS]
    with caplog.at_level(logging.WARNING):
        nuscenes_eval(infos, det_annos, root, VERSION, output_path=folder, use_devkit=False)
    assert "2 boxes with numbers that are not finite are left out" in caplog.text
    results = json.loads((folder / "results_nusc.json").read_text())["results"]
    assert [row["detection_score"] for row in results[TOKENS[0]]] == [0.3]


def test_what_is_written_can_be_read(root: Path, tmp_path: Path) -> None:
    boxes = np.array([[3.0, 1.0, -0.5, 4.0, 2.0, 1.5, 0.25]], np.float32)
    poses = read_poses(Tables(root, VERSION), TOKENS[:1])
    content = submission([cars(TOKENS[0], boxes)], TOKENS[:1], poses)
    assert json.loads(write_submission(content, tmp_path / "new").read_text()) == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes_lidar": np.zeros((1, 8))}, "expected boxes of 7 or 9 columns"),
        ({"score": np.zeros(2)}, "1 names, 2 scores and 1 boxes"),
        ({"name": np.array(["Car"])}, "'Car' is no class of nuScenes' detection benchmark"),
    ],
)
def test_wrong_detections(root: Path, changes: dict, message: str) -> None:
    anno = cars(TOKENS[0], np.ones((1, 7))) | changes
    poses = read_poses(Tables(root, VERSION), TOKENS[:1])
    with pytest.raises(DataError, match=f"detections of frame lidar-{TOKENS[0]}.*{message}"):
        submission([anno], TOKENS[:1], poses)
