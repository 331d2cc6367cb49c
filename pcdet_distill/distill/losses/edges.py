"""Edges of a feature graph without edge tensors: factored adapters, distances summed in chunks.

An edge joins a query m with its neighbour j. PointDistiller (Zhang et al., CVPR 2023) concatenates
the features of both, applies a 1x1 convolution, batch normalisation over all edges and ReLU.

A convolution of a concatenation is a sum of two products: x = W [t_j ; t_m] = a_j + b_m. So the N
nodes and M queries are projected instead of M*K edges. Mean and variance of x over all edges
follow from three things: how often each node is a neighbour, the centres b, and the mean of a over
each query's neighbours.

Only the distance itself needs the edges. It is computed for a chunk of queries at a time, gradients
included, and only for queries whose weight is not negligible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ...ops.dispatch import Operator
from ...ops.rows import sum_rows

EDGE_FORMS = ("concat", "difference")
POOLS = ("none", "max", "mean")
ELEMENT_DISTANCES = ("mse", "smooth_l1", "cosine")
COMPILED_DISTANCES = ("mse", "smooth_l1")  # sums over channels, of which a kernel keeps none
COMPILED_DTYPES = (torch.float32, torch.float64)
CHUNK_FLOATS = 1 << 19  # elements of one edge tensor held at once
NEGLIGIBLE = 1e-20  # queries with less than this share of the largest weight are left out
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1


class EdgeTables(NamedTuple):
    """All edges of a graph: edge (m, k) is ``nodes[neighbours[m, k]] + centres[m]``.

    Attributes:
        nodes: (N, D).
        centres: (M, D).
    """

    nodes: Tensor
    centres: Tensor


class EdgeAdapter(nn.Module):
    """1x1 convolution and batch normalisation of edges (M, K, 2C) -> (M, K, D), without the edges.

    The input channels are ordered neighbour (or centre - neighbour), then centre.

    Args:
        channels: C of a node.
        width: D.
        edge: ``concat`` [neighbour ; centre] or ``difference`` [centre - neighbour ; centre].
        learned: train the convolution, and scale and shift of the normalisation. Otherwise the
            convolution is a fixed random orthogonal projection, without scale and shift.
        identity: with ``learned=False``, no projection at all: D = 2C, the standardised edge
            itself.
    """

    weight: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, width: int, *, edge: str, learned: bool, identity: bool = False
    ) -> None:
        super().__init__()
        assert edge in EDGE_FORMS and not (learned and identity)
        self.edge = edge
        self.identity = identity
        if identity:
            width = 2 * channels
        if learned:
            weight = torch.empty(width, 2 * channels)
            nn.init.kaiming_uniform_(weight, a=5**0.5)  # as nn.Conv1d initialises itself
            self.weight = nn.Parameter(weight)
        elif identity:
            self.register_buffer("weight", torch.eye(width))
        else:
            self.register_buffer("weight", nn.init.orthogonal_(torch.empty(width, 2 * channels)))
        self.gamma = nn.Parameter(torch.ones(width)) if learned else None
        self.beta = nn.Parameter(torch.zeros(width)) if learned else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, features: Tensor, queries: Tensor, neighbours: Tensor) -> EdgeTables:
        """The normalised edges.

        Args:
            features: (N, C).
            queries: (M,) rows of it.
            neighbours: (M, K) rows of it.
        """
        neighbour_weight, centre_weight = self.weight.split(features.shape[1], dim=1)
        if self.edge == "difference":
            # U (t_m - t_j) + V t_m = -U t_j + (U + V) t_m
            centre_weight = neighbour_weight + centre_weight
            neighbour_weight = -neighbour_weight
        nodes = features @ neighbour_weight.t()
        centres = features[queries] @ centre_weight.t()
        if self.training:
            nodes, centres, variance = self._centre(nodes, centres, neighbours)
        else:
            centres = centres - self.running_mean
            variance = self.running_var
        scale = torch.rsqrt(variance + BATCH_NORM_EPS)
        if self.gamma is not None:
            scale = scale * self.gamma
        centres = centres * scale
        if self.beta is not None:
            centres = centres + self.beta
        return EdgeTables(nodes * scale, centres)

    def _centre(
        self, nodes: Tensor, centres: Tensor, neighbours: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both tables with their mean over all edges removed, and the variance (D,) over all edges.

        With both means zero, var(a_j + b_m) = E[a_j^2] + E[b_m^2 + 2 b_m a_j]. E over edges of
        what depends on j alone weighs each node by its in-degree, its number of appearances as
        neighbour.
        """
        edges = neighbours.numel()
        in_degrees = torch.bincount(neighbours.flatten(), minlength=len(nodes))
        share = in_degrees.to(nodes.dtype) / edges
        nodes_mean = share @ nodes
        centres_mean = centres.mean(dim=0)
        nodes = nodes - nodes_mean
        centres = centres - centres_mean
        neighbour_means = sum_rows(nodes, neighbours) / neighbours.shape[1]  # (M, D)
        of_queries = (centres.square() + 2 * centres * neighbour_means).mean(dim=0)
        variance = (share @ nodes.square() + of_queries).clamp_min(0)
        self._update_running_statistics(nodes_mean + centres_mean, variance, edges)
        return nodes, centres, variance

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, edges: int) -> None:
        """As nn.BatchNorm1d does, with the unbiased variance."""
        unbiased = variance * (edges / max(edges - 1, 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), BATCH_NORM_MOMENTUM)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), BATCH_NORM_MOMENTUM)


