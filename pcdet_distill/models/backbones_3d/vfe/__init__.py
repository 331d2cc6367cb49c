"""Voxel feature encoders: the slot ``vfe``, from points to one row of features per voxel."""

from __future__ import annotations

from torch import nn

from .dynamic_pillar_vfe import DynamicPillarVFE, DynamicPillarVFESimple2D
from .mean_vfe import MeanVFE
from .pillar_vfe import PillarVFE

VFES: dict[str, type[nn.Module]] = {
    "DynamicPillarVFE": DynamicPillarVFE,
    "DynamicPillarVFESimple2D": DynamicPillarVFESimple2D,
    "MeanVFE": MeanVFE,
    "PillarVFE": PillarVFE,
}
