"""The distance between two graphs' edges and its gradients, without the edges in memory.

A program takes one query, passes over its neighbours, and writes the query's part of the result.
Only the gradient of a neighbour is an atomic sum: a node is the neighbour of many queries.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import EXACT

BLOCK = 1024  # numbers of the edges at hand
TABLES = 4  # nodes and centres of the teacher, then of the student


@triton.jit
def _side(nodes, centre, place, wanted, RECTIFY: tl.constexpr):
    """The edges of a query (K, D), and where their gradient passes."""
    edge = tl.load(nodes + place, mask=wanted, other=0.0) + centre
    passes = wanted
    if RECTIFY:
        passes = passes & (edge > 0)
        edge = tl.maximum(edge, 0.0)
    return edge, passes


@triton.jit
def _distance(difference, SMOOTH: tl.constexpr):
    """The distance of each number, and its slope."""
    if SMOOTH:
        size = tl.abs(difference)
        distance = tl.where(size < 1.0, 0.5 * difference * difference, size - 0.5)
        slope = tl.minimum(tl.maximum(difference, -1.0), 1.0)
    else:
        distance = difference * difference
        slope = 2.0 * difference
    return distance, slope


@triton.jit
def _edges_kernel(
    neighbours,
    weights,
    teacher_nodes,
    teacher_centres,
    student_nodes,
    student_centres,
    distances,
    teacher_nodes_grad,
    teacher_centres_grad,
    student_nodes_grad,
    student_centres_grad,
    num_neighbours,
    num_channels,
    RECTIFY: tl.constexpr,
    SMOOTH: tl.constexpr,
    TEACHER_LEARNS: tl.constexpr,
    STUDENT_LEARNS: tl.constexpr,
    EDGES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    weight = tl.load(weights + query)
    channel = tl.arange(0, CHANNELS)[None, :]
    is_channel = channel < num_channels
    own = query * num_channels + channel
    teacher_centre = tl.load(teacher_centres + own, mask=is_channel, other=0.0)
    student_centre = tl.load(student_centres + own, mask=is_channel, other=0.0)
    total = tl.zeros([EDGES, CHANNELS], distances.dtype.element_ty)
    teacher_total = total
    student_total = total
    for first in range(0, num_neighbours, EDGES):
        number = first + tl.arange(0, EDGES)[:, None]
        exists = number < num_neighbours
        node = tl.load(neighbours + query * num_neighbours + number, mask=exists, other=0)
        wanted = exists & is_channel
        place = node * num_channels + channel
        teacher, teacher_passes = _side(teacher_nodes, teacher_centre, place, wanted, RECTIFY)
        student, student_passes = _side(student_nodes, student_centre, place, wanted, RECTIFY)
        distance, slope = _distance(student - teacher, SMOOTH)
        slope *= weight
        total += tl.where(wanted, distance, 0.0)
        if TEACHER_LEARNS:
            gradient = tl.where(teacher_passes, -slope, 0.0)
            teacher_total += gradient
            tl.atomic_add(teacher_nodes_grad + place, gradient, mask=teacher_passes, sem="relaxed")
        if STUDENT_LEARNS:
            gradient = tl.where(student_passes, slope, 0.0)
            student_total += gradient
            tl.atomic_add(student_nodes_grad + place, gradient, mask=student_passes, sem="relaxed")
    tl.store(distances + query, tl.sum(tl.sum(total, axis=1), axis=0) * weight)
    own = query * num_channels + tl.arange(0, CHANNELS)
    is_own = tl.arange(0, CHANNELS) < num_channels
    if TEACHER_LEARNS:
        tl.store(teacher_centres_grad + own, tl.sum(teacher_total, axis=0), mask=is_own)
    if STUDENT_LEARNS:
        tl.store(student_centres_grad + own, tl.sum(student_total, axis=0), mask=is_own)


def sum_over_edges(
    rectify: bool,
    distance: str,
    neighbours: Tensor,
    weights: Tensor | None,
    tables: tuple[Tensor, ...],
    learning: tuple[bool, ...],
) -> tuple[Tensor, list[Tensor | None]]:
    """Sum of weighted distances between the edges of two graphs, and its gradients.

    Args:
        rectify: apply ReLU to the edges first.
        distance: ``mse`` or ``smooth_l1``.
        neighbours: (M, K) rows of the nodes.
        weights: (M,) of the queries; None for ones.
        tables: nodes (N, D) and centres (M, D) of the teacher, then of the student.
        learning: which of the tables need a gradient.

    Returns:
        the sum, a scalar; and one gradient a table, None where it needs none.
    """
    width = tables[0].shape[1]
    tables = tuple(table.detach().contiguous() for table in tables)
    gradients = [torch.zeros_like(table) for table in tables]
    distances = tables[0].new_zeros(len(neighbours))
    if weights is None:
        weights = torch.ones_like(distances)
    if neighbours.numel() > 0 and width > 0:
        channels = triton.next_power_of_2(width)
        _edges_kernel[(len(neighbours),)](
            neighbours.contiguous(),
            weights.to(distances.dtype).contiguous(),
            *tables,
            distances,
            *gradients,
            neighbours.shape[1],
            width,
            RECTIFY=rectify,
            SMOOTH=distance == "smooth_l1",
            TEACHER_LEARNS=learning[0] or learning[1],
            STUDENT_LEARNS=learning[2] or learning[3],
            EDGES=max(1, BLOCK // channels),
            CHANNELS=channels,
            **EXACT,
        )
    wanted = [gradients[number] if learning[number] else None for number in range(TABLES)]
    return distances.sum(), wanted
