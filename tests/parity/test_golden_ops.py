"""Box operators against the numbers recorded from OpenPCDet's own kernels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.ops import boxes as box_ops
from pcdet_distill.ops import nms as nms_ops
from pcdet_distill.ops import points as point_ops

# Boxes (N, 7) and (M, 7) to their overlap (N, M).
Overlap = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OPENPCDET_NMS = ("nms_gpu", "nms_normal_gpu")  # OpenPCDet has no other, so no other is recorded


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file."""
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.golden("ops/iou_pairs*.npz")
@pytest.mark.parametrize("overlap", [box_ops.boxes_overlap_bev, box_ops.boxes_overlap_bev_plain])
def test_rotated_overlap_of_pairs(golden_file: Path, overlap: Overlap) -> None:
    golden = load(golden_file)
    boxes_a = torch.from_numpy(golden["boxes_a"])
    boxes_b = torch.from_numpy(golden["boxes_b"])
    got = overlap(boxes_a, boxes_b).diagonal().numpy()
    np.testing.assert_allclose(got, golden["overlap_area_ref"], rtol=2e-5, atol=2e-5)


@pytest.mark.golden("ops/iou_pairs*.npz")
@pytest.mark.parametrize(
    ("function", "key"),
    [
        (box_ops.boxes_iou_bev, "iou_bev_ref"),
        (box_ops.boxes_iou3d, "iou3d_ref"),
        (box_ops.boxes3d_nearest_bev_iou, "nearest_bev_iou"),
    ],
)
def test_iou_of_pairs(golden_file: Path, function: Overlap, key: str) -> None:
    golden = load(golden_file)
    boxes_a = torch.from_numpy(golden["boxes_a"])
    boxes_b = torch.from_numpy(golden["boxes_b"])
    got = function(boxes_a, boxes_b).diagonal().numpy()
    np.testing.assert_allclose(got, golden[key], rtol=1e-5, atol=1e-5)


@pytest.mark.golden("ops/iou_pairs*.npz")
@pytest.mark.parametrize(
    ("function", "key"),
    [
        (box_ops.boxes_iou_bev, "matrix60_iou_bev_ref"),
        (box_ops.boxes_iou3d, "matrix60_iou3d_ref"),
        (box_ops.boxes3d_nearest_bev_iou, "matrix60_nearest_bev"),
    ],
)
def test_iou_matrices(golden_file: Path, function: Overlap, key: str) -> None:
    golden = load(golden_file)
    rows, columns = golden["matrix60_iou_bev_ref"].shape
    boxes_a = torch.from_numpy(golden["boxes_a"][:rows])
    boxes_b = torch.from_numpy(golden["boxes_b"][:columns])
    got = function(boxes_a, boxes_b).numpy()
    np.testing.assert_allclose(got, golden[key], atol=1e-5)


# --- NMS


@pytest.mark.golden("ops/nms*.npz")
@pytest.mark.parametrize("name", OPENPCDET_NMS)
def test_nms_keeps_the_same_list(golden_file: Path, name: str) -> None:
    golden = load(golden_file)
    nms = nms_ops.NMS_TYPES[name]
    num_cases = 0
    for key, expected in golden.items():
        # The name, the set of boxes and the threshold.
        match = re.fullmatch(name + r"_(\d+)_([\d.]+)", key)
        if match is None:
            continue
        num_cases += 1
        number, threshold = match.groups()
        boxes = torch.from_numpy(golden[f"boxes_{number}"])
        scores = torch.from_numpy(golden[f"scores_{number}"])
        kept = nms(boxes, scores, float(threshold))
        np.testing.assert_array_equal(kept.numpy(), expected, err_msg=key)
    assert num_cases


CONFIG = {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.1, "NMS_PRE_MAXSIZE": 100, "NMS_POST_MAXSIZE": 20}


def sets_of(golden: dict[str, np.ndarray]) -> list[str]:
    """The numbers of the sets of boxes."""
    return [key.removeprefix("boxes_") for key in golden if key.startswith("boxes_")]


@pytest.mark.golden("ops/*_meta.json")
def test_the_recorded_settings_are_the_tested_ones(golden_file: Path) -> None:
    meta = json.loads(golden_file.read_text())
    assert meta["class_agnostic_cfg"] == "NMS_THRESH .1, PRE 100, POST 20, score_thresh .3 (>=)"
    assert meta["multi_cfg"] == "same NMS cfg, score_thresh .5; labels 0-based"


@pytest.mark.golden("ops/nms*.npz")
def test_class_agnostic_nms(golden_file: Path) -> None:
    golden = load(golden_file)
    for number in sets_of(golden):
        boxes = torch.from_numpy(golden[f"boxes_{number}"])
        scores = torch.from_numpy(golden[f"scores_{number}"])
        kept, kept_scores = nms_ops.class_agnostic_nms(scores, boxes, CONFIG, score_thresh=0.3)
        np.testing.assert_array_equal(kept.numpy(), golden[f"class_agnostic_{number}"])
        expected_scores = golden[f"class_agnostic_scores_{number}"]
        np.testing.assert_array_equal(kept_scores.numpy(), expected_scores)


@pytest.mark.golden("ops/nms*.npz")
def test_multi_classes_nms(golden_file: Path) -> None:
    golden = load(golden_file)
    for number in sets_of(golden):
        boxes = torch.from_numpy(golden[f"boxes_{number}"])
        scores = torch.from_numpy(golden[f"cls3_scores_{number}"])
        kept = nms_ops.multi_classes_nms(scores, boxes, CONFIG, score_thresh=0.5)
        kept_scores, kept_labels, kept_boxes = (value.numpy() for value in kept)
        np.testing.assert_array_equal(kept_scores, golden[f"multi_scores_{number}"])
        np.testing.assert_array_equal(kept_labels, golden[f"multi_labels_{number}"])
        np.testing.assert_array_equal(kept_boxes, golden[f"multi_boxes_{number}"])


# --- Points in boxes


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
