"""Heads on the bird's eye view and on points: the slots ``dense_head`` and ``point_head``."""
from __future__ import annotations

from torch import nn

from .anchor_head_single import AnchorHeadSingle

DENSE_HEADS: dict[str, type[nn.Module]] = {
    "AnchorHeadSingle": AnchorHeadSingle,
}
POINT_HEADS: dict[str, type[nn.Module]] = {}
