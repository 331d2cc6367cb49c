"""The formats that detections are written in are those of the evaluations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.kitti.predictions import prediction_anno, write_result_file
from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.nuscenes.quaternions import rotation_matrices
from pcdet_distill.evaluation.nuscenes.submission import submission
from pcdet_distill.evaluation.nuscenes.truth import Poses
from pcdet_distill.inference import Detections

NAMES = ["car", "pedestrian"]


def prediction(width: int = 7) -> dict[str, torch.Tensor]:
    """Three boxes of a network, best first."""
    boxes = torch.tensor(
        [
            [10.0, 2.0, -1.0, 4.0, 1.8, 1.5, 0.3, 1.0, 0.5],
            [20.0, -3.0, -0.8, 0.6, 0.7, 1.7, -2.0, 0.0, 0.1],
            [30.0, 5.0, -1.2, 4.4, 1.9, 1.6, 1.5, 8.0, 0.0],
        ]
    )
    return {
        "pred_boxes": boxes[:, :width],
        "pred_scores": torch.tensor([0.9, 0.7, 0.2]),
        "pred_labels": torch.tensor([1, 2, 1]),
    }


@pytest.fixture
def found() -> Detections:
    return Detections.from_prediction(prediction(), NAMES)


def calibration() -> Calibration:
    projection = np.array([[700.0, 0, 600, 45], [0, 700, 180, 0.2], [0, 0, 1, 0.003]])
    lidar_to_camera = np.array([[0, -1.0, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27]])
    return Calibration(projection, np.eye(3), lidar_to_camera)


def test_boxes_come_best_first_with_the_names_of_their_labels() -> None:
    worst_first = {key: value.flip(0) for key, value in prediction().items()}
    found = Detections.from_prediction(worst_first, NAMES)
    assert found.names.tolist() == ["car", "pedestrian", "car"]
    assert found.labels.tolist() == [1, 2, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.2])
    np.testing.assert_allclose(found.boxes[:, 0], [10, 20, 30])
    assert found.boxes.dtype == np.float32


def test_rows_are_chosen_by_mask_slice_and_number(found) -> None:
    assert found[found.names == "car"].scores.tolist() == pytest.approx([0.9, 0.2])
    assert len(found[:2]) == 2
    assert found[[2, 0]].boxes[:, 0].tolist() == [30, 10]
    assert found[1].names.tolist() == ["pedestrian"]
    assert found.above(0.5).names.tolist() == ["car", "pedestrian"]
    assert len(found.above(0.95)) == 0
    assert repr(found) == "Detections(2 car, 1 pedestrian)"
    assert repr(Detections.none()) == "Detections(none)"


def test_the_dict_goes_through_json(found) -> None:
    again = json.loads(json.dumps(found.to_dict()))
    assert again["names"] == ["car", "pedestrian", "car"]
    assert again["labels"] == [1, 2, 1]
    np.testing.assert_allclose(again["boxes"], found.boxes)


@pytest.mark.parametrize("image_shape", [(375, 1242), None])
def test_kitti_lines_are_those_of_the_evaluation(found, tmp_path, image_shape) -> None:
    shape = np.zeros(2) if image_shape is None else np.array(image_shape)
    anno = prediction_anno(prediction(), calibration(), shape, NAMES)
    write_result_file(tmp_path / "expected.txt", anno)
    text = found.to_kitti(calibration(), image_shape)
    assert text == (tmp_path / "expected.txt").read_text()
    assert text.startswith("car -1 -1 ")
    assert [len(line.split()) for line in text.splitlines()] == [16, 16, 16]
    assert Detections.none().to_kitti(calibration()) == ""


def test_a_calib_file_serves_too(found, tmp_path) -> None:
    lines = []
    calib = calibration()
    for name, matrix in (("P2", calib.P2), ("R0_rect", calib.R0), ("Tr_velo_to_cam", calib.V2C)):
        lines.append(f"{name}: {' '.join(str(value) for value in matrix.ravel())}")
    (tmp_path / "calib.txt").write_text("\n".join(lines) + "\n")
    assert found.to_kitti(tmp_path / "calib.txt", (375, 1242)) == found.to_kitti(calib, (375, 1242))


def poses() -> tuple[dict, dict]:
    sensor = {"rotation": [0.7, 0.0, 0.02, -0.7], "translation": [0.9, 0.0, 1.8]}
    ego = {"rotation": [0.5, 0.01, -0.02, 0.86], "translation": [400.0, 1100.0, 0.5]}
    return sensor, ego


def matrix_of(row: dict) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrices(np.array(row["rotation"]))
    matrix[:3, 3] = row["translation"]
    return matrix


@pytest.mark.parametrize("width", [7, 9])
def test_nuscenes_boxes_are_those_of_the_evaluation(width: int) -> None:
    found = Detections.from_prediction(prediction(width), NAMES)
    sensor, ego = poses()
    of_split = Poses(
        *(np.array([row[key]]) for row in (sensor, ego) for key in ("rotation", "translation"))
    )
    anno = {"name": found.names, "score": found.scores, "boxes_lidar": found.boxes}
    expected = submission([anno], ["token"], of_split)["results"]["token"]
    assert found.to_nuscenes("token", sensor_pose=sensor, ego_pose=ego) == expected
    by_matrix = found.to_nuscenes("token", sensor_pose=matrix_of(sensor), ego_pose=matrix_of(ego))
    assert len(expected) == 3
    for row, other in zip(expected, by_matrix):
        np.testing.assert_allclose(row["translation"], other["translation"], atol=1e-9)
        turns = [rotation_matrices(np.array(one["rotation"])) for one in (row, other)]
        np.testing.assert_allclose(*turns, atol=1e-9)
        assert row["detection_name"] == other["detection_name"]


def test_a_pose_that_is_none_is_named(found) -> None:
    sensor, ego = poses()
    with pytest.raises(DataError, match=r"ego_pose: expected a matrix \(4, 4\)"):
        found.to_nuscenes("token", sensor_pose=sensor, ego_pose=2 * matrix_of(ego))
    with pytest.raises(DataError, match="sensor_pose: expected rotation and translation"):
        found.to_nuscenes("token", sensor_pose={"rotation": [1, 0, 0, 0]}, ego_pose=ego)
