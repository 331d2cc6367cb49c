"""Points in boxes: which box holds a point, which points a box holds.

The cosines and sines of the headings come from PyTorch, so that they are those of the plain forms.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...points import DEVICE_MARGIN_M
from . import EXACT
from .common import append_members

POINTS = 256  # of a program
BOXES = 8
ROI_TILE = 1024


@triton.jit
def _field(boxes, box, number: tl.constexpr, exists):
    """One of the 8 numbers of boxes; see ``_prepared``."""
    return tl.load(boxes + box * 8 + number, mask=exists, other=0.0)


@triton.jit
def _holds(boxes, box, exists, x, y, z):
    """Whether boxes hold points; both broadcast. Heights are inclusive, x and y are strict."""
    dx = x - _field(boxes, box, 0, exists)
    dy = y - _field(boxes, box, 1, exists)
    dz = z - _field(boxes, box, 2, exists)
    cos = _field(boxes, box, 6, exists)
    sin = _field(boxes, box, 7, exists)
    within_x = tl.abs(dx * cos + dy * sin) < _field(boxes, box, 3, exists)
    within_y = tl.abs(dy * cos - dx * sin) < _field(boxes, box, 4, exists)
    return within_x & within_y & (tl.abs(dz) <= _field(boxes, box, 5, exists)) & exists


@triton.jit
def _mask_kernel(
    points, boxes, mask, num_points, num_boxes, POINTS: tl.constexpr, BOXES: tl.constexpr
):
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)[None, :]
    box = tl.program_id(1).to(tl.int64) * BOXES + tl.arange(0, BOXES)[:, None]
    is_point = point < num_points
    x = tl.load(points + point * 3, mask=is_point, other=0.0)
    y = tl.load(points + point * 3 + 1, mask=is_point, other=0.0)
    z = tl.load(points + point * 3 + 2, mask=is_point, other=0.0)
    inside = _holds(boxes, box, box < num_boxes, x, y, z)
    wanted = is_point & (box < num_boxes)
    tl.store(mask + box * num_points + point, inside.to(tl.int8), mask=wanted)


@triton.jit
def _first_box_kernel(points, boxes, first_box, num_points, num_boxes, POINTS: tl.constexpr):
    frame = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    is_point = point < num_points
    at = points + (frame * num_points + point) * 3
    x = tl.load(at, mask=is_point, other=0.0)
    y = tl.load(at + 1, mask=is_point, other=0.0)
    z = tl.load(at + 2, mask=is_point, other=0.0)
    found = tl.full([POINTS], -1, tl.int64)
    for number in range(0, num_boxes):
        # From the last box to the first, so that the first one stays.
        box = num_boxes - 1 - number
        inside = _holds(boxes, frame * num_boxes + box, box >= 0, x, y, z)
        found = tl.where(inside, box, found)
    tl.store(first_box + frame * num_points + point, found, mask=is_point)


@triton.jit
def _roi_kernel(points, boxes, rows, found, num_points, num_boxes, limit, TILE: tl.constexpr):
    frame = tl.program_id(1).to(tl.int64)
    box = frame * num_boxes + tl.program_id(0) + tl.zeros([1], tl.int64)
    exists = box >= 0
    count = tl.zeros([1], tl.int32)
    start = tl.zeros([], tl.int64)
    while (start < num_points) & (tl.max(count, axis=0) < limit):
        point = start + tl.arange(0, TILE)[None, :]
        is_point = point < num_points
        at = points + (frame * num_points + point) * 3
        x = tl.load(at, mask=is_point, other=0.0)
        y = tl.load(at + 1, mask=is_point, other=0.0)
        z = tl.load(at + 2, mask=is_point, other=0.0)
        inside = _holds(boxes, box[:, None], exists[:, None], x, y, z) & is_point
        if tl.max(tl.max(inside.to(tl.int32), axis=1), axis=0) > 0:
            count = append_members(inside, point, count, rows + box * limit, limit)
        start += TILE
    tl.store(found + box, count.to(tl.int64))


def _prepared(boxes: Tensor) -> Tensor:
    """What the kernels need of boxes (..., 7+): (..., 8) float32, contiguous.

    x, y, z, half sizes (those from above with the margin), cosine and sine of the heading.
    """
    boxes = boxes.detach()[..., :7].float()
    half = boxes[..., 3:6] / 2
    heading = boxes[..., 6:7]
    sides = half[..., :2] + DEVICE_MARGIN_M
    parts = [boxes[..., :3], sides, half[..., 2:], torch.cos(heading), torch.sin(heading)]
    return torch.cat(parts, dim=-1)


def _places(points: Tensor) -> Tensor:
    """Coordinates (..., 3) float32 of points (..., 3+), contiguous."""
    return points.detach()[..., :3].float().contiguous()


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Mask (T, N) bool of points (N, 3+) in boxes (T, 7+)."""
    mask = torch.empty((len(boxes), len(points)), dtype=torch.bool, device=points.device)
    if mask.numel() == 0:
        return mask
    grid = (triton.cdiv(len(points), POINTS), triton.cdiv(len(boxes), BOXES))
    _mask_kernel[grid](
        _places(points),
        _prepared(boxes),
        mask.view(torch.int8),
        len(points),
        len(boxes),
        POINTS=POINTS,
        BOXES=BOXES,
        **EXACT,
    )
    return mask


def first_box(points: Tensor, boxes: Tensor) -> Tensor:
    """Index (B, N) int64 of the first of boxes (B, T, 7+) that holds each of points (B, N, 3+).

    -1 where none does.
    """
    frames, num_points = points.shape[:2]
    found = torch.empty((frames, num_points), dtype=torch.int64, device=points.device)
    if found.numel() == 0:
        return found
    _first_box_kernel[(triton.cdiv(num_points, POINTS), frames)](
        _places(points),
        _prepared(boxes),
        found,
        num_points,
        boxes.shape[1],
        POINTS=POINTS,
        **EXACT,
    )
    return found


def first_members(points: Tensor, boxes: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The first points (B, N, 3+) inside each of boxes (B, T, 7+), in the order of their rows.

    Returns:
        rows (B, T, limit) int64, unused places 0; how many were found (B, T) int64, at most
        ``limit``.
    """
    frames, num_boxes = boxes.shape[:2]
    device = points.device
    rows = torch.zeros((frames, num_boxes, limit), dtype=torch.int64, device=device)
    found = torch.zeros((frames, num_boxes), dtype=torch.int64, device=device)
    if rows.numel() == 0:
        return rows, found
    _roi_kernel[(num_boxes, frames)](
        _places(points),
        _prepared(boxes),
        rows,
        found,
        points.shape[1],
        num_boxes,
        limit,
        TILE=ROI_TILE,
        **EXACT,
    )
    return rows, found
