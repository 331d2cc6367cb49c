"""A batch through a network: the one way of evaluation, export, demo and ``Detector``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..models import load_data_to_device
from ..types import BatchDict

# Of each frame OpenPCDet's dict of final boxes, and the counts of recalled labels.
Predictions: TypeAlias = tuple[list[dict[str, Tensor]], Mapping[str, int]]


def predict_batch(model: nn.Module, batch: BatchDict, device: torch.device) -> Predictions:
    """The final boxes of every frame, and recall counts where the batch has labels.

    Args:
        model: a detector in eval mode, on ``device``.
        batch: a collated batch; its arrays become tensors on ``device``, in place.
    """
    load_data_to_device(batch, device)
    with torch.no_grad():
        return model(batch)
