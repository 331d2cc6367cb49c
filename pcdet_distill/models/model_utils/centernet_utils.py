"""Centre heatmaps: the radius of a peak, drawing peaks, and the cells with the highest scores.

The radius is from CornerNet (Law and Deng, ECCV 2018), the heatmap from CenterNet (Zhou et al.,
2019). CenterPoint (Yin et al., CVPR 2021) uses both on the bird's eye view.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def gaussian_radius(length: Tensor, width: Tensor, min_overlap: float) -> Tensor:
    """The error (G,) of a centre at which its box still has IoU ``min_overlap`` with the true one.

    Each of CornerNet's three cases (corners both outside, both inside, one of each) is a quadratic
    equation; the smallest root counts. CornerNet's code divides every root by 2 instead of by 2 a.
    That is an error for a != 1, but trained models expect it, and OpenPCDet has it too.

    Args:
        length, width: of the boxes, (G,) in cells.
        min_overlap: the IoU.
    """
    area = length * width
    half_perimeter = length + width
    cases = (
        (1.0, half_perimeter, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * half_perimeter, (1 - min_overlap) * area),
        (4 * min_overlap, -2 * min_overlap * half_perimeter, (min_overlap - 1) * area),
    )
    roots = []
    for a, b, c in cases:
        discriminant = b.square() - 4 * a * c
        roots.append((b + discriminant.sqrt()) / 2)
    return torch.stack(roots).amin(dim=0)


def draw_peaks(heatmaps: Tensor, planes: Tensor, cells: Tensor, radii: Tensor) -> Tensor:
    """Heatmaps with a Gaussian peak of height 1 at each of G centres.

    Where peaks overlap, a cell has the larger value.

    All peaks are drawn at once, in windows of the largest radius.

    Args:
        heatmaps: (P, H, W).
        planes: (G,) long, the heatmap of each centre.
        cells: (G, 2) long, x and y of the centre.
        radii: (G,) long, cells from the centre to the end of the peak; sigma is a sixth of its
            width.
    """
    if len(cells) == 0:
        return heatmaps
    count, height, width = heatmaps.shape
    reach = int(radii.max())
    steps = torch.arange(-reach, reach + 1, device=heatmaps.device)
    x = cells[:, 0, None, None] + steps
    y = cells[:, 1, None, None] + steps[:, None]
    x, y = torch.broadcast_tensors(x, y)
    sigma = (2 * radii + 1).to(heatmaps.dtype)[:, None, None] / 6
    value = torch.exp(-(steps.square() + steps[:, None].square()) / (2 * sigma.square()))
    is_near = steps.abs() <= radii[:, None]
    is_in_peak = is_near[:, None, :] & is_near[:, :, None]
    is_on_map = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # Cells that are not drawn take part with no height: to leave them out, the host would have to
    # wait for their number. Each keeps a place of its own, since writes to one place queue up.
    value = value.masked_fill(~(is_in_peak & is_on_map), -torch.inf).to(heatmaps.dtype)
    place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    index = planes[:, None, None] * height * width + place
    flat = heatmaps.reshape(-1).scatter_reduce(0, index.flatten(), value.flatten(), "amax")
    return flat.view(count, height, width)


class TopCells(NamedTuple):
    """The K best cells of each frame.

    Attributes:
        scores: (B, K).
        classes: (B, K) int64, from 0.
        cells: (B, K) int64, y * W + x.
    """

    scores: Tensor
    classes: Tensor
    cells: Tensor


def top_cells(scores: Tensor, count: int) -> TopCells:
    """The ``count`` highest of scores (B, C, H, W) in each frame, over all classes together.

    Of equal scores the earlier cell comes first, as in NMS: the result depends neither on the
    device nor on the sorting algorithm.
    """
    cells_per_class = scores.shape[2] * scores.shape[3]
    flat = scores.flatten(1)
    count = min(count, flat.shape[1])
    index = _first_highest(flat, count)
    classes = torch.div(index, cells_per_class, rounding_mode="floor")
    return TopCells(flat.gather(1, index), classes, index % cells_per_class)


def _first_highest(values: Tensor, count: int) -> Tensor:
    """Places (B, count) of the highest values (B, N), by falling value, then by place."""
    if values.device.type == "cpu":
        return torch.stack([_first_highest_of_frame(frame, count) for frame in values])
    # A GPU sorts all of them faster than the host learns how many candidates there are.
    return values.sort(dim=1, descending=True, stable=True).indices[:, :count]


def _first_highest_of_frame(values: Tensor, count: int) -> Tensor:
    """``_first_highest`` of values (N,): sorts no more of them than needed."""
    lowest = values.topk(count).values[-1]
    # topk chooses freely among those that equal the lowest; here all of them take part.
    candidates = (~(values < lowest)).nonzero()[:, 0]
    order = values[candidates].sort(descending=True, stable=True).indices
    return candidates[order[:count]]


def gather_cells(feature_map: Tensor, cells: Tensor) -> Tensor:
    """Columns of (B, C, H, W) at cells (B, K), y * W + x: (B, K, C)."""
    flat = feature_map.flatten(2)
    cells_of_every_channel = cells.unsqueeze(1).expand(-1, flat.shape[1], -1)
    return flat.gather(2, cells_of_every_channel).transpose(1, 2)
