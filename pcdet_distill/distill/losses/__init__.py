"""The distillation losses, by the NAME a yaml file gives them."""
from __future__ import annotations

from .base import DistillLoss
from .graph import GraphDistillLoss, GraphOptions

DISTILL_LOSSES: dict[str, type[DistillLoss]] = {
    "GraphDistillLoss": GraphDistillLoss,
}

__all__ = ["DISTILL_LOSSES", "DistillLoss", "GraphDistillLoss", "GraphOptions"]
