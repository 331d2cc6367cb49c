"""VoxelNeXtHead: CenterHead's predictions at sparse cells (Chen et al., CVPR 2023).

The cells that the backbone activates are the only places of predictions. Everything else is as in
CenterHead: heatmaps of classes, and branches that make a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...config import required
from ...errors import ConfigError
from ...ops.constants import constant_like
from ...ops.frames import split_by_frame
from ...ops.precision import at_least_float32
from ...ops.sparse_conv import SparseConvTensor, SparseSequential, SubMConv2d
from ...types import BatchDict
from ..model_utils.center_losses import center_focal_loss, center_regression_loss
from ..model_utils.weighted_batch_norm import WeightedBatchNorm1d
from ..taps import TapInfo
from .center_candidates import FrameCandidates
from .center_head import (
    POST_PROCESSING,
    WHERE,
    CenterHead,
    boxes_as_rois,
    init_branch,
)
from .center_targets import decode_centers
from .detection_head import LOSS_FRAMES, concatenate_boxes, sum_losses
from .prediction_layout import CenterLayout
from .voxelnext_targets import VoxelTargetAssigner, VoxelTargets


class SparseSeparateHead(nn.Module):
    """A branch of submanifold convolutions for each part of a prediction.

    Args:
        input_channels: channels of the cells.
        branches: for each name its ``out_channels`` and ``num_conv``.
        kernel_size: cells along an edge; 1 looks at each cell alone.
        use_bias: give the convolutions before a batch norm a bias.
    """

    def __init__(
        self,
        input_channels: int,
        branches: Mapping[str, Mapping[str, int]],
        kernel_size: int,
        use_bias: bool,
    ) -> None:
        super().__init__()
        self.branch_names = list(branches)
        key = f"head{kernel_size}"
        for name, branch in branches.items():
            layers: list[nn.Module] = []
            for _ in range(branch["num_conv"] - 1):
                convolution = SubMConv2d(
                    input_channels, input_channels, kernel_size, bias=use_bias, indice_key=key
                )
                norm = WeightedBatchNorm1d(input_channels)
                layers.append(SparseSequential(convolution, norm, nn.ReLU()))
            layers.append(
                SubMConv2d(
                    input_channels, branch["out_channels"], kernel_size, bias=True, indice_key=key
                )
            )
            self.add_module(name, SparseSequential(*layers))
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground in the heatmaps, Kaiming's weights elsewhere."""
        for name in self.branch_names:
            init_branch(name, sparse_convolutions_of(getattr(self, name)))

    def forward(self, cells: SparseConvTensor) -> dict[str, Tensor]:
        """The output (N, out_channels) of every branch for N cells."""
        return {name: getattr(self, name)(cells).features for name in self.branch_names}


