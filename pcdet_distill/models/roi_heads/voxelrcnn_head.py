"""VoxelRCNNHead: a grid in every RoI gathers features of sparse voxels (Voxel R-CNN, AAAI 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...config import required
from ...errors import ConfigError
from ...ops.constants import constant
from ...ops.rows import take_rows
from ...ops.sparse_tensor import SparseConvTensor
from ...ops.voxel_query import voxel_query
from ...types import BatchDict, ConfigDict
from ..model_utils.places import framed_places, roi_grid_points, voxel_centres
from ..model_utils.pointnet2_modules import Neighbours, RowConv2d
from ..model_utils.row_conv import RowConv1d
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d, normalise_weighted
from .fc_layers import init_fc
from .roi_head_template import WHERE, FirstStage, RoIHeadTemplate

POOLING = f"{WHERE}.ROI_GRID_POOL"


class NeighborVoxelSAModuleMSG(nn.Module):
    """Set abstraction of a cell over the voxels around it, at several scales.

    Features and offsets of the voxels pass layers of their own and are added; the largest sum over
    the voxels is kept. Because of the addition, the layer of the features runs once for each voxel
    and not once for each pair of cell and voxel (accelerated local aggregation of Voxel R-CNN).

    Args:
        query_ranges: reach of the query in voxels along z, y, x; one entry for each scale, as in
            the other lists.
        radii: metres.
        nsamples: largest number of voxels taken.
        mlps: three widths: of the input, of the sums, and of the output.
        pool_method: only ``max_pool``.
    """

    def __init__(
        self,
        *,
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
        self.mlps_in = nn.ModuleList()
        for input_width, sum_width, _ in mlps:
            convolution = RowConv1d(input_width, sum_width)
            self.mlps_in.append(nn.Sequential(convolution, WeightedBatchNorm1d(sum_width)))
        self.mlps_pos = nn.ModuleList()
        for _, sum_width, _ in mlps:
            offset_layer = RowConv2d(3, sum_width, bias=False)
            self.mlps_pos.append(nn.Sequential(offset_layer, WeightedBatchNorm1d(sum_width)))
        self.mlps_out = nn.ModuleList()
        for _, sum_width, output_width in mlps:
            convolution = RowConv1d(sum_width, output_width)
            norm = WeightedBatchNorm1d(output_width)
            self.mlps_out.append(nn.Sequential(convolution, norm, nn.ReLU()))

    def forward(
        self, tensor: SparseConvTensor, xyz: Tensor, cells: Tensor, cell_coords: Tensor
    ) -> Tensor:
        """Features (M, C_out) of cells.

        Args:
            tensor: N voxels.
            xyz: (N, 3) centres of the voxels.
            cells: (M, 3) centres of the cells.
            cell_coords: (M, 4) frame, z, y, x of the voxel that each cell lies in.
        """
        results = []
        for number, (reach, radius, max_voxels) in enumerate(self.scales):
            query = voxel_query(
                reach=reach,
                radius_m=radius,
                num_neighbors=max_voxels,
                voxels=xyz,
                voxel_coords=tensor.indices,
                spatial_shape=tensor.spatial_shape,
                centres=cells,
                centre_coords=cell_coords,
            )
            neighbours = Neighbours.from_query(*query)
            pooled = self._pool(number, tensor.features, xyz, cells, neighbours)
            results.append(self.mlps_out[number](pooled))
        return torch.cat(results, dim=1)

    def _pool(
        self, number: int, features: Tensor, xyz: Tensor, cells: Tensor, neighbours: Neighbours
    ) -> Tensor:
        """(M, C) largest sum of voxel features and offset codes of each cell, at one scale.

        A cell without voxels gets zero features at its own place, as in OpenPCDet.
        """
        features = self.mlps_in[number](features)
        if len(xyz) == 0:
            # The sum of nothing adds zero, and keeps the layer of the features in the graph.
            gathered = features.new_zeros(len(cells), features.shape[1]) + features.sum()
            offset = torch.zeros_like(cells)
        else:
            is_real = ~neighbours.is_empty[neighbours.centre].unsqueeze(1)
            gathered = take_rows(features, neighbours.point) * is_real
            offset = (xyz[neighbours.point] - cells[neighbours.centre]) * is_real
        position_layers = self.mlps_pos[number]
        assert isinstance(position_layers, nn.Sequential)
        position = position_layers[0](offset)
        position = normalise_weighted(position_layers[1], position, neighbours.weight)
        return torch.segment_reduce(
            torch.relu(gathered + position), "max", lengths=neighbours.rows_per_centre, axis=0
        )


class VoxelRCNNHead(RoIHeadTemplate):
    """RoI grid pooling on ``multi_scale_3d_features``, then fully connected layers."""

    def build_layers(self, first_stage: FirstStage) -> None:
        """Make the pooling layers and the predictors."""
        self.voxel_size = first_stage.voxel_size
        self.point_cloud_range = first_stage.point_cloud_range
        pooling = required(self.model_cfg, "ROI_GRID_POOL", WHERE)
        self.grid_size = required(pooling, "GRID_SIZE", POOLING)
        self._make_pooling(pooling, first_stage.backbone_channels)
        self._make_predictors()
        self.init_weights()

    def _make_pooling(self, pooling: ConfigDict, backbone_channels: Mapping[str, int]) -> None:
        """Make a layer for each level of FEATURES_SOURCE."""
        self.sources = list(required(pooling, "FEATURES_SOURCE", POOLING))
        blocks = required(pooling, "POOL_LAYERS", POOLING)
        self.roi_grid_pool_layers = nn.ModuleList()
        self.pooled_channels = 0
        for name in self.sources:
            where = f"{POOLING}.POOL_LAYERS.{name}"
            block = required(blocks, name, f"{POOLING}.POOL_LAYERS")
            wide_in = required(backbone_channels, name, f"{POOLING}.FEATURES_SOURCE")
            mlps = [[wide_in, *widths] for widths in required(block, "MLPS", where)]
            self.roi_grid_pool_layers.append(
                NeighborVoxelSAModuleMSG(
                    query_ranges=required(block, "QUERY_RANGES", where),
                    radii=required(block, "POOL_RADIUS", where),
                    nsamples=required(block, "NSAMPLE", where),
                    mlps=mlps,
                    pool_method=block.get("POOL_METHOD", "max_pool"),
                )
            )
            self.pooled_channels += sum(widths[-1] for widths in mlps)

    def _make_predictors(self) -> None:
        """Make the fully connected layers, which are linear in this head's checkpoints."""
        widths = list(required(self.model_cfg, "SHARED_FC", WHERE))
        cls_widths = required(self.model_cfg, "CLS_FC", WHERE)
        reg_widths = required(self.model_cfg, "REG_FC", WHERE)
        code_channels = self.box_coder.code_size * self.num_class
        flat_width = self.pooled_channels * self.grid_size**3
        self.shared_fc_layer = self.make_shared_fc(flat_width, widths, on_rows=True)
        self.cls_fc_layers = self.make_shared_fc(widths[-1], cls_widths, on_rows=True)
        self.cls_pred_layer = nn.Linear(cls_widths[-1], self.num_class)
        self.reg_fc_layers = self.make_shared_fc(widths[-1], reg_widths, on_rows=True)
        self.reg_pred_layer = nn.Linear(reg_widths[-1], code_channels)

    def init_weights(self) -> None:
        """Small predictions at the start."""
        for layers in (self.shared_fc_layer, self.cls_fc_layers, self.reg_fc_layers):
            init_fc(layers)
        for pooling in self.roi_grid_pool_layers:
            init_fc(pooling, "kaiming")
        init_fc(self.cls_pred_layer, output_std=0.01)
        init_fc(self.reg_pred_layer, output_std=0.001)

    def score_taps(self) -> list[str]:
        """The last layer of the classes; ``cls_fc_layers`` before it give features."""
        return ["cls_pred_layer"]

    def refine(self, batch_dict: BatchDict) -> tuple[Tensor, Tensor]:
        """Class logits and box codes of all RoIs.

        Reads ``rois`` (B, R, 7), ``multi_scale_3d_features`` and ``multi_scale_3d_strides``. Writes
        ``roi_point_features`` and ``roi_point_coords`` of the cells of all RoIs.
        """
        shared = self.shared_fc_layer(self.roi_grid_pool(batch_dict).flatten(1))
        logits = self.cls_pred_layer(self.cls_fc_layers(shared))
        codes = self.reg_pred_layer(self.reg_fc_layers(shared))
        return logits, codes

    def roi_grid_pool(self, batch_dict: BatchDict) -> Tensor:
        """Features (B * R, cells, C) of the cells of all RoIs."""
        rois = batch_dict["rois"]
        cells = roi_grid_points(rois.flatten(0, 1), self.grid_size)
        cells_per_roi = cells.shape[1]
        places = cells.reshape(-1, 3)
        frame = torch.arange(len(rois), device=rois.device)
        frame = frame.repeat_interleave(rois.shape[1] * cells_per_roi)
        finest_voxel = self._voxels_at(places)
        pooled = []
        for name, layer in zip(self.sources, self.roi_grid_pool_layers):
            tensor = batch_dict["multi_scale_3d_features"][name]
            stride = batch_dict["multi_scale_3d_strides"][name]
            voxel = torch.div(finest_voxel, stride, rounding_mode="floor").long().flip(1)
            xyz = voxel_centres(
                tensor.indices[:, 1:], stride, self.voxel_size, self.point_cloud_range
            )
            cell_coords = torch.cat([frame.unsqueeze(1), voxel], dim=1)
            pooled.append(layer(tensor, xyz, places, cell_coords))
        features = torch.cat(pooled, dim=1)
        batch_dict["roi_point_features"] = features
        batch_dict["roi_point_coords"] = framed_places(rois, cells)
        return features.reshape(len(cells), cells_per_roi, -1)

    def _voxels_at(self, places: Tensor) -> Tensor:
        """(N, 3) x, y, z of the finest voxels that places (N, 3) lie in, as whole floats."""
        origin = [float(value) for value in self.point_cloud_range[:3]]
        size = [float(value) for value in self.voxel_size[:3]]
        offset = places - constant(origin, places.device)
        return torch.div(offset, constant(size, places.device), rounding_mode="floor")
