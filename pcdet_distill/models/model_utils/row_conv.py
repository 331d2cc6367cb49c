"""Convolutions of width 1 on rows: the parameters of a Conv1d, the work of a linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RowConv1d(nn.Conv1d):
    """A linear layer per group on rows (R, C_in) with the parameters of a Conv1d of width 1.

    OpenPCDet's checkpoints have such convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, groups=groups, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C_in) -> (R, C_out)."""
        matrix = self.weight[:, :, 0]
        if self.groups == 1:
            return F.linear(rows, matrix)
        rows_by_group = rows.unflatten(1, (self.groups, -1)).transpose(0, 1)
        matrix_by_group = matrix.unflatten(0, (self.groups, -1)).transpose(1, 2)
        return torch.bmm(rows_by_group, matrix_by_group).transpose(0, 1).flatten(1)
