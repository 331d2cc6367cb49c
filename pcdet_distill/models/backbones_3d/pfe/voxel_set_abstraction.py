"""VoxelSetAbstraction: a scene summed up in keypoints, which gather features of all levels (PV-RCNN, CVPR 2020)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....errors import ConfigError
from ....lookup import nearest
from ....ops.point_sampling import furthest_point_sample, take_rows
from ...model_utils.places import stack_frames, voxel_centres
from ...model_utils.pointnet2_modules import StackSAModuleMSG
from ...model_utils.settings import required
from ...model_utils.weighted_batch_norm import WeightedBatchNorm1d
from ...taps import TapInfo

WHERE = "MODEL.PFE"
LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")


class VoxelSetAbstraction(nn.Module):
    """Keypoints by furthest point sampling; features from the bird's eye view, the points and the sparse levels."""

    def __init__(self, model_cfg: Mapping[str, Any], voxel_size: Sequence[float], point_cloud_range: Sequence[float],
                 num_bev_features: int | None = None, num_rawpoint_features: int | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.voxel_size, self.point_cloud_range = voxel_size, point_cloud_range
        self.num_keypoints = required(model_cfg, "NUM_KEYPOINTS", WHERE)
        _expect(model_cfg, "SAMPLE_METHOD", ("FPS",))
        _expect(model_cfg, "POINT_SOURCE", ("raw_points", "voxel_centers"))
        sources = list(required(model_cfg, "FEATURES_SOURCE", WHERE))
        for name in sources:
            if name not in ("bev", "raw_points", *LEVELS):
                raise ConfigError(f"{WHERE}.FEATURES_SOURCE: unknown source '{name}'"
                                  f"{nearest(name, ('bev', 'raw_points', *LEVELS))}")
        self.use_bev = "bev" in sources
        self.SA_layer_names = [name for name in sources if name not in ("bev", "raw_points")]
        blocks = required(model_cfg, "SA_LAYER", WHERE)
        self.SA_layers = nn.ModuleList(_level_layer(blocks, name) for name in self.SA_layer_names)
        self.SA_rawpoints = None
        if "raw_points" in sources:
            assert num_rawpoint_features is not None
            self.SA_rawpoints = _set_abstraction(blocks, "raw_points", num_rawpoint_features - 3)
        width = sum(layer.num_output_features for layer in [*self.SA_layers, self.SA_rawpoints] if layer is not None)
        self.num_point_features_before_fusion = width + (num_bev_features or 0) * self.use_bev
        self.num_point_features = required(model_cfg, "NUM_OUTPUT_FEATURES", WHERE)
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(self.num_point_features_before_fusion, self.num_point_features, bias=False),
            WeightedBatchNorm1d(self.num_point_features), nn.ReLU())

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@point_features", self.num_point_features, None, "point"),
                TapInfo("@point_features_before_fusion", self.num_point_features_before_fusion, None, "point")]

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``points``, ``multi_scale_3d_features``, ``multi_scale_3d_strides``, ``spatial_features``.

        Writes ``point_coords`` (K, 4) frame, x, y, z of the keypoints; ``point_features_before_fusion`` (K, C) and
        ``point_features`` (K, C_out). A frame without points has no keypoints, every other one NUM_KEYPOINTS.
        """
        batch_size = int(batch_dict["batch_size"])
        keypoints = self.sample_keypoints(batch_dict, batch_size)
        counts, centres = torch.bincount(keypoints[:, 0].long(), minlength=batch_size), keypoints[:, 1:4]
        features = []
        if self.use_bev:
            features.append(self.interpolate_bev(keypoints, batch_dict["spatial_features"],
                                                 batch_dict["spatial_features_stride"]))
        if self.SA_rawpoints is not None:
            raw_counts, points = stack_frames(batch_dict["points"][:, 0], batch_size, batch_dict["points"])
            features.append(self.SA_rawpoints(points[:, 1:4], raw_counts, centres, counts, points[:, 4:])[1])
        for name, layer in zip(self.SA_layer_names, self.SA_layers):
            tensor, stride = batch_dict["multi_scale_3d_features"][name], batch_dict["multi_scale_3d_strides"][name]
            voxel_counts, coords, voxels = stack_frames(tensor.indices[:, 0], batch_size, tensor.indices[:, 1:],
                                                        tensor.features)
            xyz = voxel_centres(coords, stride, self.voxel_size, self.point_cloud_range)
            features.append(layer(xyz, voxel_counts, centres, counts, voxels)[1])
        both = torch.cat(features, dim=1)
        batch_dict.update(point_coords=keypoints, point_features_before_fusion=both,
                          point_features=self.vsa_point_feature_fusion(both))
        return batch_dict

    @torch.no_grad()
    def sample_keypoints(self, batch_dict: Mapping[str, Any], batch_size: int) -> Tensor:
        """Keypoints (K, 4) as frame, x, y, z. A frame with fewer points than keypoints repeats them."""
        if self.model_cfg["POINT_SOURCE"] == "raw_points":
            points = batch_dict["points"][:, :4]
        else:
            coords = batch_dict["voxel_coords"]
            centres = voxel_centres(coords[:, 1:], 1, self.voxel_size, self.point_cloud_range)
            points = torch.cat([coords[:, :1].to(centres.dtype), centres], dim=1)
        chosen = []
        for frame in range(batch_size):
            own = points[points[:, 0] == frame]
            if len(own):
                rows = furthest_point_sample(own[None, :, 1:4], min(self.num_keypoints, len(own)))[0]
                repeats = -(-self.num_keypoints // len(rows))
                chosen.append(own[rows.repeat(repeats)[:self.num_keypoints]])
        return torch.cat(chosen) if chosen else points[:0]

    def interpolate_bev(self, keypoints: Tensor, features: Tensor, stride: int) -> Tensor:
        """Features (K, C) of a map (B, C, H, W) at keypoints (K, 4), bilinear; beyond the last cell's centre 0."""
        frames, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        low, high, place = [], [], []
        for axis, cells in enumerate((width, height)):
            at = (keypoints[:, 1 + axis] - float(self.point_cloud_range[axis])) / float(self.voxel_size[axis]) / stride
            place.append(at)
            low.append(at.floor().long().clamp(0, cells - 1))
            high.append((at.floor().long() + 1).clamp(0, cells - 1))
        first = keypoints[:, 0].long() * height
        # A corner's weight is the distance to the opposite corner, in x times in y.
        columns = ((low[0], high[0] - place[0]), (high[0], place[0] - low[0]))
        lines = ((low[1], high[1] - place[1]), (high[1], place[1] - low[1]))
        corners = torch.stack([(first + y) * width + x for x, _ in columns for y, _ in lines])
        weights = torch.stack([x_weight * y_weight for _, x_weight in columns for _, y_weight in lines])
        return (take_rows(rows, corners) * weights.unsqueeze(-1)).sum(dim=0)


