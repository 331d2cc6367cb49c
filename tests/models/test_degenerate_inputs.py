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

from pcdet_distill.models.dense_heads import center_head
from pcdet_distill.models.roi_heads import roi_head_template

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
    **{
        name: (lambda make_config=make_config: small_second(make_config()), second_batch)
        for name, make_config in TWO_STAGE_CONFIGS.items()
    },
}
TWO_STAGES = [
    name for name in DETECTORS if name.startswith("PointRCNN") or name in TWO_STAGE_CONFIGS
]


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("scenes", ODD_BATCHES.values(), ids=ODD_BATCHES.keys())
def test_odd_frames(detector: str, scenes: list) -> None:
    check_trains_and_evaluates(detector, scenes)


@pytest.mark.parametrize("detector", TWO_STAGES)
def test_no_proposal(detector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All RoIs are padding, so none is positive and there is no final box."""
    for proposing in (roi_head_template, center_head):
        monkeypatch.setattr(
            proposing,
            "class_agnostic_nms",
            lambda scores, boxes, config: (torch.zeros(0, dtype=torch.long), scores[:0]),
        )
    predictions = check_trains_and_evaluates(detector, [random_scene(0), random_scene(1)])
    assert all(len(frame["pred_boxes"]) == 0 for frame in predictions)


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
