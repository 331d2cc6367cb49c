"""VoxelRCNNHead: a grid in every RoI gathers the sparse voxels around its cells (Voxel R-CNN, AAAI 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import required
from ...errors import ConfigError
from ...ops.point_sampling import take_rows
from ...ops.roi_pooling import voxel_query
from ...ops.sparse_tensor import SparseConvTensor
from ..model_utils.places import framed_places, roi_grid_points, voxel_centres
from ..model_utils.pointnet2_modules import Neighbours, RowConv2d
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted
from ..taps import TapInfo
from .roi_head_template import WHERE, RoIHeadTemplate, init_fc


class RowConv1d(nn.Conv1d):
    """A convolution of size 1 on rows (R, C_in): the parameters of a Conv1d, the work of a linear layer."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C_in) -> (R, C_out)."""
        return F.linear(rows, self.weight[:, :, 0])


class NeighborVoxelSAModuleMSG(nn.Module):
    """What a cell sees of the voxels around it: the largest of features plus a code of the offset.

    Args:
        query_ranges: voxels to look along z, y, x; one entry per scale, as in the other lists.
        radii: metres.
        nsamples: voxels taken at most.
        mlps: three widths: of the features, between, and of the result.
    """

    def __init__(
        self,
        query_ranges: Sequence[Sequence[int]],
        radii: Sequence[float],
        nsamples: Sequence[int],
        mlps: Sequence[Sequence[int]],
        pool_method: str = "max_pool",
    ) -> None:
        super().__init__()
        if pool_method != "max_pool":
            raise ConfigError(f"POOL_METHOD is '{pool_method}', expected 'max_pool'")
        self.scales = list(zip(query_ranges, radii, nsamples))
        self.mlps_in = nn.ModuleList(
            nn.Sequential(RowConv1d(wide_in, between), WeightedBatchNorm1d(between))
            for wide_in, between, _ in mlps
        )
        self.mlps_pos = nn.ModuleList(
            nn.Sequential(RowConv2d(3, between, bias=False), WeightedBatchNorm1d(between))
            for _, between, _ in mlps
        )
        self.mlps_out = nn.ModuleList(
            nn.Sequential(RowConv1d(between, wide_out), WeightedBatchNorm1d(wide_out), nn.ReLU())
            for _, between, wide_out in mlps
        )

    def forward(
        self, tensor: SparseConvTensor, xyz: Tensor, cells: Tensor, cell_coords: Tensor
    ) -> Tensor:
        """Voxels with centres xyz (N, 3), and places ``cells`` (M, 3) in voxels (M, 4) frame, z, y, x: (M, C_out)."""
        results = []
        for number, (reach, radius, slots) in enumerate(self.scales):
            found = voxel_query(
                reach, radius, slots, xyz, tensor.indices, tensor.spatial_shape, cells, cell_coords
            )
            pooled = self._pool(number, tensor.features, xyz, cells, Neighbours.from_query(*found))
            results.append(self.mlps_out[number](pooled))
        return torch.cat(results, dim=1)

    def _pool(
        self, number: int, features: Tensor, xyz: Tensor, cells: Tensor, neighbours: Neighbours
    ) -> Tensor:
        """(M, C): a place without voxels sees zeros at its own place."""
        features = self.mlps_in[number](features)
        if len(xyz) == 0:
            seen, offset = (
                features.new_zeros(len(cells), features.shape[1]) + features.sum(),
                torch.zeros_like(cells),
            )
        else:
            is_real = ~neighbours.is_empty[neighbours.centre].unsqueeze(1)
            seen = take_rows(features, neighbours.point) * is_real
            offset = (xyz[neighbours.point] - cells[neighbours.centre]) * is_real
        layers: Any = self.mlps_pos[number]
        position = normalise_weighted(layers[1], layers[0](offset), neighbours.weight)
        return torch.segment_reduce(
            torch.relu(seen + position), "max", lengths=neighbours.rows_per_centre, axis=0
        )


