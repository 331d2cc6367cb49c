"""Voxel feature encoders: the slot ``vfe``, from points to one row of features per voxel."""

from __future__ import annotations

from torch import nn

from .dynamic_mean_vfe import DynamicMeanVFE
from .dynamic_pillar_vfe import DynamicPillarVFE, DynamicPillarVFESimple2D
from .mean_vfe import MeanVFE
from .pillar_vfe import PillarVFE

# OpenPCDet has a short and a long name for the two.
VFES: dict[str, type[nn.Module]] = {
    "DynMeanVFE": DynamicMeanVFE,
    "DynamicMeanVFE": DynamicMeanVFE,
    "DynPillarVFE": DynamicPillarVFE,
    "DynamicPillarVFE": DynamicPillarVFE,
    "DynamicPillarVFESimple2D": DynamicPillarVFESimple2D,
    "MeanVFE": MeanVFE,
    "PillarVFE": PillarVFE,
}
