"""CenterHead: objects as peaks of class heatmaps (CenterPoint, CVPR 2021).

One shared convolution, then one set of small branches for every group of classes. The box of an
object is read from the other branches at the cell of its peak. The head makes the final boxes
itself: ``final_box_dicts``, or ``rois`` for a second stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...config import nearest, required
from ...errors import ConfigError
from ...ops.constants import constant_like
from ...ops.frames import rows_of_masks
from ...ops.precision import at_least_float32
from ...ops.sparse_conv import SubMConv2d
from ...types import BatchDict, ConfigDict
from ..model_utils.center_losses import center_focal_loss, center_regression_loss
from ..model_utils.centernet_utils import TopCells, gather_cells, top_cells
from ..model_utils.channels_last_batch_norm import ChannelsLastBatchNorm2d
from ..taps import TapInfo
from .center_candidates import FrameCandidates, ProposedBoxes
from .center_nms import nms_of_head
from .center_overlaps import BRANCH as OVERLAP
from .center_overlaps import corrected_scores, overlap_loss, read_exponents
from .center_targets import CenterTargetAssigner, CenterTargets, decode_centers
from .detection_head import (
    LOSS_FRAMES,
    DetectionHead,
    check_map_size,
    concatenate_boxes,
    convolutions_of,
    sum_losses,
)
from .prediction_layout import CenterLayout

WHERE = "MODEL.DENSE_HEAD"
POST_PROCESSING = f"{WHERE}.POST_PROCESSING"
# Branches that make a box, with their channels, in the order of the code.
BRANCHES = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, "vel": 2}
# Its sigmoid is 0.1: an untrained head finds little, which keeps its focal loss small (CornerNet).
INITIAL_HEATMAP_LOGIT = -2.19


def init_branch(name: str, convolutions: Sequence[nn.Conv2d | SubMConv2d]) -> None:
    """First weights of a branch: rare foreground in a heatmap, Kaiming's weights elsewhere."""
    if name == "hm":
        last_bias = convolutions[-1].bias
        assert last_bias is not None
        nn.init.constant_(last_bias, INITIAL_HEATMAP_LOGIT)
        return
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


class SeparateHead(nn.Module):
    """A branch of 3x3 convolutions for each part of a prediction.

    Args:
        input_channels: channels of the shared features.
        branches: for each name its ``out_channels`` and ``num_conv``.
        use_bias: give the convolutions before a batch norm a bias.
        norm: eps and momentum of the batch norms.
    """

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
            layers: list[nn.Module] = []
            for _ in range(branch["num_conv"] - 1):
                layers.append(conv_norm_relu(input_channels, input_channels, use_bias, norm))
            layers.append(
                nn.Conv2d(input_channels, branch["out_channels"], 3, padding=1, bias=True)
            )
            self.add_module(name, nn.Sequential(*layers))
        self.init_weights()

    def init_weights(self) -> None:
        """Rare foreground in the heatmaps, Kaiming's weights elsewhere."""
        for name in self.branch_names:
            init_branch(name, convolutions_of(getattr(self, name)))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """The output (B, out_channels, H, W) of every branch for features (B, C, H, W)."""
        return {name: getattr(self, name)(features) for name in self.branch_names}