@dataclasses.dataclass(frozen=True)
class EdgeComparison:
    """How the edges of student and teacher are compared.

    Attributes:
        rectify: apply ReLU first.
        pool: over the neighbours of a query: ``none``, ``max`` or ``mean``.
        distance: ``mse``, ``smooth_l1`` or ``cosine``.
    """

    rectify: bool
    pool: str
    distance: str

    @property
    def is_compiled(self) -> bool:
        """Whether a kernel computes the distance of each edge by itself."""
        return self.pool == "none" and self.distance in COMPILED_DISTANCES

    @property
    def has_closed_form(self) -> bool:
        """Whether no edges are needed: plain squares of sums, neither rectified nor pooled."""
        return not self.rectify and self.pool == "none" and self.distance == "mse"

    def embed(self, nodes: Tensor, centres: Tensor) -> Tensor:
        """Graph features (R, K, D), or (R, 1, D) when pooled.

        Args:
            nodes: (R, K, D) of the neighbours.
            centres: (R, D).
        """
        edges = nodes + centres[:, None]
        if self.rectify:
            edges = edges.relu()
        if self.pool == "max":
            return edges.amax(dim=1, keepdim=True)
        if self.pool == "mean":
            return edges.mean(dim=1, keepdim=True)
        return edges

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
    teacher: EdgeTables,
    student: EdgeTables,
) -> Tensor:
    """Sum of weighted distances over all queries, a scalar, in bounded memory.

    Args:
        comparison: the distance between edges.
        neighbours: (M, K) rows of the nodes.
        weights: (M,) of the queries, without gradient; None for ones.
        teacher, student: their edges.
    """
    if weights is not None:
        rows = torch.nonzero(weights > NEGLIGIBLE * weights.max()).flatten()
        if len(rows) < len(weights):
            neighbours = neighbours[rows]
            weights = weights[rows]
            teacher = EdgeTables(teacher.nodes, teacher.centres[rows])
            student = EdgeTables(student.nodes, student.centres[rows])
    if comparison.has_closed_form:
        difference = EdgeTables(teacher.nodes - student.nodes, teacher.centres - student.centres)
        return _squares_over_edges(neighbours, weights, difference)
    return _EdgeSum.apply(comparison, neighbours, weights, *teacher, *student)


@torch.no_grad()
def distances_of_queries(
    comparison: EdgeComparison, neighbours: Tensor, teacher: EdgeTables, student: EdgeTables
) -> Tensor:
    """(M,) the unweighted distance of each query, which ``sum_over_edges`` sums.

    Args:
        comparison: the distance between edges.
        neighbours: (M, K) rows of the nodes.
        teacher, student: their edges.
    """
    parts = [teacher.centres.new_zeros(0)]
    for start in range(0, len(neighbours), _queries_per_chunk(neighbours, teacher)):
        queries = slice(start, start + _queries_per_chunk(neighbours, teacher))
        chunk = neighbours[queries]
        teacher_edges = comparison.embed(teacher.nodes[chunk], teacher.centres[queries])
        student_edges = comparison.embed(student.nodes[chunk], student.centres[queries])
        parts.append(comparison.rows(teacher_edges, student_edges))
    return torch.cat(parts)


