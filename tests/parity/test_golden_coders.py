"""Box coders, losses and angle arithmetic equal recorded values of OpenPCDet."""

from __future__ import annotations

from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdet_distill.models.model_utils.box_coders import PointResidualCoder, ResidualCoder
from pcdet_distill.models.model_utils.losses import (
    SigmoidFocalClassificationLoss,
    WeightedCrossEntropyLoss,
    WeightedSmoothL1Loss,
    corner_loss_lidar,
)
from pcdet_distill.ops.boxes import limit_period

PIPELINE = "pipeline/pipeline*.npz"
KITTI_MEAN_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73], [1.76, 0.6, 1.73]]


class Recorded:
    """Arrays of one file as tensors."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __getitem__(self, name: str) -> Tensor:
        with np.load(self.file, allow_pickle=False) as data:
            return torch.from_numpy(data[name])

    def check(self, name: str, value: Tensor, **tolerance: float) -> None:
        torch.testing.assert_close(value, self[name], **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


@pytest.mark.golden(PIPELINE)
def test_limit_period(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    angles = recorded["limit_period_in"]
    recorded.check("limit_period_0.5_pi", limit_period(angles, 0.5, pi).float())
    recorded.check("limit_period_0_2pi", limit_period(angles, 0, 2 * pi).float())


@pytest.mark.golden(PIPELINE)
def test_residual_coder(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    anchors = recorded["coder_anchors"]
    boxes = recorded["coder_gt"]
    recorded.check("residual_encoded", ResidualCoder().encode_torch(boxes, anchors))
    recorded.check(
        "residual_decoded", ResidualCoder().decode_torch(recorded["residual_encoded"], anchors)
    )


@pytest.mark.golden(PIPELINE)
def test_point_residual_coder(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    coder = PointResidualCoder(mean_size=KITTI_MEAN_SIZES)
    points = recorded["coder_anchors"][:, :3]
    classes = recorded["point_classes"]
    recorded.check("pointres_encoded", coder.encode_torch(recorded["coder_gt"], points, classes))
    recorded.check(
        "pointres_decoded", coder.decode_torch(recorded["pointres_encoded"], points, classes)
    )


@pytest.mark.golden(PIPELINE)
def test_focal_loss(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    loss = SigmoidFocalClassificationLoss()(
        recorded["focal_logits"], recorded["focal_targets"], recorded["focal_weights"]
    )
    recorded.check("focal_loss", loss)


@pytest.mark.golden(PIPELINE)
def test_smooth_l1_loss(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    assert torch.isnan(recorded["sl1_target"]).any()
    loss = WeightedSmoothL1Loss(code_weights=[1, 1, 1, 1, 1, 1, 2])
    recorded.check(
        "sl1_loss", loss(recorded["sl1_in"], recorded["sl1_target"], recorded["focal_weights"])
    )


@pytest.mark.golden(PIPELINE)
def test_cross_entropy_loss(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    loss = WeightedCrossEntropyLoss()(
        recorded["ce_logits"], recorded["ce_onehot"], recorded["focal_weights"]
    )
    recorded.check("ce_loss", loss)


@pytest.mark.golden(PIPELINE)
def test_corner_loss(golden_file: Path) -> None:
    recorded = Recorded(golden_file)
    loss = corner_loss_lidar(recorded["coder_anchors"], recorded["coder_gt"])
    recorded.check("corner_loss", loss, rtol=1e-4)
