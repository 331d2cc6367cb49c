"""SparseConvTensor: features at the active cells of a grid, with the rulebooks computed so far.

Its attributes and methods are those of spconv 2's class of the same name, as far as detectors use
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .rulebook import ConvolutionRecord, cell_keys


class SparseConvTensor:
    """N active cells of a 2D or 3D grid, in B frames.

    Args:
        features: (N, C).
        indices: (N, 4) int32 batch, z, y, x; in 2D (N, 3) batch, y, x. No cell twice.
        spatial_shape: cells along z, y, x (2D: y, x).
        batch_size: B, which also counts frames without an active cell.
        indice_dict: records of earlier convolutions by ``indice_key``; shared by all tensors that
            are computed from one another.
    """

    def __init__(
        self,
        features: Tensor,
        indices: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        indice_dict: dict[str, ConvolutionRecord] | None = None,
    ) -> None:
        shape = [int(cells) for cells in spatial_shape]
        assert indices.dim() == 2 and indices.shape[1] == len(shape) + 1, (
            f"indices of shape {tuple(indices.shape)} for a grid of {len(shape)} axes"
        )
        assert len(features) == len(indices), (
            f"{len(features)} rows of features at {len(indices)} cells"
        )
        self.features = features
        self.indices = indices if indices.dtype == torch.int32 else indices.int()
        self.spatial_shape = shape
        self.batch_size = int(batch_size)
        self.indice_dict = {} if indice_dict is None else indice_dict

    def __repr__(self) -> str:
        return (
            f"SparseConvTensor({len(self.features)} cells x {self.features.shape[1]} channels, "
            f"spatial_shape={self.spatial_shape}, batch_size={self.batch_size})"
        )

    @property
    def spatial_size(self) -> int:
        """Cells of one frame's grid."""
        return int(torch.Size(self.spatial_shape).numel())

    def replace_feature(self, features: Tensor) -> SparseConvTensor:
        """The same cells with other features (N, C')."""
        return SparseConvTensor(
            features, self.indices, self.spatial_shape, self.batch_size, self.indice_dict
        )

    def find_indice_pair(self, key: str | None) -> ConvolutionRecord | None:
        """The record of the convolution with this ``indice_key``, or None."""
        return None if key is None else self.indice_dict.get(key)

    def dense(self, channels_first: bool = True) -> Tensor:
        """(B, C, z, y, x), or (B, z, y, x, C); cells that are not active are zero."""
        channels = self.features.shape[1]
        rows = cell_keys(self.indices, self.spatial_shape)
        canvas = self.features.new_zeros(self.batch_size * self.spatial_size, channels)
        canvas = canvas.index_copy(0, rows, self.features)
        canvas = canvas.view(self.batch_size, *self.spatial_shape, channels)
        return canvas.movedim(-1, 1).contiguous() if channels_first else canvas
