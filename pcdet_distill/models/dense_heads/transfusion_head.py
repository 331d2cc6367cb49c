"""TransFusionHead: object queries from a heatmap, refined by a transformer decoder (CVPR 2022).

1. A dense head predicts a heatmap of all classes. Its highest local maxima are the queries, each
   with the feature of its cell and an embedding of its class.
2. One decoder layer lets the queries look at each other and at the map.
3. Small branches predict class and box of every query. No NMS is needed.

In training the Hungarian method gives every object one query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...config import required
from ...errors import ConfigError
from ...ops.constants import constant_like
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..model_utils.center_losses import center_focal_loss
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..model_utils.losses import SigmoidFocalClassificationLoss
from ..taps import TapInfo
from .center_head import INITIAL_HEATMAP_LOGIT, boxes_as_rois
from .center_targets import CenterTargetAssigner
from .detection_head import LOSS_FRAMES, DetectionHead, check_map_size, sum_losses
from .transfusion_decoder import TransFusionDecoder
from .transfusion_targets import BoxGrid, HungarianAssigner, flat_grid

WHERE = "MODEL.DENSE_HEAD"
POST_PROCESSING = f"{WHERE}.POST_PROCESSING"
BRANCH_WIDTH = 64
# Branches that make a box, with their channels, in the order of the code.
BRANCHES = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
# Classes of objects so small that neighbouring cells may hold several of them.
SMALL_CLASSES = {
    "nuScenes": ("pedestrian", "traffic_cone"),
    "Waymo": ("Pedestrian", "Cyclist"),
}


class HeatmapBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels: int, use_bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=use_bias)
        self.bn = ChannelsLastBatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return torch.relu(self.bn(self.conv(features)))


class QueryBranches(nn.Module):
    """A branch for each part of a prediction, on queries (B, C, P)."""

    def __init__(
        self, input_channels: int, branches: Mapping[str, Mapping[str, int]], use_bias: bool
    ) -> None:
        super().__init__()
        self.branch_names = list(branches)
        for name, branch in branches.items():
            layers: list[nn.Module] = []
            width = input_channels
            for _ in range(branch["num_conv"] - 1):
                layers.append(
                    nn.Sequential(
                        nn.Conv1d(width, BRANCH_WIDTH, 1, bias=use_bias),
                        nn.BatchNorm1d(BRANCH_WIDTH),
                        nn.ReLU(),
                    )
                )
                width = BRANCH_WIDTH
            layers.append(nn.Conv1d(width, branch["out_channels"], 1))
            self.add_module(name, nn.Sequential(*layers))

    def forward(self, queries: Tensor) -> dict[str, Tensor]:
        """(B, out_channels, P) of every branch."""
        return {name: getattr(self, name)(queries) for name in self.branch_names}


class Queries(NamedTuple):
    """The P best local maxima of every frame's heatmap.

    Attributes:
        cells: (B, P) int64, y * W + x.
        classes: (B, P) int64, from 0.
        heat: (B, classes, P) heat of all classes at the cell, zero where it is no maximum.
    """

    cells: Tensor
    classes: Tensor
    heat: Tensor


class TransFusionHead(DetectionHead):
    """The LiDAR head of TransFusion.

    Args:
        model_cfg: the DENSE_HEAD block.
        input_channels: channels of ``spatial_features_2d``.
        num_class: number of classes to predict.
        class_names: of the data; label 1 is the first.
        grid_size: number of voxels along x, y, z.
        point_cloud_range: metres; x, y, z minimum, then maximum.
        voxel_size: metres.
        predict_boxes_when_training: write ``rois`` for a second stage, in eval too.
        others: what OpenPCDet passes to every dense head, not needed here.
    """

    leaves_out_frames = True

    def __init__(
        self,
        *,
        model_cfg: ConfigDict,
        input_channels: int,
        num_class: int,
        class_names: Sequence[str],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        predict_boxes_when_training: bool = True,
        **others: object,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        self.class_names = list(class_names)
        self._check_num_classes()
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE)
        all_labels = [list(range(1, num_class + 1))]
        self.heatmap_assigner = CenterTargetAssigner(
            settings, all_labels, voxel_size, point_cloud_range
        )
        stride = self.heatmap_assigner.stride
        self.feature_map_size = [int(cells) // stride for cells in grid_size[:2]]
        self.grid = _grid_of(voxel_size, point_cloud_range, stride)
        hungarian = required(settings, "HUNGARIAN_ASSIGNER", f"{WHERE}.TARGET_ASSIGNER_CONFIG")
        self.query_assigner = HungarianAssigner(hungarian, self.grid)
        self.small_classes = self._small_classes(settings)
        self.code_names = _code_names(required(model_cfg, "SEPARATE_HEAD_CFG", WHERE))
        self._read_loss_settings(required(model_cfg, "LOSS_CONFIG", WHERE))
        self._build_layers(input_channels)

    def _check_num_classes(self) -> None:
        given = self.model_cfg.get("NUM_CLASSES", self.num_class)
        if given != self.num_class:
            raise ConfigError(
                f"{WHERE}.NUM_CLASSES is {given}, expected {self.num_class}, the number of "
                "CLASS_NAMES"
            )

    def _small_classes(self, settings: ConfigDict) -> list[int]:
        """Indices of classes whose heat is not thinned out to local maxima.

        TARGET_ASSIGNER_CONFIG.DATASET names the data set whose small classes count.
        """
        names = SMALL_CLASSES.get(settings.get("DATASET", ""), ())
        return [self.class_names.index(name) for name in names if name in self.class_names]

    def _read_loss_settings(self, losses_cfg: ConfigDict) -> None:
        where = f"{WHERE}.LOSS_CONFIG"
        weights = required(losses_cfg, "LOSS_WEIGHTS", where)
        self.cls_weight = float(required(weights, "cls_weight", f"{where}.LOSS_WEIGHTS"))
        self.bbox_weight = float(required(weights, "bbox_weight", f"{where}.LOSS_WEIGHTS"))
        self.hm_weight = float(required(weights, "hm_weight", f"{where}.LOSS_WEIGHTS"))
        code_weights = required(weights, "code_weights", f"{where}.LOSS_WEIGHTS")
        expected = sum(BRANCHES[name] for name in self.code_names)
        if len(code_weights) != expected:
            raise ConfigError(
                f"{where}.LOSS_WEIGHTS.code_weights has {len(code_weights)} numbers, expected "
                f"{expected}: one for each channel of {', '.join(self.code_names)}"
            )
        self.code_weights: Tensor
        tensor = torch.tensor([float(weight) for weight in code_weights])
        self.register_buffer("code_weights", tensor, persistent=False)
        focal = losses_cfg.get("LOSS_CLS") or {}
        if not focal.get("use_sigmoid", True):
            raise ConfigError(f"{where}.LOSS_CLS.use_sigmoid is false, expected true")
        self.class_loss = SigmoidFocalClassificationLoss(
            alpha=float(focal.get("alpha", 0.25)), gamma=float(focal.get("gamma", 2.0))
        )

    def _build_layers(self, input_channels: int) -> None:
        config = self.model_cfg
        width = int(required(config, "HIDDEN_CHANNEL", WHERE))
        self.num_proposals = int(required(config, "NUM_PROPOSALS", WHERE))
        self.nms_kernel_size = int(required(config, "NMS_KERNEL_SIZE", WHERE))
        if self.nms_kernel_size % 2 == 0:
            raise ConfigError(
                f"{WHERE}.NMS_KERNEL_SIZE is {self.nms_kernel_size}, expected an odd number"
            )
        use_bias = bool(config.get("USE_BIAS_BEFORE_NORM", False))
        self.shared_conv = nn.Conv2d(input_channels, width, 3, padding=1)
        self.heatmap_head = nn.Sequential(
            HeatmapBlock(width, use_bias), nn.Conv2d(width, self.num_class, 3, padding=1)
        )
        self.class_encoding = nn.Conv1d(self.num_class, width, 1)
        self.decoder = TransFusionDecoder(
            channels=width,
            num_heads=int(required(config, "NUM_HEADS", WHERE)),
            feed_forward_channels=int(required(config, "FFN_CHANNEL", WHERE)),
            dropout=float(config.get("DROPOUT", 0.0)),
            activation=str(config.get("ACTIVATION", "relu")),
        )
        branches = {
            name: config["SEPARATE_HEAD_CFG"]["HEAD_DICT"][name] for name in self.code_names
        }
        num_hm_conv = required(config, "NUM_HM_CONV", WHERE)
        branches["heatmap"] = {"out_channels": self.num_class, "num_conv": num_hm_conv}
        self.prediction_head = QueryBranches(width, branches, use_bias)
        self._init_weights()

    def _init_weights(self) -> None:
        """Rare foreground, in the heatmap and of the queries."""
        for layers in (self.heatmap_head, self.prediction_head.get_submodule("heatmap")):
            last = list(layers.children())[-1]
            assert isinstance(last, (nn.Conv1d, nn.Conv2d)) and last.bias is not None
            nn.init.constant_(last.bias, INITIAL_HEATMAP_LOGIT)
        momentum = float(self.model_cfg.get("BN_MOMENTUM", 0.1))
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = momentum

    def taps(self) -> list[TapInfo]:
        """What can be captured: the shared features and the logits of the heatmap."""
        return [
            TapInfo("shared_conv", self.shared_conv.out_channels, 1, "bev"),
            TapInfo("heatmap_head", self.num_class, 1, "bev"),
        ]

    def score_taps(self) -> list[str]:
        """The dense heatmap."""
        return ["heatmap_head"]

    def prediction_layout(self) -> None:
        """None: queries of two detectors have no common places."""
        return

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict the queries, in training assign their targets, else make the boxes.

        Reads ``spatial_features_2d`` (B, C, H, W) and, in training, ``gt_boxes`` (B, G, 7 + C + 1).
        In eval writes ``final_box_dicts``, as CenterHead.
        """
        features = batch_dict["spatial_features_2d"]
        stride_key = f"{WHERE}.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE"
        check_map_size(features, self.feature_map_size, stride_key)
        predictions = self.predict(features)
        self.forward_ret_dict = dict(predictions)
        if self.training:
            is_counted = batch_dict.get(LOSS_FRAMES)
            gt_boxes = batch_dict["gt_boxes"].float()
            if is_counted is not None:
                counted = {name: value[is_counted] for name, value in predictions.items()}
                self.forward_ret_dict = counted
                gt_boxes = gt_boxes[is_counted]
            self.forward_ret_dict["gt_boxes"] = gt_boxes
        if self.predict_boxes_when_training:
            batch_dict.update(boxes_as_rois(self.generate_predicted_boxes(predictions)))
        elif not self.training:
            batch_dict["final_box_dicts"] = self.generate_predicted_boxes(predictions)
        return batch_dict

    def predict(self, features: Tensor) -> dict[str, Tensor]:
        """Outputs for features (B, C, H, W).

        Returns:
            ``dense_heatmap`` (B, classes, H, W) logits, every branch (B, channels, P), with
            ``center`` in cells of the map; ``query_heat`` (B, classes, P), and ``query_labels``
            (B, P) from 0.
        """
        shared = self.shared_conv(features)
        dense_heatmap = self.heatmap_head(shared)
        queries = self.find_queries(dense_heatmap)
        flat = shared.flatten(2)
        index = queries.cells[:, None].expand(-1, flat.shape[1], -1)
        class_one_hot = nn.functional.one_hot(queries.classes, self.num_class)
        embedded = self.class_encoding(class_one_hot.transpose(1, 2).to(flat.dtype))
        places = flat_grid(self.feature_map_size, flat)
        query_places = places[queries.cells]
        decoded = self.decoder(
            flat.gather(2, index) + embedded,
            flat,
            query_places,
            places[None].expand(len(flat), -1, -1),
        )
        predictions = self.prediction_head(decoded)
        predictions["center"] = predictions["center"] + query_places.transpose(1, 2)
        return {
            **predictions,
            "dense_heatmap": dense_heatmap,
            "query_heat": queries.heat,
            "query_labels": queries.classes,
        }

    @torch.no_grad()
    def find_queries(self, dense_heatmap: Tensor) -> Queries:
        """The highest local maxima of logits (B, classes, H, W), over all classes together.

        As in OpenPCDet, cells at the border of the map are no maxima, except of small classes.
        """
        heat = at_least_float32(dense_heatmap).sigmoid()
        margin = self.nms_kernel_size // 2
        peak = torch.zeros_like(heat)
        inner = nn.functional.max_pool2d(heat, self.nms_kernel_size, stride=1)
        height, width = heat.shape[2:]
        peak[:, :, margin : height - margin, margin : width - margin] = inner
        peak[:, self.small_classes] = heat[:, self.small_classes]
        thinned = (heat * (heat == peak)).flatten(2)
        num_cells = thinned.shape[2]
        count = min(self.num_proposals, thinned.shape[1] * num_cells)
        index = thinned.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :count]
        cells = index % num_cells
        classes = torch.div(index, num_cells, rounding_mode="floor")
        of_all_classes = cells[:, None].expand(-1, self.num_class, -1)
        return Queries(cells, classes, thinned.gather(2, of_all_classes))

    def codes_of(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """Codes (B, P, 8 + C) of the branches."""
        parts = [at_least_float32(predictions[name]) for name in self.code_names]
        return torch.cat(parts, dim=1).transpose(1, 2)

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        kept = self.forward_ret_dict
        logits = at_least_float32(kept["heatmap"]).transpose(1, 2)
        codes = self.codes_of(kept)
        targets = self.query_assigner.assign_targets(logits, codes, kept["gt_boxes"])
        (heatmap,) = self.heatmap_assigner.assign_targets(kept["gt_boxes"], self.feature_map_size)
        has_object = targets.labels >= 0
        num_objects = has_object.sum().clamp_min(1)
        one_hot = logits.new_zeros(logits.shape)
        frame, query = torch.nonzero(has_object, as_tuple=True)
        one_hot[frame, query, targets.labels[frame, query]] = 1
        weights = logits.new_ones(has_object.shape)
        class_loss = self.class_loss(logits, one_hot, weights=weights).sum() / num_objects
        heat_loss = center_focal_loss(at_least_float32(kept["dense_heatmap"]), heatmap.heatmap)
        # An unknown velocity is no target.
        wanted = targets.codes[frame, query]
        found = codes[frame, query]
        difference = torch.where(wanted.isnan(), 0, found - wanted.nan_to_num())
        box_loss = (difference.abs() * self.code_weights).sum() / num_objects
        losses = {
            "loss_heatmap": heat_loss * self.hm_weight,
            "loss_cls": class_loss * self.cls_weight,
            "loss_bbox": box_loss * self.bbox_weight,
        }
        loss, entries = sum_losses(losses, total="loss_trans")
        return loss, {**entries, "matched_ious": targets.mean_iou}

    @torch.no_grad()
    def generate_predicted_boxes(
        self, predictions: Mapping[str, Tensor]
    ) -> list[dict[str, Tensor]]:
        """Final boxes of every frame: queries inside the limits.

        A score is that of the query's own class, times its heat.
        """
        settings = required(self.model_cfg, "POST_PROCESSING", WHERE)
        limits = required(settings, "POST_CENTER_RANGE", POST_PROCESSING)
        threshold = float(required(settings, "SCORE_THRESH", POST_PROCESSING))
        scores_of_classes = at_least_float32(predictions["heatmap"]).sigmoid()
        classes = predictions["query_labels"]
        own_class = classes[:, None]
        own_heat = predictions["query_heat"].gather(1, own_class)
        scores = (scores_of_classes.gather(1, own_class) * own_heat)[:, 0]
        boxes = self.grid.decode(self.codes_of(predictions))
        lower = constant_like(limits[:3], boxes)
        upper = constant_like(limits[3:], boxes)
        centre = boxes[..., :3]
        admitted = ((centre >= lower) & (centre <= upper)).all(dim=-1) & (scores > threshold)
        final_boxes = []
        for frame, is_admitted in enumerate(admitted):
            final_boxes.append(
                {
                    "pred_boxes": boxes[frame, is_admitted],
                    "pred_scores": scores[frame, is_admitted],
                    "pred_labels": classes[frame, is_admitted] + 1,
                }
            )
        return final_boxes


def _grid_of(
    voxel_size: Sequence[float], point_cloud_range: Sequence[float], stride: int
) -> BoxGrid:
    lower = [float(limit) for limit in point_cloud_range[:2]]
    upper = [float(limit) for limit in point_cloud_range[3:5]]
    return BoxGrid(
        cell_size_m=(float(voxel_size[0]) * stride, float(voxel_size[1]) * stride),
        origin_m=(lower[0], lower[1]),
        extent_m=(upper[0] - lower[0], upper[1] - lower[1]),
    )


def _code_names(settings: ConfigDict) -> list[str]:
    """HEAD_ORDER: the branches that make a box. Only velocities may be absent."""
    where = f"{WHERE}.SEPARATE_HEAD_CFG"
    order = list(required(settings, "HEAD_ORDER", where))
    branches = required(settings, "HEAD_DICT", where)
    expected = [name for name in BRANCHES if name in order or name != "vel"]
    if order != expected:
        raise ConfigError(f"{where}.HEAD_ORDER is {order}, expected {expected}")
    for name in order:
        branch = required(branches, name, f"{where}.HEAD_DICT")
        channels = required(branch, "out_channels", f"{where}.HEAD_DICT.{name}")
        if channels != BRANCHES[name]:
            raise ConfigError(
                f"{where}.HEAD_DICT.{name}.out_channels is {channels}, expected {BRANCHES[name]}"
            )
    return order
