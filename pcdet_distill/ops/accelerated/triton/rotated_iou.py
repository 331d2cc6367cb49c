"""Overlaps of rotated boxes from above, and NMS without a matrix of all pairs.

One warp works on one pair at a time. Its 32 threads hold the candidates for vertices of the common
polygon: 16 crossings of edges and 8 corners. A sort needs indexing that registers do not have; so
every vertex counts how many come before it, and looks for the one with the next number.

NMS keeps one bit a pair: whether the earlier box would suppress the later one. One program then
goes through the boxes by falling score, 32 to a word.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...boxes import CORNER_MARGIN_M, MIN_UNION_BEV_M2, bev_corners, reach_m
from . import EXACT

ONE_WARP = {"num_warps": 1, **EXACT}
PAIRS = 32  # of a program; the bits of a word
MARGIN: tl.constexpr = tl.constexpr(CORNER_MARGIN_M)
MIN_UNION: tl.constexpr = tl.constexpr(MIN_UNION_BEV_M2)


@triton.jit
def _side(point_x, point_y, other_x, other_y, origin_x, origin_y):
    """Twice the signed area of the triangle (origin, point, other)."""
    to_point_x = point_x - origin_x
    to_point_y = point_y - origin_y
    to_other_x = other_x - origin_x
    to_other_y = other_y - origin_y
    return to_point_x * to_other_y - to_other_x * to_point_y


@triton.jit
def _corner(box, number):
    """Corners of a box, counterclockwise: x and y."""
    return tl.load(box + 8 + 2 * number), tl.load(box + 9 + 2 * number)


@triton.jit
def _crossings(a, b, slot):
    """Where edge ``slot // 4`` of box a crosses edge ``slot % 4`` of box b: x, y, whether.

    Two edges cross when the ends of each lie on different sides of the other.
    """
    edge_a = (slot // 4) % 4
    edge_b = slot % 4
    start_ax, start_ay = _corner(a, edge_a)
    end_ax, end_ay = _corner(a, (edge_a + 1) % 4)
    start_bx, start_by = _corner(b, edge_b)
    end_bx, end_by = _corner(b, (edge_b + 1) % 4)
    from_start = _side(start_bx, start_by, end_ax, end_ay, start_ax, start_ay)
    from_end = _side(end_ax, end_ay, end_bx, end_by, start_ax, start_ay)
    a_of_b = _side(start_ax, start_ay, end_bx, end_by, start_bx, start_by)
    b_of_a = _side(end_bx, end_by, end_ax, end_ay, start_bx, start_by)
    crosses = (from_start * from_end > 0) & (a_of_b * b_of_a > 0)
    # The crossing divides edge b in the ratio of the distances of its ends from edge a.
    weight = tl.where(crosses, from_start + from_end, 1.0)
    x = tl.div_rn(from_end * start_bx + from_start * end_bx, weight)
    y = tl.div_rn(from_end * start_by + from_start * end_by, weight)
    return x, y, crosses


@triton.jit
def _is_inside(box, x, y):
    """Whether places lie in a box enlarged by the margin."""
    dx = x - tl.load(box)
    dy = y - tl.load(box + 1)
    cos = tl.load(box + 4)
    sin = tl.load(box + 5)
    within_x = tl.abs(dx * cos + dy * sin) < tl.load(box + 2) + MARGIN
    within_y = tl.abs(dy * cos - dx * sin) < tl.load(box + 3) + MARGIN
    return within_x & within_y


@triton.jit
def _direction(dx, dy):
    """A number in [-2, 2] that grows with ``atan2(dy, dx)`` and is cheaper to compute."""
    length = tl.abs(dx) + tl.abs(dy)
    sine = tl.where(length > 0, tl.div_rn(dy, tl.where(length > 0, length, 1.0)), 0.0)
    half_turn = tl.where(dy >= 0, 2.0, -2.0)
    return tl.where(dx >= 0, sine, half_turn - sine)


@triton.jit
def _polygon_area(x, y, valid, slot):
    """Area of the polygon of the valid vertices (32,), in the order of their angles."""
    count = tl.sum(valid.to(tl.int32), axis=0)
    some = tl.maximum(count, 1).to(tl.float32)
    mean_x = tl.div_rn(tl.sum(tl.where(valid, x, 0.0), axis=0), some)
    mean_y = tl.div_rn(tl.sum(tl.where(valid, y, 0.0), axis=0), some)
    key = tl.where(valid, _direction(x - mean_x, y - mean_y), 4.0)
    # Invalid candidates have the largest key, so they come last.
    smaller = key[None, :] < key[:, None]
    earlier = (key[None, :] == key[:, None]) & (slot[None, :] < slot[:, None])
    rank = tl.sum((smaller | earlier).to(tl.int32), axis=1)
    is_next = rank[None, :] == ((rank + 1) % tl.maximum(count, 1))[:, None]
    next_x = tl.sum(tl.where(is_next, x[None, :], 0.0), axis=1)
    next_y = tl.sum(tl.where(is_next, y[None, :], 0.0), axis=1)
    # Shoelace formula, around the first vertex.
    first_x = tl.sum(tl.where(rank == 0, x, 0.0), axis=0)
    first_y = tl.sum(tl.where(rank == 0, y, 0.0), axis=0)
    twice = (x - first_x) * (next_y - first_y) - (next_x - first_x) * (y - first_y)
    area = tl.abs(tl.sum(tl.where(valid, twice, 0.0), axis=0)) / 2
    return tl.where(count > 2, area, 0.0)


@triton.jit
def _rotated_overlap(a, b):
    """Overlap of the two boxes at these pointers."""
    slot = tl.arange(0, 32)
    cross_x, cross_y, crosses = _crossings(a, b, slot)
    a_x, a_y = _corner(a, slot % 4)
    b_x, b_y = _corner(b, slot % 4)
    of_b = slot < 20
    x = tl.where(slot < 16, cross_x, tl.where(of_b, b_x, a_x))
    y = tl.where(slot < 16, cross_y, tl.where(of_b, b_y, a_y))
    corner_inside = tl.where(of_b, _is_inside(a, x, y), _is_inside(b, x, y))
    valid = tl.where(slot < 16, crosses, corner_inside & (slot < 24))
    return _polygon_area(x, y, valid, slot)


@triton.jit
def _aligned_overlap(a, b):
    """Overlap of the two boxes at these pointers, as if neither were turned."""
    ax = tl.load(a)
    ay = tl.load(a + 1)
    bx = tl.load(b)
    by = tl.load(b + 1)
    right = tl.minimum(ax + tl.load(a + 2), bx + tl.load(b + 2))
    left = tl.maximum(ax - tl.load(a + 2), bx - tl.load(b + 2))
    top = tl.minimum(ay + tl.load(a + 3), by + tl.load(b + 3))
    bottom = tl.maximum(ay - tl.load(a + 3), by - tl.load(b + 3))
    return tl.maximum(right - left, 0.0) * tl.maximum(top - bottom, 0.0)


@triton.jit
def _circles_meet(a, b):
    """Whether the circles around the corners of two boxes meet."""
    dx = tl.load(a) - tl.load(b)
    dy = tl.load(a + 1) - tl.load(b + 1)
    near = tl.load(a + 6) + tl.load(b + 6)
    return dx * dx + dy * dy <= near * near


@triton.jit
def _overlap_kernel(outlines_a, outlines_b, overlaps, num_b, PAIRS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    a = outlines_a + row * 16
    for number in range(0, PAIRS):
        column = tl.program_id(1) * PAIRS + number
        if column < num_b:
            b = outlines_b + column.to(tl.int64) * 16
            if _circles_meet(a, b):
                tl.store(overlaps + row * num_b + column, _rotated_overlap(a, b))


@triton.jit
def _suppression_kernel(
    outlines, words, num_boxes, num_words, thresh, ROTATED: tl.constexpr, PAIRS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    word = tl.program_id(1)
    a = outlines + row * 16
    bits = word * 0
    for number in range(0, PAIRS):
        column = word * PAIRS + number
        if (column > row) & (column < num_boxes):
            b = outlines + column.to(tl.int64) * 16
            if _circles_meet(a, b):
                if ROTATED:
                    overlap = _rotated_overlap(a, b)
                else:
                    overlap = _aligned_overlap(a, b)
                union = tl.load(a + 7) + tl.load(b + 7) - overlap
                iou = tl.div_rn(overlap, tl.maximum(union, MIN_UNION))
                bits = bits | ((iou > thresh).to(tl.int32) << number)
    tl.store(words + row * num_words + word, bits)


@triton.jit
def _selection_kernel(
    words, kept, num_kept, num_boxes, num_words, limit, PAIRS: tl.constexpr, WORDS: tl.constexpr
):
    word = tl.arange(0, WORDS)
    removed = tl.zeros([WORDS], tl.int32)
    count = num_boxes * 0
    for number in range(0, num_words):
        # Only the word at hand is looked at bit by bit; one sum takes it out of the others.
        here = tl.sum(tl.where(word == number, removed, 0), axis=0)
        for bit in range(0, PAIRS):
            box = number * PAIRS + bit
            stays = (here >> bit) & 1 == 0
            if stays & (box < num_boxes) & (count < limit):
                tl.store(kept + count, box.to(tl.int64))
                count += 1
                row = words + box.to(tl.int64) * num_words
                here = here | tl.load(row + number)
                removed = removed | tl.load(row + word, mask=word < num_words, other=0)
    tl.store(num_kept, count)


def _outlines(boxes: Tensor, *, rotated: bool = True) -> Tensor:
    """What the kernels need of boxes (N, 7): (N, 16) float32.

    x, y, half sizes, cosine and sine of the heading, radius of the circle around the corners, area,
    corners.
    """
    boxes = boxes.detach()[:, :7].float()
    half = boxes[:, 3:5] / 2
    heading = boxes[:, 6:7]
    sides = boxes[:, 3:5]
    if not rotated:
        # The area of the rectangle between its rounded borders, as in the plain form.
        sides = (boxes[:, :2] + half) - (boxes[:, :2] - half)
    area = sides[:, :1] * sides[:, 1:]
    turn = [torch.cos(heading), torch.sin(heading)]
    corners = bev_corners(boxes).flatten(1)
    parts = [boxes[:, :2], half, *turn, reach_m(boxes).unsqueeze(1), area, corners]
    return torch.cat(parts, dim=1).contiguous()


def overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Overlap areas (N, M) float32 from above of rotated boxes (N, 7) and (M, 7)."""
    overlaps = torch.zeros((len(boxes_a), len(boxes_b)), device=boxes_a.device)
    if overlaps.numel() == 0:
        return overlaps
    grid = (len(boxes_a), triton.cdiv(len(boxes_b), PAIRS))
    _overlap_kernel[grid](
        _outlines(boxes_a), _outlines(boxes_b), overlaps, len(boxes_b), PAIRS=PAIRS, **ONE_WARP
    )
    return overlaps


