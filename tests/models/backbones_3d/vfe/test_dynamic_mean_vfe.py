"""DynMeanVFE: means of all points of a voxel, by hand and against MeanVFE."""

from __future__ import annotations

import pytest
import torch
from easydict import EasyDict
from small_model import RANGE, random_scene
from small_second import SMALL_VOXELS, second_batch, second_config, small_second
from torch import Tensor

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.backbones_3d.vfe import VFES, MeanVFE
from pcdet_distill.types import BatchDict

GRID = [64, 64, 40]


def encode(points: Tensor, name: str = "DynMeanVFE") -> BatchDict:
    """What the encoder writes for points (N, 1 + 4) of a frame number, x, y, z, intensity."""
    encoder = VFES[name](
        model_cfg=EasyDict(NAME=name),
        num_point_features=4,
        voxel_size=SMALL_VOXELS,
        grid_size=GRID,
        point_cloud_range=RANGE,
    )
    assert encoder.get_output_feature_dim() == 4
    return encoder({"points": points})


@pytest.mark.parametrize("name", ["DynMeanVFE", "DynamicMeanVFE"])
def test_means_by_hand(name: str) -> None:
    low = torch.tensor(RANGE[:3])
    rows = [
        # frame, then metres from the lowest corner, intensity
        [1, 0.30, 0.01, 0.02, 0.1],  # frame 1, cell x 1, y 0, z 0
        [0, 0.10, 0.60, 0.15, 0.2],  # frame 0, cell x 0, y 2, z 1
        [1, 0.40, 0.03, 0.04, 0.3],  # the first one's voxel
        [0, 16.0, 0.10, 0.10, 0.4],  # beyond the upper end of x
        [0, 0.10, 0.10, -0.01, 0.5],  # below the range
        [0, float("nan"), 0.1, 0.1, 0.6],
    ]
    points = torch.tensor(rows)
    points[:, 1:4] += low
    found = encode(points, name)
    assert found["voxel_coords"].tolist() == [[0, 1, 2, 0], [1, 0, 0, 1]]
    assert found["voxel_num_points"].tolist() == [1, 2]
    expected = torch.tensor([[0.10, 0.60, 0.15, 0.2], [0.35, 0.02, 0.03, 0.2]])
    expected[:, :3] += low
    torch.testing.assert_close(found["voxel_features"], expected)


def test_no_point() -> None:
    found = encode(torch.zeros(0, 5))
    assert found["voxel_features"].shape == (0, 4)
    assert found["voxel_coords"].shape == (0, 4)


def test_voxels_with_room_for_all_points_have_the_same_means() -> None:
    """In the order of another number of the voxel, so both are sorted by it."""
    batch = second_batch([random_scene(0), random_scene(1)])
    assert (batch["voxel_num_points"] < batch["voxels"].shape[1]).any()
    padded = MeanVFE(EasyDict(), num_point_features=4)(dict(batch))
    dynamic = encode(batch["points"])
    means = {}
    rows = zip(padded["voxel_coords"], padded["voxel_features"], padded["voxel_num_points"])
    for cell, mean, count in rows:
        if count < batch["voxels"].shape[1]:
            means[tuple(cell.long().tolist())] = mean
    assert len(means) > 50
    found = dict(zip(map(tuple, dynamic["voxel_coords"].tolist()), dynamic["voxel_features"]))
    for cell, mean in means.items():
        torch.testing.assert_close(found[cell], mean)


def test_a_detector_with_it_trains() -> None:
    config = second_config()
    config.VFE = EasyDict(NAME="DynMeanVFE")
    model = small_second(config).train()
    loss = model(second_batch([random_scene(0), random_scene(1)]))[0]["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    gradient = next(model.backbone_3d.parameters()).grad
    assert gradient.abs().sum() > 0


def test_without_a_voxel_size_it_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match="transform_points_to_voxels_placeholder"):
        VFES["DynMeanVFE"](
            model_cfg=EasyDict(),
            num_point_features=4,
            voxel_size=None,
            grid_size=None,
            point_cloud_range=RANGE,
        )
