"""Backbones on the bird's eye view: the slot ``backbone_2d``."""

from __future__ import annotations

from torch import nn

from .base_bev_backbone import BaseBEVBackbone, BaseBEVBackboneV1

BACKBONES_2D: dict[str, type[nn.Module]] = {
    "BaseBEVBackbone": BaseBEVBackbone,
    "BaseBEVBackboneV1": BaseBEVBackboneV1,
}