def greedy_nms(boxes: Tensor, thresh: float, rotated: bool, limit: int | None = None) -> Tensor:
    """Indices (K,) int64 that greedy NMS keeps.

    Args:
        boxes: (N, 7), sorted by falling score.
        thresh: the IoU above which a box is dropped.
        rotated: by rotated IoU, or else with the headings ignored.
        limit: boxes kept at most; None: all.
    """
    num_boxes = len(boxes)
    kept = torch.empty(num_boxes, dtype=torch.int64, device=boxes.device)
    if num_boxes == 0:
        return kept
    num_words = triton.cdiv(num_boxes, PAIRS)
    words = torch.empty((num_boxes, num_words), dtype=torch.int32, device=boxes.device)
    num_kept = torch.empty((), dtype=torch.int32, device=boxes.device)
    _suppression_kernel[(num_boxes, num_words)](
        _outlines(boxes, rotated=rotated),
        words,
        num_boxes,
        num_words,
        thresh,
        ROTATED=rotated,
        PAIRS=PAIRS,
        **ONE_WARP,
    )
    _selection_kernel[(1,)](
        words,
        kept,
        num_kept,
        num_boxes,
        num_words,
        num_boxes if limit is None else limit,
        PAIRS=PAIRS,
        WORDS=triton.next_power_of_2(num_words),
    )
    return kept[: int(num_kept)]
