"""Frames without points, with one voxel or without boxes, in every detector."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from odd_batches import ODD_BATCHES
from small_center import center_config, voxel_config
from small_model import CLASS_NAMES, make_batch, random_scene, small_model
from small_multi_head import multi_model_config, multi_second_config
from small_pillarnet import pillarnet_config
from small_point_rcnn import point_batch, point_rcnn_iou_config, small_point_rcnn
from small_second import second_batch, second_config, small_second
from small_two_stage import TWO_STAGE_CONFIGS
from torch import Tensor

from pcdet_distill.models import Detector3DTemplate
from pcdet_distill.models.dense_heads import center_nms
from pcdet_distill.models.roi_heads import roi_head_template

# How to build a detector, and how to make a batch for it.
DETECTORS = {
    "PointPillar": (small_model, make_batch),
    "PointPillar, several heads": (lambda: small_model(multi_model_config()), make_batch),
    "CenterPoint": (lambda: small_model(center_config()), make_batch),
    "CenterPoint, several heads": (
        lambda: small_model(center_config([["Car"], CLASS_NAMES[1:]])),
        make_batch,
    ),
    "CenterPoint, voxels": (lambda: small_second(voxel_config()), second_batch),
    "PillarNet": (lambda: small_model(pillarnet_config()), make_batch),
    "PillarNet, residual": (
        lambda: small_model(pillarnet_config("PillarRes18BackBone8x")),
        make_batch,
    ),
    "PillarNet, centre head": (
        lambda: small_model(pillarnet_config(head="CenterHead")),
        make_batch,
    ),
    "SECONDNet": (small_second, second_batch),
    "SECONDNet, several heads": (lambda: small_second(multi_second_config()), second_batch),
    "SECONDNet, residual": (
        lambda: small_second(second_config("VoxelResBackBone8x")),
        second_batch,
    ),
    "PointRCNN": (small_point_rcnn, point_batch),
    "PointRCNN, IoU": (lambda: small_point_rcnn(point_rcnn_iou_config()), point_batch),
    "PointRCNN, points as they are": (small_point_rcnn, partial(point_batch, num_points=None)),
}


def build_two_stage(name: str) -> Detector3DTemplate:
    """One of TWO_STAGE_CONFIGS."""
    return small_second(TWO_STAGE_CONFIGS[name]())


for two_stage_name in TWO_STAGE_CONFIGS:
    DETECTORS[two_stage_name] = (partial(build_two_stage, two_stage_name), second_batch)
TWO_STAGES = [
    name for name in DETECTORS if name.startswith("PointRCNN") or name in TWO_STAGE_CONFIGS
]


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("scenes", ODD_BATCHES.values(), ids=ODD_BATCHES.keys())
def test_odd_frames_train_and_evaluate(detector: str, scenes: list) -> None:
    check_trains_and_evaluates(detector, scenes)


@pytest.mark.parametrize("detector", TWO_STAGES)
def test_without_proposals_there_is_no_final_box(
    detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All RoIs are padding, so none is positive."""

    def keep_nothing(scores: Tensor, boxes: Tensor, config: object) -> tuple[Tensor, Tensor]:
        return torch.zeros(0, dtype=torch.long), scores[:0]

    monkeypatch.setattr(roi_head_template, "class_agnostic_nms", keep_nothing)
    monkeypatch.setattr(center_nms, "class_agnostic_nms", keep_nothing)
    predictions = check_trains_and_evaluates(detector, [random_scene(0), random_scene(1)])
    for frame in predictions:
        assert len(frame["pred_boxes"]) == 0


def check_trains_and_evaluates(detector: str, scenes: list) -> list[dict[str, torch.Tensor]]:
    """One step and one evaluation, all of it finite; returns the predictions."""
    make_model, collate = DETECTORS[detector]
    model = make_model()
    ret, tb_dict, _ = model.train()(collate(scenes))
    ret["loss"].backward()
    assert math.isfinite(ret["loss"].item())
    assert all(math.isfinite(value) for value in tb_dict.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())
    predictions, recall = model.eval()(collate(scenes))
    assert len(predictions) == len(scenes)
    for frame in predictions:
        assert all(torch.isfinite(value).all() for value in frame.values())
    assert recall["gt"] == sum(len(boxes) for _, boxes in scenes)
    return predictions
