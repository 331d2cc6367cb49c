"""Labelled boxes of a batch."""

from __future__ import annotations

from torch import Tensor


def without_padding(boxes: Tensor) -> Tensor:
    """The labelled boxes (G', 7 + C + 1) of one frame, from its rows of ``gt_boxes``.

    The frames of a batch have different numbers of boxes. OpenPCDet fills the shorter ones up with
    rows of zeros.
    """
    return boxes[boxes.ne(0).any(dim=1)]
