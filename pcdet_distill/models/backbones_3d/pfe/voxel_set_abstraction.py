"""VoxelSetAbstraction: a scene summed up in keypoints, which gather features of all levels (PV-RCNN, CVPR 2020).

PV-RCNN++ (IJCV 2023) samples the keypoints near proposals, and lets them see only points and voxels near proposals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ....config import nearest, required
from ....errors import ConfigError
from ....ops.point_sampling import furthest_point_sample
from ....ops.proposal_sampling import near_boxes, sector_furthest_point_sample
from ....ops.rows import take_rows
from ...model_utils.local_aggregation import build_local_aggregation
from ...model_utils.places import stack_frames, voxel_centres
from ...model_utils.weighted_batch_norm import WeightedBatchNorm1d
from ...taps import TapInfo

WHERE = "MODEL.PFE"
LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")


class SpcSettings(NamedTuple):
    """How keypoints are sampled around proposals: in how many sectors, and how far from a proposal."""

    num_sectors: int
    margin_m: float


class VoxelSetAbstraction(nn.Module):
    """Keypoints by furthest point sampling, of the whole scene (FPS) or of what lies near proposals, sector by sector
    (SPC); features from the bird's eye view, the points and the sparse levels.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        num_bev_features: int | None = None,
        num_rawpoint_features: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.voxel_size, self.point_cloud_range = voxel_size, point_cloud_range
        self.num_keypoints = required(model_cfg, "NUM_KEYPOINTS", WHERE)
        _expect(model_cfg, "SAMPLE_METHOD", ("FPS", "SPC"))
        _expect(model_cfg, "POINT_SOURCE", ("raw_points", "voxel_centers"))
        sources = list(required(model_cfg, "FEATURES_SOURCE", WHERE))
        for name in sources:
            if name not in ("bev", "raw_points", *LEVELS):
                raise ConfigError(
                    f"{WHERE}.FEATURES_SOURCE: unknown source '{name}'"
                    f"{nearest(name, ('bev', 'raw_points', *LEVELS))}"
                )
        self.use_bev = "bev" in sources
        self.SA_layer_names = [name for name in sources if name not in ("bev", "raw_points")]
        blocks = required(model_cfg, "SA_LAYER", WHERE)
        self.spc = _spc_settings(model_cfg) if model_cfg["SAMPLE_METHOD"] == "SPC" else None
        self.roi_margins_m = {name: _roi_margin(blocks, name) for name in sources if name != "bev"}
        self.SA_layers = nn.ModuleList(_level_layer(blocks, name) for name in self.SA_layer_names)
        self.SA_rawpoints = None
        if "raw_points" in sources:
            assert num_rawpoint_features is not None
            self.SA_rawpoints = build_local_aggregation(
                blocks["raw_points"], num_rawpoint_features - 3, f"{WHERE}.SA_LAYER.raw_points"
            )
        width = sum(
            layer.num_output_features
            for layer in [*self.SA_layers, self.SA_rawpoints]
            if layer is not None
        )
        self.num_point_features_before_fusion = width + (num_bev_features or 0) * self.use_bev
        self.num_point_features = required(model_cfg, "NUM_OUTPUT_FEATURES", WHERE)
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(self.num_point_features_before_fusion, self.num_point_features, bias=False),
            WeightedBatchNorm1d(self.num_point_features),
            nn.ReLU(),
        )

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [
            TapInfo("@point_features", self.num_point_features, None, "point"),
            TapInfo(
                "@point_features_before_fusion",
                self.num_point_features_before_fusion,
                None,
                "point",
            ),
        ]

    def check_proposals(self, are_made_before: bool) -> None:
        """Refuse settings that ask for proposals where the detector makes them later."""
        asking = [
            f"SA_LAYER.{name}.FILTER_NEIGHBOR_WITH_ROI is true, expected false"
            for name, margin_m in self.roi_margins_m.items()
            if margin_m is not None
        ]
        if self.spc is not None:
            asking.insert(0, "SAMPLE_METHOD is 'SPC', expected FPS")
        if asking and not are_made_before:
            raise ConfigError(
                f"{WHERE}.{asking[0]}: this detector makes its proposals after the keypoints; "
                "PVRCNNPlusPlus makes them before"
            )

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``points``, ``multi_scale_3d_features``, ``multi_scale_3d_strides``, ``spatial_features``; ``rois``
        (B, R, 7 + C) where keypoints or what they see lie near proposals.

        Writes ``point_coords`` (K, 4) frame, x, y, z of the keypoints; ``point_features_before_fusion`` (K, C) and
        ``point_features`` (K, C_out). A frame without points has no keypoints, every other one NUM_KEYPOINTS; with SPC
        at most about as many, at least one.
        """
        batch_size = int(batch_dict["batch_size"])
        keypoints = self.sample_keypoints(batch_dict, batch_size)
        features = []
        if self.use_bev:
            features.append(
                self.interpolate_bev(
                    keypoints, batch_dict["spatial_features"], batch_dict["spatial_features_stride"]
                )
            )
        if self.SA_rawpoints is not None:
            points = batch_dict["points"]
            features.append(
                self.gather(
                    "raw_points",
                    self.SA_rawpoints,
                    points[:, 0],
                    points[:, 1:4],
                    points[:, 4:],
                    keypoints,
                    batch_dict,
                )
            )
        for name, layer in zip(self.SA_layer_names, self.SA_layers):
            tensor, stride = (
                batch_dict["multi_scale_3d_features"][name],
                batch_dict["multi_scale_3d_strides"][name],
            )
            xyz = voxel_centres(
                tensor.indices[:, 1:], stride, self.voxel_size, self.point_cloud_range
            )
            features.append(
                self.gather(
                    name, layer, tensor.indices[:, 0], xyz, tensor.features, keypoints, batch_dict
                )
            )
        both = torch.cat(features, dim=1)
        batch_dict.update(
            point_coords=keypoints,
            point_features_before_fusion=both,
            point_features=self.vsa_point_feature_fusion(both),
        )
        return batch_dict

    def gather(
        self,
        name: str,
        layer: nn.Module,
        frame: Tensor,
        xyz: Tensor,
        features: Tensor,
        keypoints: Tensor,
        batch_dict: Mapping[str, Any],
    ) -> Tensor:
        """What ``layer`` makes (K, C') of a source around the keypoints (K, 4): its rows' frame (N,), places (N, 3),
        features (N, C).
        """
        batch_size, margin_m = int(batch_dict["batch_size"]), self.roi_margins_m[name]
        counts, xyz, features = stack_frames(frame, batch_size, xyz, features)
        if margin_m is not None:
            near = [
                near_boxes(own, rois, margin_m)
                for own, rois in zip(xyz.split(counts.tolist()), batch_dict["rois"])
            ]
            counts = torch.stack([mask.sum() for mask in near])
            xyz, features = xyz[torch.cat(near)], features[torch.cat(near)]
        centre_counts = torch.bincount(keypoints[:, 0].long(), minlength=batch_size)
        return layer(xyz, counts, keypoints[:, 1:4], centre_counts, features)[1]

    @torch.no_grad()
    def sample_keypoints(self, batch_dict: Mapping[str, Any], batch_size: int) -> Tensor:
        """Keypoints (K, 4) as frame, x, y, z."""
        if self.model_cfg["POINT_SOURCE"] == "raw_points":
            points = batch_dict["points"][:, :4]
        else:
            coords = batch_dict["voxel_coords"]
            centres = voxel_centres(coords[:, 1:], 1, self.voxel_size, self.point_cloud_range)
            points = torch.cat([coords[:, :1].to(centres.dtype), centres], dim=1)
        chosen = [points[:0]]
        for frame in range(batch_size):
            own = points[points[:, 0] == frame]
            if len(own):
                chosen.append(
                    self._of_scene(own)
                    if self.spc is None
                    else self._near_proposals(own, batch_dict["rois"][frame], self.spc)
                )
        return torch.cat(chosen)

    def _of_scene(self, points: Tensor) -> Tensor:
        """NUM_KEYPOINTS rows of the points (N, 4) of a frame, N > 0; with fewer points they repeat."""
        rows = furthest_point_sample(points[None, :, 1:4], min(self.num_keypoints, len(points)))[0]
        repeats = -(-self.num_keypoints // len(rows))
        return points[rows.repeat(repeats)[: self.num_keypoints]]

    def _near_proposals(self, points: Tensor, rois: Tensor, settings: SpcSettings) -> Tensor:
        """Rows of the points (N, 4) of a frame, N > 0, near its rois (R, 7 + C); the first one where none is near."""
        near = points[near_boxes(points[:, 1:4], rois, settings.margin_m)]
        near = near if len(near) else points[:1]
        return near[
            sector_furthest_point_sample(near[:, 1:4], self.num_keypoints, settings.num_sectors)
        ]

    def interpolate_bev(self, keypoints: Tensor, features: Tensor, stride: int) -> Tensor:
        """Features (K, C) of a map (B, C, H, W) at keypoints (K, 4), bilinear; beyond the last cell's centre 0."""
        frames, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        low, high, place = [], [], []
        for axis, cells in enumerate((width, height)):
            at = (
                (keypoints[:, 1 + axis] - float(self.point_cloud_range[axis]))
                / float(self.voxel_size[axis])
                / stride
            )
            place.append(at)
            low.append(at.floor().long().clamp(0, cells - 1))
            high.append((at.floor().long() + 1).clamp(0, cells - 1))
        first = keypoints[:, 0].long() * height
        # A corner's weight is the distance to the opposite corner, in x times in y.
        columns = ((low[0], high[0] - place[0]), (high[0], place[0] - low[0]))
        lines = ((low[1], high[1] - place[1]), (high[1], place[1] - low[1]))
        corners = torch.stack([(first + y) * width + x for x, _ in columns for y, _ in lines])
        weights = torch.stack(
            [x_weight * y_weight for _, x_weight in columns for _, y_weight in lines]
        )
        return (take_rows(rows, corners) * weights.unsqueeze(-1)).sum(dim=0)


def _expect(model_cfg: Mapping[str, Any], key: str, possible: tuple[str, ...]) -> None:
    value = required(model_cfg, key, WHERE)
    if value not in possible:
        raise ConfigError(f"{WHERE}.{key} is '{value}', expected {' or '.join(possible)}")


def _spc_settings(model_cfg: Mapping[str, Any]) -> SpcSettings:
    settings, where = required(model_cfg, "SPC_SAMPLING", WHERE), f"{WHERE}.SPC_SAMPLING"
    sectors = required(settings, "NUM_SECTORS", where)
    if sectors < 1:
        raise ConfigError(f"{where}.NUM_SECTORS is {sectors}, expected a number above 0")
    return SpcSettings(sectors, required(settings, "SAMPLE_RADIUS_WITH_ROI", where))


def _roi_margin(blocks: Mapping[str, Any], name: str) -> float | None:
    """How far from a proposal a source may lie to be seen; None: anywhere."""
    block, where = required(blocks, name, f"{WHERE}.SA_LAYER"), f"{WHERE}.SA_LAYER.{name}"
    if not block.get("FILTER_NEIGHBOR_WITH_ROI"):
        return None
    return required(block, "RADIUS_OF_NEIGHBOR_WITH_ROI", where)


def _level_layer(blocks: Mapping[str, Any], name: str) -> nn.Module:
    """The layer of a sparse level; its features are as wide as INPUT_CHANNELS, or else as the first MLP says."""
    where = f"{WHERE}.SA_LAYER.{name}"
    block = required(blocks, name, f"{WHERE}.SA_LAYER")
    channels = block.get("INPUT_CHANNELS") or required(block, "MLPS", where)[0][0]
    return build_local_aggregation(block, channels, where)