def _expect(model_cfg: Mapping[str, Any], key: str, possible: tuple[str, ...]) -> None:
    value = required(model_cfg, key, WHERE)
    if value not in possible:
        raise ConfigError(f"{WHERE}.{key} is '{value}', expected {' or '.join(possible)}")


def _level_layer(blocks: Mapping[str, Any], name: str) -> StackSAModuleMSG:
    """The layer of a sparse level; its features are as wide as the first MLP says, or INPUT_CHANNELS."""
    block = required(blocks, name, f"{WHERE}.SA_LAYER")
    widths = required(block, "MLPS", f"{WHERE}.SA_LAYER.{name}")
    return _set_abstraction(blocks, name, block.get("INPUT_CHANNELS") or widths[0][0])


def _set_abstraction(blocks: Mapping[str, Any], name: str, input_channels: int) -> StackSAModuleMSG:
    where = f"{WHERE}.SA_LAYER.{name}"
    block = required(blocks, name, f"{WHERE}.SA_LAYER")
    kind = block.get("NAME", "StackSAModuleMSG")
    if kind != "StackSAModuleMSG":
        raise ConfigError(f"{where}.NAME is '{kind}', expected StackSAModuleMSG")
    return StackSAModuleMSG(radii=required(block, "POOL_RADIUS", where), nsamples=required(block, "NSAMPLE", where),
                            mlps=[[input_channels, *widths] for widths in required(block, "MLPS", where)],
                            pool_method=block.get("POOL_METHOD", "max_pool"))
