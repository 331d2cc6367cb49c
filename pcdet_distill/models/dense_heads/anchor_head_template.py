"""AnchorHeadTemplate: anchors, targets, losses and box decoding of anchor heads (SECOND, 2018).

Three losses train an anchor head:

* focal loss of the classes, over all anchors that are not ignored;
* smooth L1 of the box codes, over positive anchors, with sin(a - b) in place of the heading;
* cross entropy of the direction bins, over positive anchors.

Each is summed over a frame, divided by the frame's number of positive anchors, then averaged over
the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..model_utils.box_coders import ANCHOR_BOX_CODERS
from ..model_utils.losses import (
    REGRESSION_LOSSES,
    SigmoidFocalClassificationLoss,
    WeightedCrossEntropyLoss,
)
from .anchor_generator import AnchorGenerator
from .detection_head import (
    LOSS_FRAMES,
    DetectionHead,
    check_map_size,
    one_hot_labels,
    sum_losses,
)
from .direction_bins import DirectionBins
from .target_assigner import TARGET_ASSIGNERS

WHERE = "MODEL.DENSE_HEAD"
GENERATORS = f"{WHERE}.ANCHOR_GENERATOR_CONFIG"
HEADING = 6  # its column in a box and in a code
IGNORED = -1  # label of an anchor that is neither an object nor background

# An untrained head predicts every class with this probability (RetinaNet, ICCV 2017). With 0.5 the
# loss of the many background anchors would drown all else in the first steps.
INITIAL_FOREGROUND_PROBABILITY = 0.01


class AnchorHeadTemplate(DetectionHead):
    """Base of the anchor heads.

    A subclass makes its layers in ``build_layers``, and predicts in ``forward``.

    Args:
        model_cfg: the DENSE_HEAD block.
        input_channels: channels of ``spatial_features_2d``.
        num_class: number of classes to predict.
        class_names: of the data; label 1 is the first.
        grid_size: number of voxels along x, y, z.
        point_cloud_range: metres; x, y, z minimum, then maximum.
        predict_boxes_when_training: decode boxes in training too, as proposals of a second stage.
        others: what OpenPCDet passes to every dense head, not needed here.
    """

    leaves_out_frames = True
    has_dense_pass = True

    def __init__(
        self,
        *,
        model_cfg: ConfigDict,
        input_channels: int,
        num_class: int,
        class_names: Sequence[str],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        predict_boxes_when_training: bool = True,
        **others: object,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        self.class_names = list(class_names)
        self.directions = DirectionBins.from_config(model_cfg, WHERE)
        self._build_target_assigner(required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE))
        self._build_anchors(grid_size, point_cloud_range)
        self._build_losses(required(model_cfg, "LOSS_CONFIG", WHERE))
        self.build_layers(input_channels)

    def build_layers(self, input_channels: int) -> None:
        """Make the layers of the head."""
        raise NotImplementedError(f"{type(self).__name__} does not define build_layers")

    def _build_target_assigner(self, settings: ConfigDict) -> None:
        where = f"{WHERE}.TARGET_ASSIGNER_CONFIG"
        coder_name = required(settings, "BOX_CODER", where)
        coder_class = lookup(ANCHOR_BOX_CODERS, coder_name, f"{where}.BOX_CODER")
        self.box_coder = coder_class(**settings.get("BOX_CODER_CONFIG", {}))
        assigner_name = required(settings, "NAME", where)
        assigner_class = lookup(TARGET_ASSIGNERS, assigner_name, f"{where}.NAME")
        self.target_assigner = assigner_class(
            self.model_cfg,
            self.class_names,
            self.box_coder,
            match_height=settings.get("MATCH_HEIGHT", False),
        )

    def _build_anchors(self, grid_size: Sequence[int], point_cloud_range: Sequence[float]) -> None:
        """Make the anchors, as buffers that move with the head but are not in its state_dict.

        OpenPCDet keeps them in a plain list. Its checkpoints therefore hold no anchors.
        """
        generators = required(self.model_cfg, "ANCHOR_GENERATOR_CONFIG", WHERE)
        map_sizes = []
        for entry in generators:
            stride = required(entry, "feature_map_stride", GENERATORS)
            map_sizes.append([int(cells) // stride for cells in grid_size[:2]])
            if min(map_sizes[-1]) < 1:
                raise ConfigError(
                    f"{GENERATORS}.feature_map_stride: {stride} leaves no cell of a map of "
                    f"{grid_size[0]} x {grid_size[1]}; expected the stride of BACKBONE_2D"
                )
        generator = AnchorGenerator(point_cloud_range, generators)
        grids, self.num_anchors_per_location = generator.generate_anchors(map_sizes)
        self.feature_map_size = map_sizes[0]
        for name, grid in zip(self.class_names, grids):
            if grid.numel() == 0:
                raise ConfigError(
                    f"{GENERATORS}: class {name} has no anchor; expected sizes, rotations and "
                    "heights for every class"
                )
        # Further attributes of a box, such as velocities, are zero for an anchor.
        further = self.box_coder.box_size - grids[0].shape[-1]
        for number, grid in enumerate(grids):
            anchors = nn.functional.pad(grid, (0, further))
            self.register_buffer(f"anchors_{number}", anchors, persistent=False)
        self.flat_anchors: Tensor
        flat_anchors = self.in_order_of_predictions(self.anchors)
        self.register_buffer("flat_anchors", flat_anchors, persistent=False)

    def _check_loss_weights(self, where: str) -> None:
        """Refuse weights that are missing or no numbers before the first loss asks for them."""
        names = ["cls_weight", "loc_weight"]
        names += ["dir_weight"] if self.directions is not None else []
        for name in names:
            weight = required(self.loss_weights, name, where)
            if isinstance(weight, bool) or not isinstance(weight, (int, float)):
                raise ConfigError(f"{where}.{name}: expected a number, found {weight!r}")
        codes = required(self.loss_weights, "code_weights", where)
        if codes is not None and len(codes) not in (1, self.box_coder.code_size):
            raise ConfigError(
                f"{where}.code_weights: has {len(codes)} numbers, expected "
                f"{self.box_coder.code_size}: one for each number of a box code"
            )

    def _build_losses(self, losses_cfg: ConfigDict) -> None:
        self.loss_weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self._check_loss_weights(f"{WHERE}.LOSS_CONFIG.LOSS_WEIGHTS")
        self.cls_loss_func = SigmoidFocalClassificationLoss(alpha=0.25, gamma=2.0)
        name = losses_cfg.get("REG_LOSS_TYPE") or "WeightedSmoothL1Loss"
        loss_class = lookup(REGRESSION_LOSSES, name, f"{WHERE}.LOSS_CONFIG.REG_LOSS_TYPE")
        self.reg_loss_func = loss_class(code_weights=self.loss_weights["code_weights"])
        self.dir_loss_func = WeightedCrossEntropyLoss()

    @property
    def anchors(self) -> list[Tensor]:
        """Per class (1, ny, nx, sizes, rotations, 7 + C), on the device of the head."""
        count = len(self.num_anchors_per_location)
        return [getattr(self, f"anchors_{number}") for number in range(count)]

    @property
    def anchor_class_names(self) -> tuple[str, ...]:
        """The class of each entry of ``anchors``."""
        return tuple(entry["class_name"] for entry in self.model_cfg["ANCHOR_GENERATOR_CONFIG"])

    def anchor_classes(self) -> Tensor:
        """(A,) int64: the class of each of ``flat_anchors``, an index of ``anchor_class_names``."""
        grids = []
        for number, grid in enumerate(self.anchors):
            grids.append(torch.full((*grid.shape[:-1], 1), number))
        return self.in_order_of_predictions(grids).flatten()

    def in_order_of_predictions(self, grids: Sequence[Tensor]) -> Tensor:
        """Rows (A, width) of values (1, ny, nx, sizes, rotations, width), given for each class.

        A 1x1 convolution predicts all anchors of a cell together. The rows therefore go cell by
        cell (y, then x); within a cell by class, size and rotation.
        """
        return torch.cat(list(grids), dim=-3).reshape(-1, grids[0].shape[-1])

    def check_map_size(self, features: Tensor) -> None:
        """Raise a ConfigError if features (B, C, ny, nx) have other cells than the anchors."""
        check_map_size(features, self.feature_map_size, f"{GENERATORS}: feature_map_stride")

    def assign_targets(self, gt_boxes: Tensor) -> dict[str, Tensor]:
        """Targets of the anchors for gt_boxes (B, G, 7 + C + 1)."""
        return self.target_assigner.assign_targets(self.anchors, gt_boxes)

    def training_targets(self, batch_dict: BatchDict) -> dict[str, Tensor]:
        """Targets of a batch. All anchors of a frame without detection loss are ignored."""
        targets = self.assign_targets(batch_dict["gt_boxes"])
        if LOSS_FRAMES in batch_dict:
            labels = targets["box_cls_labels"]
            is_left_out = ~batch_dict[LOSS_FRAMES][:, None]
            targets["box_cls_labels"] = labels.masked_fill(is_left_out, IGNORED)
        return targets

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log."""
        losses = {"rpn_loss_cls": self.get_cls_layer_loss()}
        losses.update(self.get_box_reg_layer_loss())
        return sum_losses(losses, total="rpn_loss")

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all anchors that are not ignored."""
        labels = self.forward_ret_dict["box_cls_labels"]
        logits = at_least_float32(self.forward_ret_dict["cls_preds"])
        logits = logits.reshape(*labels.shape, self.num_class)
        weights = self.anchor_weights(labels)
        classes = torch.arange(1, self.num_class + 1, device=labels.device, dtype=labels.dtype)
        target = one_hot_labels(self.predicted_labels(labels), classes, logits.dtype)
        loss = self.cls_loss_func(logits, target, weights=weights)
        return loss.sum() / len(labels) * self.loss_weights["cls_weight"]

    def predicted_labels(self, labels: Tensor) -> Tensor:
        """Labels (B, A) as the head predicts them: class 1 for all objects if it has one class."""
        if self.num_class == 1:
            return torch.where(labels > 0, 1, labels)
        return labels

    def anchor_weights(self, labels: Tensor) -> Tensor:
        """Weights (B, A) in the class loss: zero for ignored anchors.

        The focal loss of a frame is divided by its positive anchors (RetinaNet, ICCV 2017). Almost
        all anchors are easy background with a loss near zero, so their number is no measure of how
        much there is to learn.
        """
        num_positive = (labels > 0).sum(dim=1, keepdim=True)
        return (labels >= 0) / num_positive.clamp_min(1)

    def get_box_reg_layer_loss(self) -> dict[str, Tensor]:
        """Loss of the box codes and, where directions are classified, of their bins.

        Only positive anchors have a box to learn. OpenPCDet computes the loss of all anchors and
        multiplies it by weights that are mostly zero; selecting the positive ones is much faster.
        """
        labels = self.forward_ret_dict["box_cls_labels"]
        positive = labels > 0
        frame, anchor = torch.nonzero(positive, as_tuple=True)
        weight_of_frame = 1 / positive.sum(dim=1).clamp_min(1)
        weights = weight_of_frame[frame]
        targets = self.forward_ret_dict["box_reg_targets"][frame, anchor]
        codes = self._of_positives("box_preds", frame, anchor, self.box_coder.code_size)
        loss = self.reg_loss_func(*self.heading_terms(codes, targets), weights=weights)
        losses = {"rpn_loss_loc": loss.sum() / len(labels) * self.loss_weights["loc_weight"]}
        if self.directions is not None:
            logits = self._of_positives("dir_cls_preds", frame, anchor, self.directions.count)
            bins = self.get_direction_target(self.flat_anchors[anchor], targets)
            loss = self.dir_loss_func(logits, bins, weights=weights)
            losses["rpn_loss_dir"] = loss.sum() / len(labels) * self.loss_weights["dir_weight"]
        return losses

    def _of_positives(self, key: str, frame: Tensor, anchor: Tensor, width: int) -> Tensor:
        """Rows (K, width) of the prediction ``key``, at indices frame (K,) and anchor (K,)."""
        prediction = self.forward_ret_dict[key]
        by_anchor = prediction.reshape(len(prediction), -1, width)
        return at_least_float32(by_anchor[frame, anchor])

    def heading_terms(self, codes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and targets (K, code_size) in the form whose difference is the loss."""
        return self.add_sin_difference(codes, targets)

    @staticmethod
    def add_sin_difference(
        codes: Tensor, targets: Tensor, dim: int = HEADING
    ) -> tuple[Tensor, Tensor]:
        """Replace two headings by terms whose difference is the sine of the headings' difference.

        sin(a - b) = sin(a) cos(b) - cos(a) sin(b). A plain difference would punish headings that
        are off by a full circle, or by half a circle, where the box covers the same volume.
        """
        heading = codes[..., dim : dim + 1]
        target = targets[..., dim : dim + 1]
        first = torch.sin(heading) * torch.cos(target)
        second = torch.cos(heading) * torch.sin(target)
        return (
            torch.cat([codes[..., :dim], first, codes[..., dim + 1 :]], dim=-1),
            torch.cat([targets[..., :dim], second, targets[..., dim + 1 :]], dim=-1),
        )

    def get_direction_target(self, anchors: Tensor, reg_targets: Tensor) -> Tensor:
        """One-hot bins (K, bins) of the headings that targets (K, codes) to anchors (K, 7) mean."""
        assert self.directions is not None
        index = self.directions.bin_of(reg_targets[:, HEADING] + anchors[:, HEADING])
        return nn.functional.one_hot(index, self.directions.count).to(reg_targets.dtype)

    def generate_predicted_boxes(
        self,
        batch_size: int,
        cls_preds: Tensor,
        box_preds: Tensor,
        dir_cls_preds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, A, num_class) and boxes (B, A, 7 + C) of predictions (B, ny, nx, channels)."""
        logits = at_least_float32(cls_preds).reshape(batch_size, len(self.flat_anchors), -1)
        return logits, self.decode_boxes(batch_size, box_preds, dir_cls_preds)

    def decode_boxes(
        self, batch_size: int, box_preds: Tensor, dir_cls_preds: Tensor | None = None
    ) -> Tensor:
        """Boxes (B, A, 7 + C) of codes and direction logits, in the order of ``flat_anchors``."""
        anchors = self.flat_anchors
        codes = at_least_float32(box_preds).reshape(batch_size, len(anchors), -1)
        boxes = self.box_coder.decode_torch(codes, anchors)
        if self.directions is None or dir_cls_preds is None:
            return boxes
        direction_logits = dir_cls_preds.reshape(batch_size, len(anchors), -1)
        boxes[..., HEADING] = self.directions.correct(boxes[..., HEADING], direction_logits)
        return boxes


def init_class_bias(convolution: nn.Conv2d) -> None:
    """Set the bias of a class convolution to the logit of the initial foreground probability."""
    assert convolution.bias is not None
    odds = (1 - INITIAL_FOREGROUND_PROBABILITY) / INITIAL_FOREGROUND_PROBABILITY
    nn.init.constant_(convolution.bias, -log(odds))
