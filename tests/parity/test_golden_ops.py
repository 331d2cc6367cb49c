"""Box operators against the numbers recorded from OpenPCDet's own kernels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.ops import boxes as box_ops
from pcdet_distill.ops import nms as nms_ops
from pcdet_distill.ops import points as point_ops


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.golden("ops/iou_pairs*.npz")
@pytest.mark.parametrize("overlap", [box_ops.boxes_overlap_bev, box_ops.boxes_overlap_bev_plain])
def test_rotated_overlap_of_pairs(golden_file: Path, overlap) -> None:
    golden = load(golden_file)
    boxes_a = torch.from_numpy(golden["boxes_a"])
    boxes_b = torch.from_numpy(golden["boxes_b"])
    got = overlap(boxes_a, boxes_b).diagonal().numpy()
    np.testing.assert_allclose(got, golden["overlap_area_ref"], rtol=2e-5, atol=2e-5)


@pytest.mark.golden("ops/iou_pairs*.npz")
def test_iou_of_pairs(golden_file: Path) -> None:
    golden = load(golden_file)
    boxes_a = torch.from_numpy(golden["boxes_a"])
    boxes_b = torch.from_numpy(golden["boxes_b"])
    for function, key in (
        (box_ops.boxes_iou_bev, "iou_bev_ref"),
        (box_ops.boxes_iou3d, "iou3d_ref"),
        (box_ops.boxes3d_nearest_bev_iou, "nearest_bev_iou"),
    ):
        got = function(boxes_a, boxes_b).diagonal().numpy()
        np.testing.assert_allclose(got, golden[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.golden("ops/iou_pairs*.npz")
def test_iou_matrices(golden_file: Path) -> None:
    golden = load(golden_file)
    rows, columns = golden["matrix60_iou_bev_ref"].shape
    boxes_a = torch.from_numpy(golden["boxes_a"][:rows])
    boxes_b = torch.from_numpy(golden["boxes_b"][:columns])
    for function, key in (
        (box_ops.boxes_iou_bev, "matrix60_iou_bev_ref"),
        (box_ops.boxes_iou3d, "matrix60_iou3d_ref"),
        (box_ops.boxes3d_nearest_bev_iou, "matrix60_nearest_bev"),
    ):
        np.testing.assert_allclose(
            function(boxes_a, boxes_b).numpy(), golden[key], atol=1e-5, err_msg=key
        )


@pytest.mark.golden("ops/nms*.npz")
@pytest.mark.parametrize("name", sorted(nms_ops.NMS_TYPES))
def test_nms_keeps_the_same_list(golden_file: Path, name: str) -> None:
    golden = load(golden_file)
    cases = [
        (key, match) for key in golden if (match := re.fullmatch(name + r"_(\d+)_([\d.]+)", key))
    ]
    assert cases
    for key, match in cases:
        boxes = golden[f"boxes_{match[1]}"]
        scores = golden[f"scores_{match[1]}"]
        kept = nms_ops.NMS_TYPES[name](
            torch.from_numpy(boxes), torch.from_numpy(scores), float(match[2])
        )
        np.testing.assert_array_equal(kept.numpy(), golden[key], err_msg=key)


CONFIG = {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.1, "NMS_PRE_MAXSIZE": 100, "NMS_POST_MAXSIZE": 20}


def sets_of(golden: dict[str, np.ndarray]) -> list[str]:
    return [key.removeprefix("boxes_") for key in golden if key.startswith("boxes_")]


@pytest.mark.golden("ops/*_meta.json")
def test_the_recorded_settings_are_the_tested_ones(golden_file: Path) -> None:
    meta = json.loads(golden_file.read_text())
    assert meta["class_agnostic_cfg"] == "NMS_THRESH .1, PRE 100, POST 20, score_thresh .3 (>=)"
    assert meta["multi_cfg"] == "same NMS cfg, score_thresh .5; labels 0-based"


@pytest.mark.golden("ops/nms*.npz")
def test_class_agnostic_nms(golden_file: Path) -> None:
    golden = load(golden_file)
    for k in sets_of(golden):
        boxes = torch.from_numpy(golden[f"boxes_{k}"])
        scores = torch.from_numpy(golden[f"scores_{k}"])
        selected, selected_scores = nms_ops.class_agnostic_nms(
            scores, boxes, CONFIG, score_thresh=0.3
        )
        np.testing.assert_array_equal(selected.numpy(), golden[f"class_agnostic_{k}"])
        np.testing.assert_array_equal(selected_scores.numpy(), golden[f"class_agnostic_scores_{k}"])


@pytest.mark.golden("ops/nms*.npz")
def test_multi_classes_nms(golden_file: Path) -> None:
    golden = load(golden_file)
    for k in sets_of(golden):
        boxes = torch.from_numpy(golden[f"boxes_{k}"])
        scores = torch.from_numpy(golden[f"cls3_scores_{k}"])
        got = nms_ops.multi_classes_nms(scores, boxes, CONFIG, score_thresh=0.5)
        for value, key in zip(got, ("multi_scores", "multi_labels", "multi_boxes")):
            np.testing.assert_array_equal(value.numpy(), golden[f"{key}_{k}"], err_msg=f"{key}_{k}")


@pytest.mark.golden("ops/point_ops*.npz")
def test_points_in_boxes(golden_file: Path) -> None:
    golden = load(golden_file)
    points = torch.from_numpy(golden["fps_xyz"])
    boxes = torch.from_numpy(golden["pib_boxes"])
    got = point_ops.points_in_boxes(points, boxes.expand(len(points), -1, -1))
    np.testing.assert_array_equal(got.numpy(), golden["points_in_boxes_gpu"])


@pytest.mark.golden("ops/point_ops*.npz")
def test_points_in_boxes_mask(golden_file: Path) -> None:
    golden = load(golden_file)
    got = point_ops.points_in_boxes_mask(golden["fps_xyz"][0], golden["pib_boxes"])
    np.testing.assert_array_equal(got, golden["points_in_boxes_cpu"])
