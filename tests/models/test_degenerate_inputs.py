"""Frames without a point, with one voxel, without a box, in every detector: no crash, no NaN, in training and eval."""
from __future__ import annotations

import math

import pytest
import torch
from odd_batches import ODD_BATCHES
from small_center import center_config, voxel_config
from small_model import make_batch, small_model
from small_multi_head import multi_model_config, multi_second_config
from small_pillarnet import pillarnet_config
from small_point_rcnn import point_batch, small_point_rcnn
from small_second import second_batch, second_config, small_second
from small_two_stage import TWO_STAGE_CONFIGS

DETECTORS = {
    "PointPillar": (small_model, make_batch),
    "PointPillar, several heads": (lambda: small_model(multi_model_config()), make_batch),
    "CenterPoint": (lambda: small_model(center_config()), make_batch),
    "CenterPoint, voxels": (lambda: small_second(voxel_config()), second_batch),
    "PillarNet": (lambda: small_model(pillarnet_config()), make_batch),
    "PillarNet, residual": (lambda: small_model(pillarnet_config("PillarRes18BackBone8x")), make_batch),
    "PillarNet, centre head": (lambda: small_model(pillarnet_config(head="CenterHead")), make_batch),
    "SECONDNet": (small_second, second_batch),
    "SECONDNet, several heads": (lambda: small_second(multi_second_config()), second_batch),
    "SECONDNet, residual": (lambda: small_second(second_config("VoxelResBackBone8x")), second_batch),
    "PointRCNN": (small_point_rcnn, point_batch),
    **{name: (lambda make_config=make_config: small_second(make_config()), second_batch)
       for name, make_config in TWO_STAGE_CONFIGS.items()},
}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("scenes", ODD_BATCHES.values(), ids=ODD_BATCHES.keys())
def test_odd_frames(detector: str, scenes: list) -> None:
    make_model, collate = DETECTORS[detector]
    model = make_model()
    ret, tb_dict, _ = model.train()(collate(scenes))
    ret["loss"].backward()
    assert math.isfinite(ret["loss"].item()) and all(math.isfinite(value) for value in tb_dict.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())
    predictions, recall = model.eval()(collate(scenes))
    assert len(predictions) == len(scenes)
    assert all(torch.isfinite(value).all() for frame in predictions for value in frame.values())
    assert recall["gt"] == sum(len(boxes) for _, boxes in scenes)
