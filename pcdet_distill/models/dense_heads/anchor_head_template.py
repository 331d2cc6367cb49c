"""What anchor heads share: anchors, targets, losses and the decoding of boxes (SECOND, Sensors 2018).

The three losses: focal loss of the classes, smooth L1 of the box codes with the heading as sin(a - b), cross entropy of
the direction bins. Each frame is normalised by its number of positive anchors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...config import lookup, required
from ...errors import ConfigError
from ..model_utils.box_coders import ANCHOR_BOX_CODERS
from ..model_utils.losses import (
    REGRESSION_LOSSES,
    SigmoidFocalClassificationLoss,
    WeightedCrossEntropyLoss,
)
from ..model_utils.precision import at_least_float32
from .anchor_generator import AnchorGenerator
from .detection_head import DetectionHead
from .direction_bins import DirectionBins
from .target_assigner import TARGET_ASSIGNERS

WHERE = "MODEL.DENSE_HEAD"


class AnchorHeadTemplate(DetectionHead):
    """Base of the anchor heads; a subclass predicts and fills ``forward_ret_dict``."""

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_class: int,
        class_names: Sequence[str],
        grid_size: Sequence[int],
        point_cloud_range: Sequence[float],
        predict_boxes_when_training: bool,
    ) -> None:
        super().__init__(model_cfg, num_class, predict_boxes_when_training)
        self.class_names = list(class_names)
        self.directions = DirectionBins.from_config(model_cfg, WHERE)
        settings = required(model_cfg, "TARGET_ASSIGNER_CONFIG", WHERE)
        where = f"{WHERE}.TARGET_ASSIGNER_CONFIG"
        coder = lookup(
            ANCHOR_BOX_CODERS, required(settings, "BOX_CODER", where), f"{where}.BOX_CODER"
        )
        self.box_coder = coder(**settings.get("BOX_CODER_CONFIG", {}))
        assigner = lookup(TARGET_ASSIGNERS, required(settings, "NAME", where), f"{where}.NAME")
        self.target_assigner = assigner(
            model_cfg,
            self.class_names,
            self.box_coder,
            match_height=settings.get("MATCH_HEIGHT", False),
        )
        self._build_anchors(grid_size, point_cloud_range)
        self._build_losses(required(model_cfg, "LOSS_CONFIG", WHERE))

    @property
    def anchors(self) -> list[Tensor]:
        """Per class (1, ny, nx, sizes, rotations, box_size), on the device of the head."""
        return [
            getattr(self, f"anchors_{number}")
            for number in range(len(self.num_anchors_per_location))
        ]

    @property
    def anchor_class_names(self) -> tuple[str, ...]:
        """Class of each entry of ``anchors``."""
        return tuple(entry["class_name"] for entry in self.model_cfg["ANCHOR_GENERATOR_CONFIG"])

    def anchor_classes(self) -> Tensor:
        """(A,) int64 on the CPU: the class of each of ``flat_anchors``, an index of ``anchor_class_names``."""
        by_class = [
            torch.full((*grid.shape[:-1], 1), number) for number, grid in enumerate(self.anchors)
        ]
        return self.in_order_of_predictions(by_class).flatten()

    def in_order_of_predictions(self, grids: Sequence[Tensor]) -> Tensor:
        """Rows (A, width) of per class (1, ny, nx, sizes, rotations, width), as the predictions are ordered.

        Cell by cell; within a cell by class, size and rotation.
        """
        return torch.cat(list(grids), dim=-3).reshape(-1, grids[0].shape[-1])

    def _build_anchors(self, grid_size: Sequence[int], point_cloud_range: Sequence[float]) -> None:
        """Anchors as buffers: they move with the head, and are no part of its state_dict."""
        generators = required(self.model_cfg, "ANCHOR_GENERATOR_CONFIG", WHERE)
        strides = [
            required(entry, "feature_map_stride", f"{WHERE}.ANCHOR_GENERATOR_CONFIG")
            for entry in generators
        ]
        maps = [[int(cells) // stride for cells in grid_size[:2]] for stride in strides]
        grids, self.num_anchors_per_location = AnchorGenerator(
            point_cloud_range, generators
        ).generate_anchors(maps)
        self.feature_map_size = maps[0]
        further = self.box_coder.box_size - 7
        for number, grid in enumerate(grids):
            self.register_buffer(
                f"anchors_{number}", nn.functional.pad(grid, (0, further)), persistent=False
            )
        self.flat_anchors: Tensor
        flat_anchors = self.in_order_of_predictions(self.anchors)
        self.register_buffer("flat_anchors", flat_anchors, persistent=False)

    def _build_losses(self, losses_cfg: Mapping[str, Any]) -> None:
        self.loss_weights = required(losses_cfg, "LOSS_WEIGHTS", f"{WHERE}.LOSS_CONFIG")
        self.cls_loss_func = SigmoidFocalClassificationLoss(alpha=0.25, gamma=2.0)
        name = losses_cfg.get("REG_LOSS_TYPE") or "WeightedSmoothL1Loss"
        regression = lookup(REGRESSION_LOSSES, name, f"{WHERE}.LOSS_CONFIG.REG_LOSS_TYPE")
        self.reg_loss_func = regression(code_weights=self.loss_weights["code_weights"])
        self.dir_loss_func = WeightedCrossEntropyLoss()

    def check_map_size(self, width: int, height: int) -> None:
        """The anchors must stand on the cells of the feature map."""
        if [width, height] != self.feature_map_size:
            nx, ny = self.feature_map_size
            raise ConfigError(
                f"{WHERE}.ANCHOR_GENERATOR_CONFIG: feature_map_stride puts anchors on {nx} x {ny} cells, "
                f"but the feature map has {width} x {height}; make the stride that of MODEL.BACKBONE_2D"
            )

    def assign_targets(self, gt_boxes: Tensor) -> dict[str, Tensor]:
        """Targets for gt_boxes (B, G, 7 + C + 1)."""
        return self.target_assigner.assign_targets(self.anchors, gt_boxes)

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses of the last forward, and each of them for the log, still on its device."""
        losses = {"rpn_loss_cls": self.get_cls_layer_loss(), **self.get_box_reg_layer_loss()}
        total = torch.stack(list(losses.values())).sum()
        return total, {
            name: value.detach() for name, value in {**losses, "rpn_loss": total}.items()
        }

    def get_cls_layer_loss(self) -> Tensor:
        """Focal loss over all anchors that are not ignored."""
        labels = self.forward_ret_dict["box_cls_labels"]
        logits = at_least_float32(self.forward_ret_dict["cls_preds"]).reshape(
            *labels.shape, self.num_class
        )
        positive = labels > 0
        if self.num_class == 1:
            labels = torch.where(positive, 1, labels)
        weights = (labels >= 0) / positive.sum(dim=1, keepdim=True).clamp_min(1)
        classes = torch.arange(1, self.num_class + 1, device=labels.device, dtype=labels.dtype)
        target = (labels.unsqueeze(-1) == classes).to(logits.dtype)
        loss = self.cls_loss_func(logits, target, weights=weights)
        return loss.sum() / len(labels) * self.loss_weights["cls_weight"]

    def get_box_reg_layer_loss(self) -> dict[str, Tensor]:
        """Loss of the box codes, and of the direction where it is classified. Only positive anchors are looked at."""
        labels = self.forward_ret_dict["box_cls_labels"]
        frame, anchor = torch.nonzero(labels > 0, as_tuple=True)
        weights = (1 / (labels > 0).sum(dim=1).clamp_min(1))[frame]
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
        """Rows (K, width) of a prediction."""
        prediction = self.forward_ret_dict[key]
        return at_least_float32(prediction.reshape(len(prediction), -1, width)[frame, anchor])

    def heading_terms(self, codes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and targets (K, code_size) in the form whose difference is the loss."""
        return self.add_sin_difference(codes, targets)

    @staticmethod
    def add_sin_difference(codes: Tensor, targets: Tensor, dim: int = 6) -> tuple[Tensor, Tensor]:
        """Replace two headings by terms whose difference is the sine of theirs: sin(a)cos(b) and cos(a)sin(b)."""
        heading, target = codes[..., dim : dim + 1], targets[..., dim : dim + 1]
        first, second = (
            torch.sin(heading) * torch.cos(target),
            torch.cos(heading) * torch.sin(target),
        )
        return (
            torch.cat([codes[..., :dim], first, codes[..., dim + 1 :]], dim=-1),
            torch.cat([targets[..., :dim], second, targets[..., dim + 1 :]], dim=-1),
        )

    def get_direction_target(self, anchors: Tensor, reg_targets: Tensor) -> Tensor:
        """One-hot bin (K, bins) of the heading that the targets (K, code_size) to anchors (K, 7) stand for."""
        assert self.directions is not None
        index = self.directions.bin_of(reg_targets[:, 6] + anchors[:, 6])
        return nn.functional.one_hot(index, self.directions.count).to(reg_targets.dtype)

    def generate_predicted_boxes(
        self,
        batch_size: int,
        cls_preds: Tensor,
        box_preds: Tensor,
        dir_cls_preds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, A, num_class) and boxes (B, A, 7 + C) of predictions (B, ny, nx, anchors * ...)."""
        logits = at_least_float32(cls_preds).reshape(batch_size, len(self.flat_anchors), -1)
        return logits, self.decode_boxes(batch_size, box_preds, dir_cls_preds)

    def decode_boxes(
        self, batch_size: int, box_preds: Tensor, dir_cls_preds: Tensor | None = None
    ) -> Tensor:
        """Boxes (B, A, 7 + C) of codes, and direction logits, in the order of ``flat_anchors``."""
        anchors = self.flat_anchors
        codes = at_least_float32(box_preds).reshape(batch_size, len(anchors), -1)
        boxes = self.box_coder.decode_torch(codes, anchors)
        if self.directions is None or dir_cls_preds is None:
            return boxes
        directions = dir_cls_preds.reshape(batch_size, len(anchors), -1)
        boxes[..., 6] = self.directions.correct(boxes[..., 6], directions)
        return boxes