class VoxelNeXtHead(CenterHead):
    """CenterHead's branches on ``encoded_spconv_tensor``, a sparse tensor on the ground."""

    has_dense_pass = False  # its cells are sparse
    target_assigner: VoxelTargetAssigner
    assigner_class = VoxelTargetAssigner

    def _build_layers(self, input_channels: int) -> None:
        config = self.model_cfg
        if self.predicts_overlap:
            raise ConfigError(
                f"{WHERE}.SEPARATE_HEAD_CFG.HEAD_DICT.iou: VoxelNeXtHead predicts no overlaps"
            )
        self.channels = int(config.get("SHARED_CONV_CHANNEL") or input_channels)
        kernel_size = int(config.get("KERNEL_SIZE_HEAD") or 3)
        use_bias = bool(config.get("USE_BIAS_BEFORE_NORM", False))
        num_hm_conv = required(config, "NUM_HM_CONV", WHERE)
        self.heads_list = nn.ModuleList()
        for labels in self.head_labels:
            branches = dict(config["SEPARATE_HEAD_CFG"]["HEAD_DICT"])
            branches["hm"] = {"out_channels": len(labels), "num_conv": num_hm_conv}
            self.heads_list.append(
                SparseSeparateHead(self.channels, branches, kernel_size, use_bias)
            )

    def taps(self) -> list[TapInfo]:
        """What can be captured: the output of each branch."""
        taps = []
        for number, head in enumerate(self.heads_list):
            for name, branch in head.named_children():
                channels = sparse_convolutions_of(branch)[-1].out_channels
                taps.append(TapInfo(f"heads_list.{number}.{name}", channels, 1, "sparse"))
        return taps

    def prediction_layout(self) -> CenterLayout | None:
        """None: which cells are active depends on the detector, so they have no counterpart."""
        return None

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all active cells, in training assign their targets, else make the boxes.

        Reads ``encoded_spconv_tensor``, sparse in 2D, and, in training, ``gt_boxes``
        (B, G, 7 + C + 1). Writes what CenterHead writes.
        """
        cells = batch_dict["encoded_spconv_tensor"]
        self._check_cells(cells)
        predictions = [head(cells) for head in self.heads_list]
        self.forward_ret_dict = {"pred_dicts": predictions}
        if self.training:
            targets = self.target_assigner.assign_to_cells(
                batch_dict["gt_boxes"].float(), cells.indices, self.feature_map_size
            )
            if LOSS_FRAMES in batch_dict:
                is_counted = batch_dict[LOSS_FRAMES]
                predictions, targets = keep_frames(
                    predictions, targets, cells.indices[:, 0].long(), is_counted
                )
            self.forward_ret_dict = {"pred_dicts": predictions, "target_dicts": targets}
        if self.predict_boxes_when_training:
            batch_dict.update(boxes_as_rois(self.boxes_of_cells(predictions, cells)))
        elif not self.training:
            batch_dict["final_box_dicts"] = self.boxes_of_cells(predictions, cells)
        return batch_dict

    def _check_cells(self, cells: SparseConvTensor) -> None:
        nx, ny = self.feature_map_size
        if cells.spatial_shape != [ny, nx]:
            raise ConfigError(
                f"{WHERE}.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE makes a map of {nx} x {ny} "
                f"cells, but the sparse map has {cells.spatial_shape[::-1]}; set it to the stride "
                "of MODEL.BACKBONE_3D"
            )

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        losses = {}
        predictions = self.forward_ret_dict["pred_dicts"]
        targets = self.forward_ret_dict["target_dicts"]
        for number, (prediction, target) in enumerate(zip(predictions, targets)):
            heatmap_loss = center_focal_loss(at_least_float32(prediction["hm"]), target.heatmap)
            losses[f"hm_loss_head_{number}"] = heatmap_loss * self.cls_weight
            codes = self._codes(prediction)
            code_loss = center_regression_loss(codes[target.rows], target.boxes, target.mask)
            weighted = (code_loss * self.code_weights).sum()
            losses[f"loc_loss_head_{number}"] = weighted * self.loc_weight
        return sum_losses(losses, total="rpn_loss")

    def _codes(self, prediction: Mapping[str, Tensor]) -> Tensor:
        """Codes (N, 8 + C) of all cells."""
        return torch.cat([at_least_float32(prediction[name]) for name in self.code_names], dim=1)

    @torch.no_grad()
    def boxes_of_cells(
        self, predictions: Sequence[Mapping[str, Tensor]], cells: SparseConvTensor
    ) -> list[dict[str, Tensor]]:
        """Final boxes of every frame, those of all heads one after the other."""
        num_heads = len(predictions)
        candidates = []
        for rows in split_by_frame(cells.indices[:, 0], cells.batch_size):
            corners = cells.indices[rows][:, [2, 1]]
            for number, prediction in enumerate(predictions):
                own = {name: value[rows] for name, value in prediction.items()}
                candidates.append(self._best_cells(number, own, corners))
        selected = self.select_boxes(candidates)
        boxes_of_frames = []
        for first in range(0, len(selected), num_heads):
            boxes_of_frames.append(concatenate_boxes(selected[first : first + num_heads]))
        return boxes_of_frames

    def _best_cells(
        self, number: int, prediction: Mapping[str, Tensor], corners: Tensor
    ) -> FrameCandidates:
        """The boxes at the best of V cells at corners (V, 2), from one head, of one frame."""
        settings = required(self.model_cfg, "POST_PROCESSING", WHERE)
        count = int(required(settings, "MAX_OBJ_PER_SAMPLE", POST_PROCESSING))
        logits = at_least_float32(prediction["hm"])
        flat = logits.flatten()
        best, index = flat.topk(min(count, len(flat)))
        row = torch.div(index, logits.shape[1], rounding_mode="floor")
        labels = constant_like(self.head_labels[number], index)[index % logits.shape[1]]
        boxes = decode_centers(
            self._codes(prediction)[row],
            corners[row],
            cell_size_m=self.cell_size,
            origin_m=self.origin,
        )
        return FrameCandidates(number, boxes, torch.sigmoid(best), labels)


def keep_frames(
    predictions: Sequence[Mapping[str, Tensor]],
    targets: Sequence[VoxelTargets],
    frame: Tensor,
    is_counted: Tensor,
) -> tuple[list[dict[str, Tensor]], list[VoxelTargets]]:
    """Predictions and targets of the frames that count for the loss.

    Args:
        predictions: per head (N, channels) of every branch.
        targets: per head.
        frame: (N,) int64, the frame of every cell.
        is_counted: (B,) bool.
    """
    kept_rows = torch.nonzero(is_counted[frame])[:, 0]
    new_row = torch.zeros_like(frame)
    new_row[kept_rows] = torch.arange(len(kept_rows), device=frame.device)
    kept_predictions = []
    for of_head in predictions:
        kept_predictions.append({name: value[kept_rows] for name, value in of_head.items()})
    kept_targets = []
    for target in targets:
        kept_targets.append(
            VoxelTargets(
                heatmap=target.heatmap[kept_rows],
                boxes=target.boxes[is_counted],
                rows=new_row[target.rows[is_counted]],
                mask=target.mask[is_counted],
            )
        )
    return kept_predictions, kept_targets


def sparse_convolutions_of(layers: nn.Module) -> list[SubMConv2d]:
    """The submanifold convolutions in ``layers``, in order."""
    return [module for module in layers.modules() if isinstance(module, SubMConv2d)]
