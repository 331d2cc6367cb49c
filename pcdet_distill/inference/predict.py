"""A batch through a network: the one way of evaluation, export, demo and ``Detector``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..models import load_data_to_device
from ..models.device import memory_explained
from ..types import BatchDict

# Of each frame OpenPCDet's dict of final boxes, and the counts of recalled labels.
Predictions: TypeAlias = tuple[list[dict[str, Tensor]], Mapping[str, Tensor | int]]
REMEDY = "lower --batch_size (of a Detector: batch_size)"
WITHOUT_VELOCITY = 7
WITH_VELOCITY = 9


def predict_batch(model: nn.Module, batch: BatchDict, device: torch.device) -> Predictions:
    """The final boxes of every frame, and recall counts where the batch has labels.

    Args:
        model: a detector in eval mode, on ``device``.
        batch: a collated batch; its arrays become tensors on ``device``, in place.
    """
    frames = int(batch.get("batch_size", 1))
    with torch.no_grad(), memory_explained("prediction", frames, device, REMEDY):
        load_data_to_device(batch, device)
        return model(batch)


def box_width(model: nn.Module) -> int:
    """Columns of the final boxes: 7, or 9 with velocities."""
    heads = [getattr(model, slot, None) for slot in ("roi_head", "dense_head", "point_head")]
    head = next((head for head in heads if head is not None), None)
    code_names = getattr(head, "code_names", None)
    if code_names is not None:
        return WITH_VELOCITY if "vel" in code_names else WITHOUT_VELOCITY
    return getattr(getattr(head, "box_coder", None), "box_size", WITHOUT_VELOCITY)
