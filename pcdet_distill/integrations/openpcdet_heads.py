"""Raw predictions of OpenPCDet's heads: AnchorHeadSingle can be read, others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..distill import DISTILL_LOSSES, PredictionLoss
from ..distill.tap_source import own_layout
from ..errors import ConfigError
from ..models.dense_heads.direction_bins import DirectionBins
from ..models.dense_heads.prediction_layout import AnchorLayout, PredictionLayout
from ..types import ConfigDict

READABLE_HEAD = "AnchorHeadSingle"


def head_layout(head: nn.Module) -> PredictionLayout | None:
    """The layout of a head's predictions; heads of this package publish their own."""
    if _is_of_openpcdet(type(head)) and type(head).__name__ == READABLE_HEAD:
        return _anchor_layout(head)
    return own_layout(head)


def refuse_unreadable_heads(
    terms: Mapping[str, ConfigDict], student: nn.Module, teacher: nn.Module
) -> None:
    """Refuse losses that compare predictions of another head of OpenPCDet."""
    models = {"STUDENT": student, "TEACHER": teacher}
    for name, term in terms.items():
        if not _compares_predictions(term):
            continue
        for key, model in models.items():
            head = type(getattr(model, str(term.get(key)), None))
            if _is_of_openpcdet(head) and head.__name__ != READABLE_HEAD:
                raise ConfigError(
                    f"DISTILL.TERMS.{name}.{key}: predictions of OpenPCDet's {head.__name__} "
                    f"cannot be read, those of {READABLE_HEAD} can; compare features, or use "
                    "TeacherLabels"
                )


def _is_of_openpcdet(head: type) -> bool:
    return head.__module__.split(".")[0] == "pcdet"


def _compares_predictions(term: object) -> bool:
    if not isinstance(term, Mapping):
        return False
    loss = DISTILL_LOSSES.get(str(term.get("NAME")))
    return loss is not None and issubclass(loss, PredictionLoss)


def _anchor_layout(head: Any) -> AnchorLayout:
    """The layout of OpenPCDet's AnchorHeadSingle.

    Its ``anchors`` are one grid (1, ny, nx, sizes, rotations, 7 + C) for each class. The
    convolutions predict all anchors of a cell together. So the rows are ordered by cell, then by
    class, size and rotation.
    """
    modules = ["conv_cls", "conv_box"]
    directions = None
    if head.conv_dir_cls is not None:
        modules.append("conv_dir_cls")
        directions = DirectionBins.from_config(head.model_cfg, "MODEL.DENSE_HEAD")
    grids = head.anchors
    class_grids = [torch.full((*grid.shape[:-1], 1), number) for number, grid in enumerate(grids)]
    generators = head.model_cfg["ANCHOR_GENERATOR_CONFIG"]
    return AnchorLayout(
        modules=tuple(modules),
        num_class=head.num_class,
        anchors=torch.cat(grids, dim=-3).reshape(-1, grids[0].shape[-1]),
        anchor_classes=torch.cat(class_grids, dim=-3).flatten(),
        class_names=tuple(generator["class_name"] for generator in generators),
        box_coder=head.box_coder,
        directions=directions,
    )