def _queries_per_chunk(neighbours: Tensor, tables: EdgeTables) -> int:
    """Queries whose edges are held at once."""
    floats_per_query = max(1, neighbours.shape[1] * tables.nodes.shape[1])
    return max(1, CHUNK_FLOATS // floats_per_query)


def _squares_over_edges(
    neighbours: Tensor, weights: Tensor | None, difference: EdgeTables
) -> Tensor:
    """Sum of w_m |nodes_j + centres_m|^2 over all edges.

    |a_j + b_m|^2 = |a_j|^2 + 2 a_j b_m + |b_m|^2: summed over the K neighbours j this needs only
    the sums of a_j and of |a_j|^2, which a table of both gives without any edge.
    """
    nodes, centres = difference
    count = neighbours.shape[1]
    width = nodes.shape[1]
    with_squares = torch.cat([nodes, nodes.square().sum(dim=1, keepdim=True)], dim=1)
    sums = sum_rows(with_squares, neighbours)
    node_sums = sums[:, :width]
    square_sums = sums[:, width]
    distances = square_sums + (centres * (2 * node_sums + count * centres)).sum(dim=1)
    if weights is not None:
        distances = distances * weights
    return distances.sum().clamp_min(0)


class _EdgeSum(torch.autograd.Function):
    """The sum over chunks of queries.

    The result is a scalar, so its gradient is known up to one factor. It is computed in the forward
    pass, chunk by chunk, and only scaled in the backward pass: no chunk's graph has to be kept. On
    CUDA a kernel takes the place of the chunks.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        comparison: EdgeComparison,
        neighbours: Tensor,
        weights: Tensor | None,
        *tables: Tensor,
    ) -> Tensor:
        learning = tuple(ctx.needs_input_grad[3:])  # type: ignore[attr-defined]
        total, gradients = _sum_and_gradients(comparison, neighbours, weights, tables, learning)
        ctx.gradients = gradients  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        scaled = [
            None if table_gradient is None else table_gradient * gradient
            for table_gradient in ctx.gradients  # type: ignore[attr-defined]
        ]
        return (None, None, None, *scaled)


def _sum_and_gradients(
    comparison: EdgeComparison,
    neighbours: Tensor,
    weights: Tensor | None,
    tables: tuple[Tensor, ...],
    learning: tuple[bool, ...],
) -> tuple[Tensor, list[Tensor | None]]:
    """The sum over edges, and one gradient a table where it needs one.

    Args:
        comparison: the distance between edges.
        neighbours: (M, K) rows of the nodes.
        weights: (M,) of the queries; None for ones.
        tables: nodes and centres of the teacher, then of the student.
        learning: which of the tables need a gradient.
    """
    same_type = all(table.dtype == tables[0].dtype for table in tables)
    if not comparison.is_compiled or not same_type or tables[0].dtype not in COMPILED_DTYPES:
        return _sum_in_chunks(comparison, neighbours, weights, tables, learning)
    # A kernel's atomic sums change their order; a fixed order is left to PyTorch.
    fixed_order = torch.are_deterministic_algorithms_enabled()
    form = EDGE_SUM.plain if fixed_order else EDGE_SUM.on(neighbours.device)
    return form(comparison.rectify, comparison.distance, neighbours, weights, tables, learning)


def _sum_over_edges_plain(
    rectify: bool,
    distance: str,
    neighbours: Tensor,
    weights: Tensor | None,
    tables: tuple[Tensor, ...],
    learning: tuple[bool, ...],
) -> tuple[Tensor, list[Tensor | None]]:
    """``_sum_in_chunks`` of edges that are not pooled, with the arguments of the kernel."""
    comparison = EdgeComparison(rectify, "none", distance)
    return _sum_in_chunks(comparison, neighbours, weights, tables, learning)


EDGE_SUM = Operator(
    "the distance of edges", plain=_sum_over_edges_plain, triton="edges:sum_over_edges"
)


def _sum_in_chunks(
    comparison: EdgeComparison,
    neighbours: Tensor,
    weights: Tensor | None,
    tables: tuple[Tensor, ...],
    learning: tuple[bool, ...],
) -> tuple[Tensor, list[Tensor | None]]:
    """``_sum_and_gradients`` in plain torch: the edges of some queries at a time."""
    parts = [
        _NodeTable(tables[0], learning[0]),
        _CentreTable(tables[1], learning[1]),
        _NodeTable(tables[2], learning[2]),
        _CentreTable(tables[3], learning[3]),
    ]
    total = tables[0].new_zeros(())
    queries_per_chunk = _queries_per_chunk(neighbours, EdgeTables(tables[0], tables[1]))
    for start in range(0, len(neighbours), queries_per_chunk):
        queries = slice(start, start + queries_per_chunk)
        chunk_weights = None if weights is None else weights[queries]
        total += _add_chunk(comparison, neighbours[queries], chunk_weights, queries, parts)
    return total, [part.gradient for part in parts]


class _Table:
    """One of the two parts of all edges, and the gradient of the sum with respect to it."""

    def __init__(self, values: Tensor, needs_gradient: bool) -> None:
        self.values = values
        self.gradient = torch.zeros_like(values) if needs_gradient else None

    def take(self, neighbours: Tensor, queries: slice) -> Tensor:
        """The part of the edges of a chunk of queries, whose neighbours are (R, K)."""
        raise NotImplementedError

    def add(self, gradient: Tensor, neighbours: Tensor, queries: slice) -> None:
        """Add the gradient of what ``take`` returned."""
        raise NotImplementedError


class _NodeTable(_Table):
    """Rows of nodes: an edge takes that of its neighbour."""

    def take(self, neighbours: Tensor, queries: slice) -> Tensor:
        """(R, K, D) of a chunk of R queries with ``neighbours`` (R, K)."""
        rows = self.values.index_select(0, neighbours.flatten())
        return rows.view(*neighbours.shape, self.values.shape[1])

    def add(self, gradient: Tensor, neighbours: Tensor, queries: slice) -> None:
        """Add the gradient (R, K, D) of a chunk. A node is the neighbour of many queries."""
        assert self.gradient is not None
        self.gradient.index_add_(0, neighbours.flatten(), gradient.flatten(0, 1))


class _CentreTable(_Table):
    """Rows of queries: an edge takes that of its query."""

    def take(self, neighbours: Tensor, queries: slice) -> Tensor:
        """(R, D) of a chunk of R queries."""
        return self.values[queries]

    def add(self, gradient: Tensor, neighbours: Tensor, queries: slice) -> None:
        """Add the gradient (R, D) of a chunk."""
        assert self.gradient is not None
        self.gradient[queries] += gradient


def _add_chunk(
    comparison: EdgeComparison,
    neighbours: Tensor,
    weights: Tensor | None,
    queries: slice,
    tables: Sequence[_Table],
) -> Tensor:
    """The sum over one chunk; its gradients are added to those of ``tables``.

    Args:
        comparison: the distance between edges.
        neighbours: (R, K) of the chunk.
        weights: (R,) of the chunk; None for ones.
        queries: the rows of the chunk.
        tables: nodes and centres of the teacher, then of the student.
    """
    leaves = []
    for table in tables:
        leaf = table.take(neighbours, queries).detach()
        leaves.append(leaf.requires_grad_(table.gradient is not None))
    teacher_nodes, teacher_centres, student_nodes, student_centres = leaves
    with torch.enable_grad():
        teacher_edges = comparison.embed(teacher_nodes, teacher_centres)
        student_edges = comparison.embed(student_nodes, student_centres)
        distances = comparison.rows(teacher_edges, student_edges)
        total = (distances if weights is None else distances * weights).sum()
    learning = [number for number, leaf in enumerate(leaves) if leaf.requires_grad]
    if learning:
        gradients = torch.autograd.grad(total, [leaves[number] for number in learning])
        for number, gradient in zip(learning, gradients):
            tables[number].add(gradient, neighbours, queries)
    return total.detach()
