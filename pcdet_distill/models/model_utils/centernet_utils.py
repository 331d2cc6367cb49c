"""Centre heatmaps: how large a peak is, how peaks are drawn, and which cells score highest.

CornerNet (Law and Deng, ECCV 2018) has the radius, CenterNet (Zhou et al., 2019) the heatmap, CenterPoint (Yin et al.,
CVPR 2021) both on the bird's eye view.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def gaussian_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """How far (G,) a centre may be off while its box still overlaps the true one of (G,) length, width by min_overlap.

    The smallest of CornerNet's three cases: corners both outside, both inside, one of each. As in its code, and in all
    that followed it, the roots are divided by 2 whatever the leading coefficient is; trained models expect that.
    """
    area, half_perimeter = length * width, length + width
    cases = (
        (1.0, half_perimeter, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * half_perimeter, (1 - min_overlap) * area),
        (4 * min_overlap, -2 * min_overlap * half_perimeter, (min_overlap - 1) * area),
    )
    roots = [(b + (b.square() - 4 * a * c).sqrt()) / 2 for a, b, c in cases]
    return torch.stack(roots).amin(dim=0)


def draw_peaks(heatmaps: Tensor, planes: Tensor, cells: Tensor, radii: Tensor) -> Tensor:
    """Heatmaps with a Gaussian peak of height 1 for each of G centres; where peaks meet the higher value stays.

    Args:
        heatmaps: (P, H, W).
        planes: (G,) long, which heatmap.
        cells: (G, 2) long, x and y of the centre.
        radii: (G,) long, cells from the centre to where the peak ends; a sixth of its width is one sigma.
    """
    if len(cells) == 0:
        return heatmaps
    count, height, width = heatmaps.shape
    reach = int(radii.max())
    steps = torch.arange(-reach, reach + 1, device=heatmaps.device)
    x, y = cells[:, 0, None, None] + steps, cells[:, 1, None, None] + steps[:, None]
    x, y = torch.broadcast_tensors(x, y)
    sigma = (2 * radii + 1).to(heatmaps.dtype)[:, None, None] / 6
    value = torch.exp(-(steps.square() + steps[:, None].square()) / (2 * sigma.square()))
    near = steps.abs() <= radii[:, None]
    drawn = near[:, None, :] & near[:, :, None] & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = (planes[:, None, None] * height + y) * width + x
    flat = heatmaps.reshape(-1).scatter_reduce(
        0, index[drawn], value[drawn].to(heatmaps.dtype), "amax"
    )
    return flat.view(count, height, width)


class TopCells(NamedTuple):
    """The K best cells of each frame: scores (B, K), classes from 0 (B, K), cells (B, K) as y * W + x."""

    scores: Tensor
    classes: Tensor
    cells: Tensor


def top_cells(scores: Tensor, count: int) -> TopCells:
    """The ``count`` highest of scores (B, C, H, W) in each frame, all classes together; fewer when there are fewer."""
    cells_per_class = scores.shape[2] * scores.shape[3]
    flat = scores.flatten(1)
    best, index = flat.topk(min(count, flat.shape[1]), dim=1)
    return TopCells(
        best, torch.div(index, cells_per_class, rounding_mode="floor"), index % cells_per_class
    )


def gather_cells(feature_map: Tensor, cells: Tensor) -> Tensor:
    """Columns of (B, C, H, W) at cells (B, K), y * W + x: (B, K, C)."""
    flat = feature_map.flatten(2)
    return flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).transpose(1, 2)