class CenterHead(DetectionHead):
    """Heatmaps, offsets, heights, sizes and headings for each group of CLASS_NAMES_EACH_HEAD.

    A branch ``iou`` predicts how well each box fits (``center_overlaps.py``).

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
    has_dense_pass = True
    assigner_class: type[CenterTargetAssigner] = CenterTargetAssigner

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
        _refuse_overlap_loss(model_cfg)
        self.head_labels = _head_labels(model_cfg, self.class_names)
        self.code_names = _code_names(required(model_cfg, "SEPARATE_HEAD_CFG", WHERE))
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE)
        self.target_assigner = self.assigner_class(
            settings, self.head_labels, voxel_size, point_cloud_range
        )
        stride = self.target_assigner.stride
        self.feature_map_size = [int(cells) // stride for cells in grid_size[:2]]
        self.cell_size = [float(edge) * stride for edge in voxel_size[:2]]
        self.origin = [float(limit) for limit in point_cloud_range[:2]]
        self._read_loss_weights(required(model_cfg, "LOSS_CONFIG", WHERE))
        self.predicts_overlap = OVERLAP in model_cfg["SEPARATE_HEAD_CFG"]["HEAD_DICT"]
        self._read_overlap_exponents(model_cfg.get("POST_PROCESSING") or {})
        self._build_layers(input_channels)

    def _read_loss_weights(self, losses_cfg: ConfigDict) -> None:
        where = f"{WHERE}.LOSS_CONFIG.LOSS_WEIGHTS"
        weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.cls_weight = float(required(weights, "cls_weight", where))
        self.loc_weight = float(required(weights, "loc_weight", where))
        code_weights = [float(weight) for weight in required(weights, "code_weights", where)]
        expected = sum(BRANCHES[name] for name in self.code_names)
        if len(code_weights) != expected:
            raise ConfigError(
                f"{where}.code_weights has {len(code_weights)} numbers, expected {expected}: one "
                f"for each channel of {', '.join(self.code_names)}"
            )
        self.code_weights: Tensor
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)

    def _read_overlap_exponents(self, settings: ConfigDict) -> None:
        exponents = read_exponents(
            settings, len(self.class_names), self.predicts_overlap, POST_PROCESSING
        )
        self.overlap_exponents: Tensor | None
        tensor = None if exponents is None else torch.tensor(exponents)
        self.register_buffer("overlap_exponents", tensor, persistent=False)

    def _build_layers(self, input_channels: int) -> None:
        config = self.model_cfg
        use_bias = bool(config.get("USE_BIAS_BEFORE_NORM", False))
        norm = {"eps": config.get("BN_EPS", 1e-5), "momentum": config.get("BN_MOM", 0.1)}
        width = required(config, "SHARED_CONV_CHANNEL", WHERE)
        self.shared_conv = conv_norm_relu(input_channels, width, use_bias, norm)
        num_hm_conv = required(config, "NUM_HM_CONV", WHERE)
        self.heads_list = nn.ModuleList()
        for labels in self.head_labels:
            branches = dict(config["SEPARATE_HEAD_CFG"]["HEAD_DICT"])
            branches["hm"] = {"out_channels": len(labels), "num_conv": num_hm_conv}
            self.heads_list.append(SeparateHead(width, branches, use_bias, norm))

    def taps(self) -> list[TapInfo]:
        """What can be captured: the shared features, and the output of each branch."""
        taps = [TapInfo("shared_conv", _output_channels(self.shared_conv), 1, "bev")]
        for number, head in enumerate(self.heads_list):
            for name, branch in head.named_children():
                path = f"heads_list.{number}.{name}"
                taps.append(TapInfo(path, _output_channels(branch), 1, "bev"))
        return taps

    def score_taps(self) -> list[str]:
        """The heatmap branch of every head."""
        return [f"heads_list.{number}.hm" for number in range(len(self.heads_list))]

    def prediction_layout(self) -> CenterLayout | None:
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

    def dense_pass(self, features: Tensor) -> list[dict[str, Tensor]]:
        """Per head the output (B, channels, H, W) of each branch, for features (B, C, H, W)."""
        shared = self.shared_conv(features)
        return [head(shared) for head in self.heads_list]

    def forward(self, batch_dict: BatchDict) -> BatchDict:
        """Predict all cells, in training assign their targets, else make the boxes.

        Reads ``spatial_features_2d`` (B, C, H, W) and, in training, ``gt_boxes`` (B, G, 7 + C + 1).
        In eval writes ``final_box_dicts``: per frame ``pred_boxes`` (K, 7 + C), ``pred_scores``
        (K,), ``pred_labels`` (K,) from 1. For a second stage, in training too, writes what
        ``boxes_as_rois`` returns instead.
        """
        features = batch_dict["spatial_features_2d"]
        stride_key = f"{WHERE}.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE"
        check_map_size(features, self.feature_map_size, stride_key)
        predictions = self.dense_pass(features)
        self.forward_ret_dict = {"pred_dicts": predictions}
        if self.training:
            gt_boxes = batch_dict["gt_boxes"].float()
            targets = self.target_assigner.assign_targets(gt_boxes, self.feature_map_size)
            self.forward_ret_dict["target_dicts"] = targets
            if LOSS_FRAMES in batch_dict:
                self._leave_out_frames(batch_dict[LOSS_FRAMES])
        if self.predict_boxes_when_training:
            batch_dict.update(boxes_as_rois(self.generate_predicted_boxes(predictions)))
        elif not self.training:
            batch_dict["final_box_dicts"] = self.generate_predicted_boxes(predictions)
        return batch_dict

    def _leave_out_frames(self, is_counted: Tensor) -> None:
        """Keep predictions and targets of the frames that are counted, (B,) bool, for the loss."""
        predictions = []
        for of_head in self.forward_ret_dict["pred_dicts"]:
            predictions.append({name: value[is_counted] for name, value in of_head.items()})
        targets = []
        for target in self.forward_ret_dict["target_dicts"]:
            targets.append(CenterTargets(*(value[is_counted] for value in target)))
        self.forward_ret_dict = {"pred_dicts": predictions, "target_dicts": targets}

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        losses = {}
        predictions = self.forward_ret_dict["pred_dicts"]
        targets = self.forward_ret_dict["target_dicts"]
        for number, (prediction, target) in enumerate(zip(predictions, targets)):
            heatmap_loss = center_focal_loss(at_least_float32(prediction["hm"]), target.heatmap)
            losses[f"hm_loss_head_{number}"] = heatmap_loss * self.cls_weight
            # The box is learnt at the centre's cell only; elsewhere its branches are never read.
            code_maps = [at_least_float32(prediction[name]) for name in self.code_names]
            codes = gather_cells(torch.cat(code_maps, dim=1), target.cells)
            code_loss = center_regression_loss(codes, target.boxes, target.mask)
            weighted = (code_loss * self.code_weights).sum()
            losses[f"loc_loss_head_{number}"] = weighted * self.loc_weight
            if self.predicts_overlap:
                overlaps = gather_cells(at_least_float32(prediction[OVERLAP]), target.cells)[..., 0]
                boxes = self._boxes_at(codes, target.cells)
                gt_boxes = self._boxes_at(target.boxes, target.cells)
                loss = overlap_loss(overlaps, boxes, gt_boxes, target.mask)
                losses[f"iou_loss_head_{number}"] = loss
        return sum_losses(losses, total="rpn_loss")

    @torch.no_grad()
    def generate_predicted_boxes(
        self, predictions: Sequence[Mapping[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        """Final boxes of every frame, those of all heads one after the other.

        Args:
            predictions: per head the output (B, channels, H, W) of each branch.
        """
        num_frames = len(predictions[0]["hm"])
        candidates: list[FrameCandidates] = []
        for number, prediction in enumerate(predictions):
            best = self.boxes_before_nms(number, prediction)
            candidates.extend(best.of_frame(number, frame) for frame in range(num_frames))
        selected = self.select_boxes(candidates)
        # They stand head by head; the heads of a frame are ``num_frames`` apart.
        return [concatenate_boxes(selected[frame::num_frames]) for frame in range(num_frames)]

    @property
    def max_boxes(self) -> int:
        """MAX_OBJ_PER_SAMPLE: boxes that each head proposes in a frame."""
        settings = required(self.model_cfg, "POST_PROCESSING", WHERE)
        return int(required(settings, "MAX_OBJ_PER_SAMPLE", POST_PROCESSING))

    def boxes_before_nms(self, number: int, prediction: Mapping[str, Tensor]) -> ProposedBoxes:
        """The boxes at the highest cells of one head's heatmaps.

        Args:
            number: of the head.
            prediction: the output (B, channels, H, W) of each branch.
        """
        best = top_cells(at_least_float32(prediction["hm"]), self.max_boxes)
        overlaps = None
        if self.overlap_exponents is not None:
            overlaps = gather_cells(at_least_float32(prediction[OVERLAP]), best.cells)[..., 0]
        return ProposedBoxes(
            boxes=self._decode(prediction, best),
            scores=torch.sigmoid(best.scores),
            labels=constant_like(self.head_labels[number], best.classes)[best.classes],
            overlaps=overlaps,
        )

    def select_boxes(self, candidates: Sequence[FrameCandidates]) -> list[dict[str, Tensor]]:
        """Boxes that pass the limits, after an NMS for each frame and head.

        NMS runs over all classes of a head together. Classes that may stand close to each other,
        such as barrier and cone, belong into different heads; or ``class_specific_nms`` keeps them
        apart. The limits are applied to all frames and heads first, so that the host waits once for
        the numbers of boxes.
        """
        settings = required(self.model_cfg, "POST_PROCESSING", WHERE)
        masks = [self._is_admitted(each.boxes, each.scores, settings) for each in candidates]
        selected = []
        for each, admitted in zip(candidates, rows_of_masks(masks)):
            selected.append(self._after_nms(each, admitted, settings))
        return selected

    def _after_nms(
        self, candidates: FrameCandidates, admitted: Tensor, settings: ConfigDict
    ) -> dict[str, Tensor]:
        """What NMS keeps of the candidates at the rows ``admitted``."""
        nms_config = required(settings, "NMS_CONFIG", POST_PROCESSING)
        boxes = candidates.boxes[admitted]
        scores = candidates.scores[admitted]
        labels = candidates.labels[admitted]
        if candidates.overlaps is not None and self.overlap_exponents is not None:
            exponents = self.overlap_exponents[labels - 1]
            scores = corrected_scores(scores, candidates.overlaps[admitted], exponents)
        kept = nms_of_head(
            boxes, scores, labels, nms_config, head=candidates.head, head_labels=self.head_labels
        )
        return {
            "pred_boxes": boxes[kept],
            "pred_scores": scores[kept],
            "pred_labels": labels[kept],
        }

    def _decode(self, prediction: Mapping[str, Tensor], best: TopCells) -> Tensor:
        """Boxes (B, K, 7 + C) at the chosen cells."""
        codes = []
        for name in self.code_names:
            codes.append(gather_cells(at_least_float32(prediction[name]), best.cells))
        return self._boxes_at(torch.cat(codes, dim=-1), best.cells)

    def _boxes_at(self, codes: Tensor, cells: Tensor) -> Tensor:
        """Boxes (B, K, 7 + C) of codes (B, K, 8 + C) at cells (B, K)."""
        width = self.feature_map_size[0]
        row = torch.div(cells, width, rounding_mode="floor")
        corners = torch.stack([cells % width, row], dim=-1)
        return decode_centers(codes, corners, cell_size_m=self.cell_size, origin_m=self.origin)

    @staticmethod
    def _is_admitted(boxes: Tensor, scores: Tensor, settings: ConfigDict) -> Tensor:
        """Which boxes (K, 7 + C) have a centre in the range and a score (K,) high enough.

        The limits are POST_CENTER_LIMIT_RANGE and SCORE_THRESH.
        """
        limits_m = required(settings, "POST_CENTER_LIMIT_RANGE", POST_PROCESSING)
        limits = constant_like(limits_m, boxes)
        centre = boxes[..., :3]
        inside = ((centre >= limits[:3]) & (centre <= limits[3:])).all(dim=-1)
        return inside & (scores > required(settings, "SCORE_THRESH", POST_PROCESSING))


def conv_norm_relu(
    input_channels: int, output_channels: int, use_bias: bool, norm: Mapping[str, float]
) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(input_channels, output_channels, 3, padding=1, bias=use_bias),
        ChannelsLastBatchNorm2d(output_channels, eps=norm["eps"], momentum=norm["momentum"]),
        nn.ReLU(),
    )


def boxes_as_rois(pred_dicts: Sequence[Mapping[str, Tensor]]) -> BatchDict:
    """Boxes of every frame as proposals of a second stage.

    Returns:
        ``rois`` (B, R, 7 + C), ``roi_scores`` (B, R) and ``roi_labels`` (B, R), where R is the
        largest number of boxes in a frame, at least 1, and shorter frames are padded with zeros.
    """
    longest = max(1, *(len(frame["pred_scores"]) for frame in pred_dicts))
    names = {"rois": "pred_boxes", "roi_scores": "pred_scores", "roi_labels": "pred_labels"}
    rois: BatchDict = {"has_class_labels": True}
    for key, name in names.items():
        first = pred_dicts[0][name]
        padded = first.new_zeros(len(pred_dicts), longest, *first.shape[1:])
        for frame, boxes in enumerate(pred_dicts):
            padded[frame, : len(boxes[name])] = boxes[name]
        rois[key] = padded
    return rois


def _output_channels(branch: nn.Module) -> int:
    return convolutions_of(branch)[-1].out_channels


def _refuse_overlap_loss(model_cfg: ConfigDict) -> None:
    """Raise a ConfigError for a loss of whole boxes by their overlap, which this head has not."""
    if model_cfg.get("IOU_REG_LOSS"):
        raise ConfigError(
            f"{WHERE}.IOU_REG_LOSS is true, expected false or nothing: CenterHead learns the parts "
            "of a box, and a branch 'iou' in SEPARATE_HEAD_CFG.HEAD_DICT learns how well it fits"
        )


def _head_labels(model_cfg: ConfigDict, class_names: list[str]) -> list[list[int]]:
    """Labels (from 1) of the classes of every head; every class belongs to one head."""
    groups = required(model_cfg, "CLASS_NAMES_EACH_HEAD", WHERE)
    named: list[str] = []
    for group in groups:
        named += group
    for name in class_names:
        times = named.count(name)
        if times != 1:
            raise ConfigError(
                f"{WHERE}.CLASS_NAMES_EACH_HEAD names '{name}' {times} times, expected once"
                f"{nearest(name, named)}"
            )
    labels_of_heads = []
    for group in groups:
        # A head may name classes that this training leaves out.
        labels = [class_names.index(name) + 1 for name in group if name in class_names]
        if labels:
            labels_of_heads.append(labels)
    return labels_of_heads


def _code_names(settings: ConfigDict) -> list[str]:
    """HEAD_ORDER: the branches that make a box, in the order of its code.

    Targets and decoding rely on this order, so no other is accepted. Only velocities may be absent.
    """
    where = f"{WHERE}.SEPARATE_HEAD_CFG"
    order = list(required(settings, "HEAD_ORDER", where))
    branches = required(settings, "HEAD_DICT", where)
    expected = [name for name in BRANCHES if name in order or name != "vel"]
    if order != expected:
        raise ConfigError(f"{where}.HEAD_ORDER is {order}, expected {expected}")
    for name, branch in branches.items():
        channels = required(branch, "out_channels", f"{where}.HEAD_DICT.{name}")
        # The overlap is no part of the box, so it is in no order.
        if name not in order and name != OVERLAP:
            raise ConfigError(
                f"{where}.HEAD_DICT.{name} is not in HEAD_ORDER{nearest(name, order)}"
            )
        if channels != BRANCHES.get(name, 1):
            raise ConfigError(
                f"{where}.HEAD_DICT.{name}.out_channels is {channels}, expected "
                f"{BRANCHES.get(name, 1)}"
            )
    for name in order:
        required(branches, name, f"{where}.HEAD_DICT")
    return order
