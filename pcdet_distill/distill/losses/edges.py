"""Edges of a feature graph without edge tensors: adapters in factored form, distances summed in chunks of queries.

An edge joins a query m with its neighbour j. PointDistiller (Zhang et al., CVPR 2023) concatenates both features,
applies a 1x1 convolution, batch normalisation over all edges and ReLU. A convolution of a concatenation is a sum of two
products: with x = W [t_j ; t_m] = a_j + b_m, the N nodes and M queries are projected instead of M*K edges, and the mean
and variance of x over all edges follow from the in-degrees, the centres and the mean over each query's neighbours. Only
the distance itself needs the edges: a chunk at a time, gradients included, and only of queries whose weight is not
negligible.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

EDGE_FORMS = ("concat", "difference")
POOLS = ("none", "max", "mean")
ELEMENT_DISTANCES = ("mse", "smooth_l1", "cosine")
CHUNK_FLOATS = 1 << 19  # elements of one edge tensor held at once
NEGLIGIBLE = 1e-20  # queries that weigh less than this part of the heaviest are left out of the sum
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-5, 0.1


class EdgeAdapter(nn.Module):
    """1x1 convolution and batch normalisation of edges (M, K, 2C) -> (M, K, D), never building the edges.

    Input channels are ordered neighbour (or centre - neighbour), then centre.

    Args:
        channels: C of a node.
        width: D.
        edge: ``concat`` [neighbour ; centre] or ``difference`` [centre - neighbour ; centre].
        learned: train the convolution and the normalisation's scale and shift. Otherwise the convolution is a fixed
            random orthogonal projection and the normalisation has no scale and shift.
        identity: with ``learned=False``, no projection at all: D = 2C, the edge itself, standardised.
    """

    def __init__(
        self, channels: int, width: int, *, edge: str, learned: bool, identity: bool = False
    ) -> None:
        super().__init__()
        assert edge in EDGE_FORMS and not (learned and identity)
        self.edge, self.identity = edge, identity
        width = 2 * channels if identity else width
        weight = torch.eye(width) if identity else torch.empty(width, 2 * channels)
        if learned:
            nn.init.kaiming_uniform_(weight, a=5**0.5)
        elif not identity:
            nn.init.orthogonal_(weight)
        self.weight: Tensor
        if learned:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.gamma = nn.Parameter(torch.ones(width)) if learned else None
        self.beta = nn.Parameter(torch.zeros(width)) if learned else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(
        self, features: Tensor, queries: Tensor, neighbours: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normalised edges as two tables: edge (m, k) is ``nodes[neighbours[m, k]] + centres[m]``.

        Args:
            features: (N, C). queries: (M,) rows of it. neighbours: (M, K) rows of it.

        Returns:
            nodes (N, D) and centres (M, D).
        """
        first, second = self.weight.split(features.shape[1], dim=1)
        if self.edge == "difference":
            first, second = -first, first + second
        nodes, centres = features @ first.t(), features[queries] @ second.t()
        if self.training:
            nodes, centres, variance = self._centre(nodes, centres, neighbours)
        else:
            centres, variance = centres - self.running_mean, self.running_var
        scale = torch.rsqrt(variance + BATCH_NORM_EPS)
        if self.gamma is not None:
            scale = scale * self.gamma
        centres = centres * scale
        return nodes * scale, centres if self.beta is None else centres + self.beta

    def _centre(
        self, nodes: Tensor, centres: Tensor, neighbours: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both tables with their edge-wise means removed, and the variance (D,) over all edges."""
        edges = neighbours.numel()
        share = torch.bincount(neighbours.flatten(), minlength=len(nodes)).to(nodes.dtype) / edges
        nodes_mean, centres_mean = share @ nodes, centres.mean(dim=0)
        nodes, centres = nodes - nodes_mean, centres - centres_mean
        around = functional.embedding_bag(
            neighbours, nodes, mode="mean"
        )  # (M, D) mean over each query's neighbours
        variance = share @ nodes.square() + (centres.square() + 2 * centres * around).mean(dim=0)
        variance = variance.clamp_min(0)
        with torch.no_grad():
            unbiased = variance * (edges / max(edges - 1, 1))
            self.running_mean.lerp_(
                (nodes_mean + centres_mean).to(self.running_mean.dtype), BATCH_NORM_MOMENTUM
            )
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), BATCH_NORM_MOMENTUM)
        return nodes, centres, variance


@dataclasses.dataclass(frozen=True)
class EdgeComparison:
    """How two edge sets are compared: rectified or not, pooled over the neighbours or not, by which distance."""

    rectify: bool
    pool: str
    distance: str

    @property
    def has_closed_form(self) -> bool:
        """Squares of sums, neither rectified nor pooled, need no edges at all."""
        return not self.rectify and self.pool == "none" and self.distance == "mse"

    def embed(self, nodes: Tensor, centres: Tensor) -> Tensor:
        """Graph features (R, K, D), or (R, 1, D) when pooled, from gathered nodes (R, K, D) and centres (R, D)."""
        edges = nodes + centres[:, None]
        if self.rectify:
            edges = edges.relu()
        if self.pool == "max":
            return edges.amax(dim=1, keepdim=True)
        return edges.mean(dim=1, keepdim=True) if self.pool == "mean" else edges

    def rows(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Summed distance (R,) of each query."""
        if self.distance == "cosine":
            return (1 - functional.cosine_similarity(teacher, student, dim=2)).sum(dim=1)
        if self.distance == "smooth_l1":
            return functional.smooth_l1_loss(student, teacher, reduction="none").sum(dim=(1, 2))
        return (teacher - student).square().sum(dim=(1, 2))

    def terms_per_query(self, neighbours: int, width: int) -> int:
        """How many numbers ``rows`` sums."""
        features = 1 if self.pool != "none" else neighbours
        return features if self.distance == "cosine" else features * width


def sum_over_edges(
    comparison: EdgeComparison,
    neighbours: Tensor,
    weights: Tensor | None,
    teacher: tuple[Tensor, Tensor],
    student: tuple[Tensor, Tensor],
) -> Tensor:
    """Sum of weighted distances over all queries, a scalar, in bounded memory.

    Args:
        neighbours: (M, K). weights: (M,), without gradient; None for ones.
        teacher, student: the tables (N, D) and (M, D) of ``EdgeAdapter``.
    """
    (teacher_nodes, teacher_centres), (student_nodes, student_centres) = teacher, student
    if weights is not None:
        rows = torch.nonzero(weights > NEGLIGIBLE * weights.max()).flatten()
        if len(rows) < len(weights):
            neighbours, weights = neighbours[rows], weights[rows]
            teacher_centres, student_centres = teacher_centres[rows], student_centres[rows]
    if comparison.has_closed_form:
        return _squares_over_edges(
            neighbours, weights, teacher_nodes - student_nodes, teacher_centres - student_centres
        )
    return _EdgeSum.apply(
        comparison,
        neighbours,
        weights,
        teacher_nodes,
        teacher_centres,
        student_nodes,
        student_centres,
    )


def _squares_over_edges(
    neighbours: Tensor, weights: Tensor | None, nodes: Tensor, centres: Tensor
) -> Tensor:
    """Sum of w_m |nodes_j + centres_m|^2 over all edges: nodes and their squares are summed over j beforehand."""
    count = neighbours.shape[1]
    with_squares = torch.cat([nodes, nodes.square().sum(dim=1, keepdim=True)], dim=1)
    around, squares = functional.embedding_bag(neighbours, with_squares, mode="sum").split(
        (nodes.shape[1], 1), dim=1
    )
    distances = squares[:, 0] + (centres * (2 * around + count * centres)).sum(dim=1)
    return (distances if weights is None else distances * weights).sum().clamp_min(0)


class _EdgeSum(torch.autograd.Function):
    """The sum is a scalar, so its gradient is known up to one factor: it is computed chunk by chunk in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        comparison: EdgeComparison,
        neighbours: Tensor,
        weights: Tensor | None,
        *tables: Tensor,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        gradients = [
            torch.zeros_like(table) if needed else None for table, needed in zip(tables, wanted)
        ]
        total = tables[0].new_zeros(())
        rows = max(1, CHUNK_FLOATS // max(1, neighbours.shape[1] * tables[0].shape[1]))
        for start in range(0, len(neighbours), rows):
            part = slice(start, start + rows)
            total += _chunk(
                comparison,
                neighbours[part],
                None if weights is None else weights[part],
                part,
                tables,
                gradients,
            )
        ctx.gradients = gradients
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (
            None,
            None,
            None,
            *(None if own is None else own * gradient for own in ctx.gradients),
        )


def _chunk(
    comparison: EdgeComparison,
    neighbours: Tensor,
    weights: Tensor | None,
    part: slice,
    tables: tuple[Tensor, ...],
    gradients: list[Tensor | None],
) -> Tensor:
    """Sum over the queries in ``part``; adds its gradients to ``gradients``."""
    flat = neighbours.flatten()
    shape = (*neighbours.shape, tables[0].shape[1])
    pieces = [
        table[part] if position % 2 else table.index_select(0, flat).view(shape)
        for position, table in enumerate(tables)
    ]
    wanted = [position for position, gradient in enumerate(gradients) if gradient is not None]
    leaves = [
        piece.detach().requires_grad_(position in wanted) for position, piece in enumerate(pieces)
    ]
    with torch.enable_grad():
        distances = comparison.rows(comparison.embed(*leaves[:2]), comparison.embed(*leaves[2:]))
        total = (distances if weights is None else distances * weights).sum()
    found = torch.autograd.grad(total, [leaves[position] for position in wanted]) if wanted else ()
    for position, gradient in zip(wanted, found):
        if position % 2:
            gradients[position][part] += gradient  # type: ignore[index]
        else:
            gradients[position].index_add_(0, flat, gradient.flatten(0, 1))  # type: ignore[union-attr]
    return total.detach()
