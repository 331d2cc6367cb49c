"""CenterHead: objects as peaks of class heatmaps, with the box read at the peak's cell (CenterPoint, CVPR 2021).

One shared convolution, then one set of small branches for every group of classes. The final boxes are made here:
``final_box_dicts``, or ``rois`` for a second stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...config import nearest, required
from ...errors import ConfigError
from ...ops.nms import class_agnostic_nms
from ..model_utils.center_losses import center_focal_loss, center_regression_loss
from ..model_utils.centernet_utils import TopCells, gather_cells, top_cells
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..model_utils.precision import at_least_float32
from ..taps import TapInfo
from .center_targets import CenterTargetAssigner, decode_centers
from .detection_head import DetectionHead
from .prediction_layout import CenterLayout

WHERE = "MODEL.DENSE_HEAD"
BRANCHES = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, "vel": 2}  # in the order of the codes
FIRST_HEATMAP_LOGIT = -2.19  # what an untrained heatmap predicts: 0.1


class SeparateHead(nn.Module):
    """A branch of 3x3 convolutions for each of ``branches``: name -> {out_channels, num_conv}."""

    def __init__(
        self,
        input_channels: int,
        branches: Mapping[str, Mapping[str, int]],
        use_bias: bool,
        norm: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.branch_names = list(branches)
        for name, branch in branches.items():
            hidden = [
                conv_norm_relu(input_channels, input_channels, use_bias, norm)
                for _ in range(branch["num_conv"] - 1)
            ]
            self.add_module(
                name,
                nn.Sequential(
                    *hidden,
                    nn.Conv2d(input_channels, branch["out_channels"], 3, padding=1, bias=True),
                ),
            )
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground at the start."""
        for name in self.branch_names:
            convolutions = [
                module for module in getattr(self, name).modules() if isinstance(module, nn.Conv2d)
            ]
            if name == "hm":
                assert convolutions[-1].bias is not None
                nn.init.constant_(convolutions[-1].bias, FIRST_HEATMAP_LOGIT)
                continue
            for convolution in convolutions:
                nn.init.kaiming_normal_(convolution.weight)
                if convolution.bias is not None:
                    nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) to (B, out_channels, H, W) of every branch."""
        return {name: getattr(self, name)(features) for name in self.branch_names}


class CenterHead(DetectionHead):
    """Heatmaps, offsets, heights, sizes and headings, for every group of CLASS_NAMES_EACH_HEAD."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        input_channels: int,
        num_class: int,
        class_names: Sequence[str],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        predict_boxes_when_training: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        self.class_names = list(class_names)
        _refuse_overlap_branches(model_cfg)
        self.head_labels = _head_labels(model_cfg, self.class_names)
        self.code_names = _code_names(required(model_cfg, "SEPARATE_HEAD_CFG", WHERE))
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE)
        self.target_assigner = CenterTargetAssigner(
            settings, self.head_labels, voxel_size, point_cloud_range
        )
        stride = self.target_assigner.stride
        self.feature_map_size = [int(cells) // stride for cells in grid_size[:2]]
        self.cell_size = [float(edge) * stride for edge in voxel_size[:2]]
        self.origin = [float(limit) for limit in point_cloud_range[:2]]
        self._read_loss_weights(required(model_cfg, "LOSS_CONFIG", WHERE))
        self._build_layers(input_channels)

    def _build_layers(self, input_channels: int) -> None:
        config = self.model_cfg
        use_bias = bool(config.get("USE_BIAS_BEFORE_NORM", False))
        norm = {"eps": config.get("BN_EPS", 1e-5), "momentum": config.get("BN_MOM", 0.1)}
        width = required(config, "SHARED_CONV_CHANNEL", WHERE)
        self.shared_conv = conv_norm_relu(input_channels, width, use_bias, norm)
        branches = config["SEPARATE_HEAD_CFG"]["HEAD_DICT"]
        num_hm_conv = required(config, "NUM_HM_CONV", WHERE)
        self.heads_list = nn.ModuleList(
            SeparateHead(
                width,
                {**branches, "hm": {"out_channels": len(labels), "num_conv": num_hm_conv}},
                use_bias,
                norm,
            )
            for labels in self.head_labels
        )

    def _read_loss_weights(self, losses_cfg: Mapping[str, Any]) -> None:
        where = f"{WHERE}.LOSS_CONFIG.LOSS_WEIGHTS"
        weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.cls_weight = float(required(weights, "cls_weight", where))
        self.loc_weight = float(required(weights, "loc_weight", where))
        code_weights = [float(weight) for weight in required(weights, "code_weights", where)]
        expected = sum(BRANCHES[name] for name in self.code_names)
        if len(code_weights) != expected:
            raise ConfigError(
                f"{where}.code_weights has {len(code_weights)} numbers, expected {expected}: one for "
                f"each channel of {', '.join(self.code_names)}"
            )
        self.code_weights: Tensor
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)

    def taps(self) -> list[TapInfo]:
        """What can be captured, relative to this slot: the shared features, and what each branch puts out."""
        branches = [
            (f"heads_list.{number}.{name}", _width(branch))
            for number, head in enumerate(self.heads_list)
            for name, branch in head.named_children()
        ]
        shared = ("shared_conv", _width(self.shared_conv))
        return [TapInfo(path, channels, 1, "bev") for path, channels in [shared, *branches]]

    def score_taps(self) -> list[str]:
        """The heatmap branch of every head."""
        return [f"heads_list.{number}.hm" for number in range(len(self.heads_list))]

    def prediction_layout(self) -> CenterLayout:
        """The outputs of the heads, by cell."""
        nx, ny = self.feature_map_size
        return CenterLayout(
            modules=tuple(f"heads_list.{number}" for number in range(len(self.heads_list))),
            num_class=self.num_class,
            head_labels=tuple(tuple(labels) for labels in self.head_labels),
            code_names=tuple(self.code_names),
            map_size=(nx, ny),
            cell_size_m=(self.cell_size[0], self.cell_size[1]),
            origin_m=(self.origin[0], self.origin[1]),
        )

    def forward(self, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads ``spatial_features_2d`` (B, C, H, W), in training ``gt_boxes`` (B, G, 7 + C + 1).

        In eval writes ``final_box_dicts``: per frame ``pred_boxes`` (K, 7 + C), ``pred_scores`` (K,), ``pred_labels``
        (K,) from 1. For a second stage, in training too, writes ``rois`` (B, R, 7 + C), ``roi_scores`` (B, R),
        ``roi_labels`` (B, R) and ``has_class_labels`` instead.
        """
        features = batch_dict["spatial_features_2d"]
        self._check_map_size(features.shape[-1], features.shape[-2])
        shared = self.shared_conv(features)
        predictions = [head(shared) for head in self.heads_list]
        self.forward_ret_dict = {"pred_dicts": predictions}
        if self.training:
            targets = self.target_assigner.assign_targets(
                batch_dict["gt_boxes"].float(), self.feature_map_size
            )
            self.forward_ret_dict["target_dicts"] = targets
        if self.predict_boxes_when_training:
            batch_dict.update(boxes_as_rois(self.generate_predicted_boxes(predictions)))
        elif not self.training:
            batch_dict["final_box_dicts"] = self.generate_predicted_boxes(predictions)
        return batch_dict

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log, still on its device."""
        losses = {}
        pairs = zip(self.forward_ret_dict["pred_dicts"], self.forward_ret_dict["target_dicts"])
        for number, (prediction, target) in enumerate(pairs):
            heatmap_loss = center_focal_loss(at_least_float32(prediction["hm"]), target.heatmap)
            codes = torch.cat(
                [at_least_float32(prediction[name]) for name in self.code_names], dim=1
            )
            code_loss = center_regression_loss(
                gather_cells(codes, target.cells), target.boxes, target.mask
            )
            losses[f"hm_loss_head_{number}"] = heatmap_loss * self.cls_weight
            losses[f"loc_loss_head_{number}"] = (
                code_loss * self.code_weights
            ).sum() * self.loc_weight
        total = torch.stack(list(losses.values())).sum()
        return total, {
            name: value.detach() for name, value in {**losses, "rpn_loss": total}.items()
        }

    @torch.no_grad()
    def generate_predicted_boxes(
        self, predictions: Sequence[Mapping[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        """Final boxes of every frame, from what the heads predict: (B, channels, H, W) of every branch."""
        settings = required(self.model_cfg, "POST_PROCESSING", WHERE)
        where = f"{WHERE}.POST_PROCESSING"
        nms_config = required(settings, "NMS_CONFIG", where)
        frames = range(len(predictions[0]["hm"]))
        found: list[list[dict[str, Tensor]]] = [[] for _ in frames]
        for prediction, labels in zip(predictions, self.head_labels):
            logits = at_least_float32(prediction["hm"])
            best = top_cells(logits, int(required(settings, "MAX_OBJ_PER_SAMPLE", where)))
            boxes, scores = self._decode(prediction, best), torch.sigmoid(best.scores)
            admitted = self._is_admitted(boxes, scores, settings)
            all_labels = best.classes.new_tensor(labels)[best.classes]
            for frame in frames:
                rows = torch.nonzero(admitted[frame])[:, 0]
                kept, _ = class_agnostic_nms(scores[frame, rows], boxes[frame, rows], nms_config)
                rows = rows[kept]
                found[frame].append(
                    {
                        "pred_boxes": boxes[frame, rows],
                        "pred_scores": scores[frame, rows],
                        "pred_labels": all_labels[frame, rows],
                    }
                )
        return [
            {key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in found
        ]

    def _decode(self, prediction: Mapping[str, Tensor], best: TopCells) -> Tensor:
        """Boxes (B, K, 7 + C) at the chosen cells."""
        codes = [
            gather_cells(at_least_float32(prediction[name]), best.cells) for name in self.code_names
        ]
        width = prediction["hm"].shape[-1]
        row = torch.div(best.cells, width, rounding_mode="floor")
        corners = torch.stack([best.cells % width, row], dim=-1)
        return decode_centers(
            torch.cat(codes, dim=-1), corners, cell_size_m=self.cell_size, origin_m=self.origin
        )

    @staticmethod
    def _is_admitted(boxes: Tensor, scores: Tensor, settings: Mapping[str, Any]) -> Tensor:
        """(B, K) bool: boxes whose centre is inside POST_CENTER_LIMIT_RANGE, with a score above SCORE_THRESH."""
        where = f"{WHERE}.POST_PROCESSING"
        limits = boxes.new_tensor(required(settings, "POST_CENTER_LIMIT_RANGE", where))
        inside = ((boxes[..., :3] >= limits[:3]) & (boxes[..., :3] <= limits[3:])).all(dim=-1)
        return inside & (scores > required(settings, "SCORE_THRESH", where))

    def _check_map_size(self, width: int, height: int) -> None:
        if [width, height] != self.feature_map_size:
            nx, ny = self.feature_map_size
            raise ConfigError(
                f"{WHERE}.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE makes a map of {nx} x {ny} cells, "
                f"but the feature map has {width} x {height}; make the stride that of MODEL.BACKBONE_2D"
            )


def conv_norm_relu(
    wide_in: int, wide_out: int, use_bias: bool, norm: Mapping[str, float]
) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=use_bias),
        ChannelsLastBatchNorm2d(wide_out, eps=norm["eps"], momentum=norm["momentum"]),
        nn.ReLU(),
    )


def _width(branch: nn.Module) -> int:
    """Channels that leave a branch: those of its last convolution."""
    return [module.out_channels for module in branch.modules() if isinstance(module, nn.Conv2d)][-1]


def boxes_as_rois(pred_dicts: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Boxes of every frame as proposals of a second stage, padded with zeros to the longest (at least 1)."""
    longest = max(1, *(len(frame["pred_scores"]) for frame in pred_dicts))
    rois = {}
    for key, name in {
        "rois": "pred_boxes",
        "roi_scores": "pred_scores",
        "roi_labels": "pred_labels",
    }.items():
        first = pred_dicts[0][name]
        rois[key] = first.new_zeros(len(pred_dicts), longest, *first.shape[1:])
        for frame, boxes in enumerate(pred_dicts):
            rois[key][frame, : len(boxes[name])] = boxes[name]
    return {**rois, "has_class_labels": True}


def _refuse_overlap_branches(model_cfg: Mapping[str, Any]) -> None:
    """Settings of branches that predict or train on overlaps, which this head does not have, are not passed over."""
    post_processing = model_cfg.get("POST_PROCESSING") or {}
    for where, block, key in (
        (WHERE, model_cfg, "IOU_REG_LOSS"),
        (f"{WHERE}.POST_PROCESSING", post_processing, "USE_IOU_TO_RECTIFY_SCORE"),
    ):
        if block.get(key):
            raise ConfigError(
                f"{where}.{key} is true, expected false or nothing: CenterHead predicts no overlaps"
            )


def _head_labels(model_cfg: Mapping[str, Any], class_names: list[str]) -> list[list[int]]:
    """Labels (from 1) of the classes of every head; every class belongs to one head."""
    where = f"{WHERE}.CLASS_NAMES_EACH_HEAD"
    groups = [list(group) for group in required(model_cfg, "CLASS_NAMES_EACH_HEAD", WHERE)]
    named = [name for group in groups for name in group]
    missing = [name for name in class_names if named.count(name) != 1]
    if missing:
        times = named.count(missing[0])
        raise ConfigError(
            f"{where} names '{missing[0]}' {times} times, expected once{nearest(missing[0], named)}"
        )
    # A head may name classes that this training leaves out.
    labels = [
        [class_names.index(name) + 1 for name in group if name in class_names] for group in groups
    ]
    return [group for group in labels if group]


def _code_names(settings: Mapping[str, Any]) -> list[str]:
    """HEAD_ORDER, checked: which branches make the box, and that HEAD_DICT has each with its number of channels."""
    where = f"{WHERE}.SEPARATE_HEAD_CFG"
    order, branches = (
        list(required(settings, "HEAD_ORDER", where)),
        required(settings, "HEAD_DICT", where),
    )
    known = [name for name in BRANCHES if name in order or name != "vel"]
    if order != known:
        raise ConfigError(f"{where}.HEAD_ORDER is {order}, expected {known}")
    for name, branch in branches.items():
        channels = required(branch, "out_channels", f"{where}.HEAD_DICT.{name}")
        if name not in order:
            raise ConfigError(
                f"{where}.HEAD_DICT.{name} is not in HEAD_ORDER{nearest(name, order)}"
            )
        if channels != BRANCHES[name]:
            raise ConfigError(
                f"{where}.HEAD_DICT.{name}.out_channels is {channels}, expected {BRANCHES[name]}"
            )
    for name in order:
        required(branches, name, f"{where}.HEAD_DICT")
    return order
