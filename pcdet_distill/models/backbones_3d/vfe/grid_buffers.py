"""The grid by which an encoder groups points inside the model, where points and weights are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ....errors import ConfigError


def add_grid_buffers(
    encoder: nn.Module,
    subject: str,
    voxel_size: Sequence[float] | None,
    grid_size: Sequence[int] | None,
    point_cloud_range: Sequence[float],
) -> list[int]:
    """Give an encoder the buffers ``voxel_size`` (3,) and ``origin`` (3,), in metres.

    Args:
        encoder: changed.
        subject: who needs the size, with its verb, for the error.
        voxel_size: along x, y, z; None when no step of the data processor gives it.
        grid_size: voxels along x, y, z.
        point_cloud_range: metres; x, y, z minimum, then maximum.

    Returns:
        The number of voxels along x, y, z.
    """
    if voxel_size is None or grid_size is None:
        raise ConfigError(
            f"MODEL.VFE: {subject} the VOXEL_SIZE of a step of DATA_CONFIG.DATA_PROCESSOR; "
            "transform_points_to_voxels_placeholder gives it without grouping points twice"
        )
    size = torch.tensor([float(edge) for edge in voxel_size])
    encoder.register_buffer("voxel_size", size, persistent=False)
    origin = torch.tensor([float(limit) for limit in point_cloud_range[:3]])
    encoder.register_buffer("origin", origin, persistent=False)
    return [int(cells) for cells in grid_size]
