"""Point feature encoders from several sources: the slot ``pfe``."""

from __future__ import annotations

from torch import nn

from .voxel_set_abstraction import VoxelSetAbstraction

PFES: dict[str, type[nn.Module]] = {
    "VoxelSetAbstraction": VoxelSetAbstraction,
}
