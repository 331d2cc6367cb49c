"""VoxelSetAbstraction: a scene summarised in keypoints with features of all levels (PV-RCNN).

PV-RCNN (CVPR 2020) refines boxes from a few thousand keypoints, which is cheaper than from all
voxels. PV-RCNN++ (IJCV 2023) samples the keypoints near proposals only, and aggregates only points
and voxels near proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....config import nearest, required
from ....errors import ConfigError
from ....ops.frames import rows_by_frame, stack_frames
from ....ops.point_sampling import stack_furthest_point_sample
from ....ops.proposal_sampling import near_boxes, sample_sectors
from ....ops.rows import take_rows
from ....types import BatchDict, ConfigDict
from ...model_utils.local_aggregation import build_local_aggregation
from ...model_utils.places import voxel_centres
from ...model_utils.weighted_batch_norm import WeightedBatchNorm1d
from ...taps import TapInfo

WHERE = "MODEL.PFE"
LEVELS = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")
SOURCES = ("bev", "raw_points", *LEVELS)


class SpcSettings(NamedTuple):
    """How keypoints are sampled near proposals.

    Attributes:
        num_sectors: sectors around the sensor, each sampled on its own.
        margin_m: how far outside a proposal's sphere a keypoint may lie.
    """

    num_sectors: int
    margin_m: float


class Source(NamedTuple):
    """Points or voxels that keypoints gather features from.

    Attributes:
        name: ``raw_points`` or a sparse level.
        frame: (N,).
        xyz: (N, 3) metres.
        features: (N, C).
    """

    name: str
    frame: Tensor
    xyz: Tensor
    features: Tensor


class VoxelSetAbstraction(nn.Module):
    """Samples keypoints and gathers their features from the BEV map, the points and sparse levels.

    ``SAMPLE_METHOD: FPS`` takes the furthest points of the whole scene, ``SPC`` those near
    proposals, sector by sector.
    """

    def __init__(
        self,
        model_cfg: ConfigDict,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        num_bev_features: int | None = None,
        num_rawpoint_features: int | None = None,
        **unused: object,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.voxel_size = voxel_size
        self.point_cloud_range = point_cloud_range
        self.num_keypoints = required(model_cfg, "NUM_KEYPOINTS", WHERE)
        _check_choice(model_cfg, "SAMPLE_METHOD", ("FPS", "SPC"))
        _check_choice(model_cfg, "POINT_SOURCE", ("raw_points", "voxel_centers"))
        sources = _feature_sources(model_cfg)
        self.use_bev = "bev" in sources
        self.SA_layer_names = [name for name in sources if name in LEVELS]
        blocks = required(model_cfg, "SA_LAYER", WHERE)
        self.spc = _spc_settings(model_cfg) if model_cfg["SAMPLE_METHOD"] == "SPC" else None
        self.roi_margins_m = {name: _roi_margin(blocks, name) for name in sources if name != "bev"}
        self.SA_layers = nn.ModuleList(_level_layer(blocks, name) for name in self.SA_layer_names)
        self.SA_rawpoints = None
        if "raw_points" in sources:
            assert num_rawpoint_features is not None
            where = f"{WHERE}.SA_LAYER.raw_points"
            xyz_columns = 3
            self.SA_rawpoints = build_local_aggregation(
                blocks["raw_points"], num_rawpoint_features - xyz_columns, where
            )
        bev_width = (num_bev_features or 0) if self.use_bev else 0
        self.num_point_features_before_fusion = self._gathered_width() + bev_width
        self.num_point_features = required(model_cfg, "NUM_OUTPUT_FEATURES", WHERE)
        self.vsa_point_feature_fusion = nn.Sequential(
            nn.Linear(self.num_point_features_before_fusion, self.num_point_features, bias=False),
            WeightedBatchNorm1d(self.num_point_features),
            nn.ReLU(),
        )

    def _gathered_width(self) -> int:
        """Channels of the features that the set abstraction layers gather."""
        layers = [*self.SA_layers]
        if self.SA_rawpoints is not None:
            layers.append(self.SA_rawpoints)
        return sum(int(layer.num_output_features) for layer in layers)

    def taps(self) -> list[TapInfo]:
        """Features that can be captured, with paths relative to this slot."""
        before = self.num_point_features_before_fusion
        return [
            TapInfo("@point_features", self.num_point_features, None, "point"),
            TapInfo("@point_features_before_fusion", before, None, "point"),
        ]

    def check_proposals(self, are_made_before: bool) -> None:
        """Refuse settings that need proposals where the detector makes them after the keypoints."""
        if are_made_before:
            return
        problems = []
        if self.spc is not None:
            problems.append("SAMPLE_METHOD is 'SPC', expected FPS")
        for name, margin_m in self.roi_margins_m.items():
            if margin_m is not None:
                key = f"SA_LAYER.{name}.FILTER_NEIGHBOR_WITH_ROI"
                problems.append(f"{key} is true, expected false")
        if problems:
            raise ConfigError(
                f"{WHERE}.{problems[0]}: this detector makes its proposals after the keypoints; "
                "PVRCNNPlusPlus makes them before"
            )

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Sample keypoints and compute their features.

        Reads ``points``, ``multi_scale_3d_features``, ``multi_scale_3d_strides``,
        ``spatial_features``; and ``rois`` (B, R, 7 + C) where keypoints or sources are restricted
        to proposals.

        Writes ``point_coords`` (K, 4) frame, x, y, z of the keypoints;
        ``point_features_before_fusion`` (K, C) and ``point_features`` (K, C_out). A frame without
        points has no keypoints, every other one has NUM_KEYPOINTS. With SPC a frame has about as
        many at most, and at least one.
        """
        keypoints = self.sample_keypoints(batch_dict, int(batch_dict["batch_size"]))
        features = []
        if self.use_bev:
            bev = batch_dict["spatial_features"]
            stride = batch_dict["spatial_features_stride"]
            features.append(self.interpolate_bev(keypoints, bev, stride))
        if self.SA_rawpoints is not None:
            points = batch_dict["points"]
            source = Source("raw_points", points[:, 0], points[:, 1:4], points[:, 4:])
            features.append(self.gather(source, self.SA_rawpoints, keypoints, batch_dict))
        for name, layer in zip(self.SA_layer_names, self.SA_layers):
            source = self._sparse_level(name, batch_dict)
            features.append(self.gather(source, layer, keypoints, batch_dict))
        before_fusion = torch.cat(features, dim=1)
        batch_dict["point_coords"] = keypoints
        batch_dict["point_features_before_fusion"] = before_fusion
        batch_dict["point_features"] = self.vsa_point_feature_fusion(before_fusion)
        return batch_dict

    def _sparse_level(self, name: str, batch_dict: BatchDict) -> Source:
        """The voxels of one level of the 3D backbone."""
        tensor = batch_dict["multi_scale_3d_features"][name]
        stride = batch_dict["multi_scale_3d_strides"][name]
        frame = tensor.indices[:, 0]
        cells = tensor.indices[:, 1:]
        xyz = voxel_centres(cells, stride, self.voxel_size, self.point_cloud_range)
        return Source(name, frame, xyz, tensor.features)

    def gather(
        self, source: Source, layer: nn.Module, keypoints: Tensor, batch_dict: BatchDict
    ) -> Tensor:
        """Features (K, C') that ``layer`` gathers from a source around the keypoints (K, 4)."""
        batch_size = int(batch_dict["batch_size"])
        counts, (xyz, features) = stack_frames(
            source.frame, batch_size, source.xyz, source.features
        )
        margin_m = self.roi_margins_m[source.name]
        if margin_m is not None:
            frames = zip(xyz.split(counts), batch_dict["rois"])
            near = [near_boxes(of_frame, rois, margin_m) for of_frame, rois in frames]
            counts = torch.stack([mask.sum() for mask in near]).tolist()
            near_rows = torch.nonzero(torch.cat(near))[:, 0]
            xyz = xyz[near_rows]
            features = features[near_rows]
        keypoint_counts = rows_by_frame(keypoints[:, 0], batch_size)
        _, gathered = layer(xyz, counts, keypoints[:, 1:4], keypoint_counts, features)
        return gathered

    @torch.no_grad()
    def sample_keypoints(self, batch_dict: BatchDict, batch_size: int) -> Tensor:
        """Keypoints (K, 4) as frame, x, y, z."""
        candidates = self._candidate_points(batch_dict)
        counts, (points,) = stack_frames(candidates[:, 0], batch_size, candidates)
        if self.spc is None:
            return points[self._sample_scenes(points, counts)]
        return points[self._sample_near_proposals(points, counts, batch_dict["rois"], self.spc)]

    def _candidate_points(self, batch_dict: BatchDict) -> Tensor:
        """Points (N, 4) as frame, x, y, z that keypoints are chosen from."""
        if self.model_cfg["POINT_SOURCE"] == "raw_points":
            points: Tensor = batch_dict["points"][:, :4]
            return points
        coords = batch_dict["voxel_coords"]
        centres = voxel_centres(coords[:, 1:], 1, self.voxel_size, self.point_cloud_range)
        return torch.cat([coords[:, :1].to(centres.dtype), centres], dim=1)

    def _sample_scenes(self, points: Tensor, counts: Sequence[int]) -> Tensor:
        """Rows of NUM_KEYPOINTS points of each frame that has any; with fewer points they repeat.

        Args:
            points: (N, 4), grouped by frame.
            counts: points of each frame.
        """
        samples = [min(self.num_keypoints, count) for count in counts]
        rows = stack_furthest_point_sample(points[:, 1:4], counts, samples)
        keypoints = [rows[:0]]
        for of_frame in rows.split(samples):
            repeats = -(-self.num_keypoints // max(len(of_frame), 1))
            keypoints.append(of_frame.repeat(repeats)[: self.num_keypoints])
        return torch.cat(keypoints)

    def _sample_near_proposals(
        self, points: Tensor, counts: Sequence[int], rois: Tensor, spc: SpcSettings
    ) -> Tensor:
        """Rows of the keypoints near proposals; a frame's first point where none is near.

        Later layers need one. The host waits once for the whole batch.

        Args:
            points: (N, 4), grouped by frame.
            counts: points of each frame.
            rois: (B, R, 7 + C).
            spc: how to sample.
        """
        masks = [torch.zeros(0, dtype=torch.bool, device=points.device)]
        for of_frame, its_rois in zip(points.split(list(counts)), rois):
            is_near = near_boxes(of_frame[:, 1:4], its_rois, spc.margin_m)
            none_is_near = ~is_near.any()
            masks += [is_near[:1] | none_is_near, is_near[1:]]
        return sample_sectors(
            points[:, 1:4],
            points[:, 0].long(),
            torch.cat(masks),
            len(counts),
            self.num_keypoints,
            num_sectors=spc.num_sectors,
        )

    def interpolate_bev(self, keypoints: Tensor, features: Tensor, stride: int) -> Tensor:
        """Bilinear interpolation of a map at keypoints; 0 beyond the centre of the last cell.

        Args:
            keypoints: (K, 4) frame, x, y, z.
            features: (B, C, H, W).
            stride: voxels along one side of a cell.

        Returns:
            (K, C).
        """
        channels, height, width = features.shape[1:]
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        frame = keypoints[:, 0].long()
        corners = []
        weights = []
        for x, x_weight in self._neighbour_cells(keypoints, 0, stride, width):
            for y, y_weight in self._neighbour_cells(keypoints, 1, stride, height):
                corners.append((frame * height + y) * width + x)
                weights.append(x_weight * y_weight)
        weighted = take_rows(rows, torch.stack(corners)) * torch.stack(weights).unsqueeze(-1)
        return weighted.sum(dim=0)

    def _neighbour_cells(
        self, keypoints: Tensor, axis: int, stride: int, num_cells: int
    ) -> list[tuple[Tensor, Tensor]]:
        """The cells (K,) before and after each keypoint along x (0) or y (1), with weights (K,).

        A cell's weight is the distance to the opposite one.
        """
        offset_m = keypoints[:, 1 + axis] - float(self.point_cloud_range[axis])
        position = offset_m / float(self.voxel_size[axis]) / stride
        before = position.floor().long()
        low = before.clamp(0, num_cells - 1)
        high = (before + 1).clamp(0, num_cells - 1)
        return [(low, high - position), (high, position - low)]


def _feature_sources(model_cfg: ConfigDict) -> list[str]:
    """FEATURES_SOURCE."""
    sources = list(required(model_cfg, "FEATURES_SOURCE", WHERE))
    for name in sources:
        if name not in SOURCES:
            raise ConfigError(
                f"{WHERE}.FEATURES_SOURCE: unknown source '{name}'{nearest(name, SOURCES)}"
            )
    return sources


def _check_choice(model_cfg: ConfigDict, key: str, possible: tuple[str, ...]) -> None:
    value = required(model_cfg, key, WHERE)
    if value not in possible:
        raise ConfigError(f"{WHERE}.{key} is '{value}', expected {' or '.join(possible)}")


def _spc_settings(model_cfg: ConfigDict) -> SpcSettings:
    settings = required(model_cfg, "SPC_SAMPLING", WHERE)
    where = f"{WHERE}.SPC_SAMPLING"
    sectors = required(settings, "NUM_SECTORS", where)
    if sectors < 1:
        raise ConfigError(f"{where}.NUM_SECTORS is {sectors}, expected a number above 0")
    return SpcSettings(sectors, required(settings, "SAMPLE_RADIUS_WITH_ROI", where))


def _roi_margin(blocks: ConfigDict, name: str) -> float | None:
    """How far from a proposal a source may lie in metres; None: anywhere."""
    block = required(blocks, name, f"{WHERE}.SA_LAYER")
    if not block.get("FILTER_NEIGHBOR_WITH_ROI"):
        return None
    return float(required(block, "RADIUS_OF_NEIGHBOR_WITH_ROI", f"{WHERE}.SA_LAYER.{name}"))


def _level_layer(blocks: ConfigDict, name: str) -> nn.Module:
    """The layer of a sparse level.

    Its features have INPUT_CHANNELS channels, or else as many as the first MLP starts with.
    """
    where = f"{WHERE}.SA_LAYER.{name}"
    block = required(blocks, name, f"{WHERE}.SA_LAYER")
    channels = block.get("INPUT_CHANNELS") or required(block, "MLPS", where)[0][0]
    return build_local_aggregation(block, channels, where)