class VoxelRCNNHead(RoIHeadTemplate):
    """RoI grid pooling on ``multi_scale_3d_features``, then fully connected layers."""

    def __init__(
        self,
        backbone_channels: Mapping[str, int],
        model_cfg: Mapping[str, Any],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        num_class: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_class=num_class, model_cfg=model_cfg)
        self.voxel_size, self.point_cloud_range = voxel_size, point_cloud_range
        pooling, where = required(model_cfg, "ROI_GRID_POOL", WHERE), f"{WHERE}.ROI_GRID_POOL"
        self.grid_size = required(pooling, "GRID_SIZE", where)
        self.sources = list(required(pooling, "FEATURES_SOURCE", where))
        blocks = required(pooling, "POOL_LAYERS", where)
        self.roi_grid_pool_layers = nn.ModuleList()
        pooled_width = 0
        for name in self.sources:
            block, place = (
                required(blocks, name, f"{where}.POOL_LAYERS"),
                f"{where}.POOL_LAYERS.{name}",
            )
            wide_in = required(backbone_channels or {}, name, f"{where}.FEATURES_SOURCE")
            mlps = [[wide_in, *widths] for widths in required(block, "MLPS", place)]
            self.roi_grid_pool_layers.append(
                NeighborVoxelSAModuleMSG(
                    required(block, "QUERY_RANGES", place),
                    required(block, "POOL_RADIUS", place),
                    required(block, "NSAMPLE", place),
                    mlps,
                    block.get("POOL_METHOD", "max_pool"),
                )
            )
            pooled_width += sum(widths[-1] for widths in mlps)
        self.pooled_width = pooled_width
        shared = list(required(model_cfg, "SHARED_FC", WHERE))
        self.shared_fc_layer = self.make_shared_fc(
            pooled_width * self.grid_size**3, shared, on_rows=True
        )
        self.cls_fc_layers = self.make_shared_fc(
            shared[-1], required(model_cfg, "CLS_FC", WHERE), on_rows=True
        )
        self.cls_pred_layer = nn.Linear(model_cfg["CLS_FC"][-1], num_class)
        self.reg_fc_layers = self.make_shared_fc(
            shared[-1], required(model_cfg, "REG_FC", WHERE), on_rows=True
        )
        self.reg_pred_layer = nn.Linear(
            model_cfg["REG_FC"][-1], self.box_coder.code_size * num_class
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Small predictions at the start."""
        for layers in (self.shared_fc_layer, self.cls_fc_layers, self.reg_fc_layers):
            init_fc(layers)
        for pooling in self.roi_grid_pool_layers:
            init_fc(pooling, "kaiming")
        init_fc(self.cls_pred_layer, output_std=0.01)
        init_fc(self.reg_pred_layer, output_std=0.001)

    def score_taps(self) -> list[str]:
        """The layer of the classes; ``cls_fc_layers`` before it give features."""
        return ["cls_pred_layer"]

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot."""
        return [TapInfo("@roi_point_features", self.pooled_width, None, "roi")]

    def refine(self, batch_dict: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Reads ``rois``, ``multi_scale_3d_features`` and ``multi_scale_3d_strides``.

        Writes ``roi_point_features`` and ``roi_point_coords`` of the cells of all RoIs.
        """
        shared = self.shared_fc_layer(self.roi_grid_pool(batch_dict).flatten(1))
        return self.cls_pred_layer(self.cls_fc_layers(shared)), self.reg_pred_layer(
            self.reg_fc_layers(shared)
        )

    def roi_grid_pool(self, batch_dict: dict[str, Any]) -> Tensor:
        """Features (B * R, cells, C) of the cells of all RoIs."""
        rois = batch_dict["rois"]
        cells = roi_grid_points(rois.flatten(0, 1), self.grid_size)
        count, places = cells.shape[1], cells.reshape(-1, 3)
        frame = torch.arange(len(rois), device=rois.device).repeat_interleave(rois.shape[1] * count)
        origin, size = (
            torch.tensor([float(value) for value in values[:3]], device=rois.device)
            for values in (self.point_cloud_range, self.voxel_size)
        )
        smallest = torch.div(places - origin, size, rounding_mode="floor")
        pooled = []
        for name, layer in zip(self.sources, self.roi_grid_pool_layers):
            tensor, stride = (
                batch_dict["multi_scale_3d_features"][name],
                batch_dict["multi_scale_3d_strides"][name],
            )
            coords = torch.div(smallest, stride, rounding_mode="floor").long().flip(1)
            xyz = voxel_centres(
                tensor.indices[:, 1:], stride, self.voxel_size, self.point_cloud_range
            )
            pooled.append(
                layer(tensor, xyz, places, torch.cat([frame.unsqueeze(1), coords], dim=1))
            )
        features = torch.cat(pooled, dim=1)
        batch_dict.update(roi_point_features=features, roi_point_coords=framed_places(rois, cells))
        return features.reshape(len(cells), count, -1)
