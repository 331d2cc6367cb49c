"""Local distillation of PointDistiller (Zhang et al., CVPR 2023): the teacher's local graphs.

1. The most salient nodes are queries.
2. Each is joined with its K nearest nodes in the teacher's feature space. Both sides use this
   graph.
3. An adapter on each side embeds the edges [neighbour ; query].
4. The embeddings are compared, and salient queries count more:

    L = mean over queries, neighbours and channels of  w_m (A_s(s_j, s_m) - A_t(t_j, t_m))^2

``PRESET: official`` equals the published code (commit a5dc465), which differs for pillars, the maps
of SECOND and the points of PointRCNN (``OFFICIAL``). What it does for PointPillars on nuScenes is
the preset for maps with ``WEIGHTING: none``. Its option ``reweight: False`` is ``WEIGHTING: none,
DISTANCE: frobenius``.

Departures, of ``PRESET: default``: frames are not mixed. Weights follow a normalised score instead
of falling on the fullest pillars alone. The teacher's adapter is fixed. The published one is
trained with the student's: both can learn to output zeros, and then do, with a loss of zero and
nothing learned. The fixed one is standardised: a student that carries no information stays at a
loss of 1, and 1 - loss is the explained share of the teacher's variance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...models.taps import TapInfo
from ...ops.frames import frames_of
from ...ops.knn import knn
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures
from .base import TERM_KEYS, NodeLoss, channels_of
from .collapse import CollapseMonitor, sample_by_weight
from .edges import (
    ELEMENT_DISTANCES,
    EdgeAdapter,
    EdgeComparison,
    EdgeTables,
    distances_of_queries,
    sum_over_edges,
)
from .features import score_of, with_score
from .graph_options import GraphOptions, graph_options
from .node_details import NodeDetails, shares_of

# Factors of the published losses.
FROBENIUS_FACTOR = 5e-4
PUBLISHED_FACTOR = 2.0


class LocalGraphs(NamedTuple):
    """M queries with their K neighbours, as rows of the nodes; ``weights`` None: all equal."""

    queries: Tensor  # (M,)
    neighbours: Tensor  # (M, K)
    weights: Tensor | None  # (M,)


class GraphDistillLoss(NodeLoss):
    """PointDistiller's local distillation between matched nodes; its formula heads this file."""

    options_class = GraphOptions

    options: GraphOptions

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: GraphOptions | None = None
    ) -> None:
        super().__init__(student, teacher, options)
        student_channels = channels_of(student)
        teacher_channels = channels_of(teacher)
        is_trained = self.options.teacher_adapter == "trained"
        is_identity = self.options.teacher_adapter == "none"
        edge = self.options.edge
        self.width = 2 * teacher_channels if is_identity else self.options.embed_dim
        self.teacher_adapter = EdgeAdapter(
            teacher_channels, self.width, edge=edge, learned=is_trained, identity=is_identity
        )
        self.student_adapter = EdgeAdapter(student_channels, self.width, edge=edge, learned=True)
        distance = self.options.distance
        self.comparison = EdgeComparison(
            # ReLU as published. A fixed adapter has no use for it: it would only drop information.
            rectify=is_trained,
            pool=self.options.pool,
            distance=distance if distance in ELEMENT_DISTANCES else "mse",
        )
        self.monitor = CollapseMonitor()

    @classmethod
    def with_input_keys(cls, cfg: ConfigDict, teacher_has_scores: bool) -> ConfigDict:
        """With SCORE: of PRESET: default the objectness, if the teacher publishes class scores."""
        if cfg.get("PRESET") == "official":
            return cfg
        return with_score(cfg, teacher_has_scores, otherwise="saliency")

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: TapInfo, teacher: TapInfo, where: str
    ) -> GraphOptions:
        """The options in ``cfg``, on top of its PRESET for the student's kind of nodes."""
        return graph_options(cfg, student, where, also_known=TERM_KEYS)

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes."""
        return self.compare(student, teacher, self.choose_queries(teacher))

    def score(self, teacher: NodeFeatures) -> Tensor:
        """How much each node (N,) matters."""
        if self.options.score == "channel_max":
            return teacher.features.detach().amax(dim=1)
        if self.options.score == "norm":
            return teacher.features.detach().norm(dim=1)
        return score_of(teacher, self.options.score)

    @torch.no_grad()
    def choose_queries(self, teacher: NodeFeatures) -> Tensor:
        """Rows (M,) of the queries: NUM_NODES of each frame, or all when it has fewer."""
        score = self.score(teacher)
        if self.options.sampling == "random":
            score = torch.rand(len(teacher), device=score.device)
        take_largest = self.options.sampling != "bottom"
        chosen = []
        for rows in self._groups(teacher.batch_index):
            count = self._number_of_queries(len(rows))
            best = score[rows].topk(count, largest=take_largest, sorted=False).indices
            chosen.append(rows[best])
        return torch.cat(chosen)

    def compare(self, student: NodeFeatures, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """The loss over the given queries (M,), rows of both; at least one."""
        graphs = self.local_graphs(teacher, queries)
        weights = graphs.weights
        neighbours, teacher_edges, student_edges = self._edges(student, teacher, graphs)
        self._watch(neighbours, weights, teacher_edges, student_edges)
        total = sum_over_edges(self.comparison, neighbours, weights, teacher_edges, student_edges)
        return self._scale(total, neighbours)

    def local_graphs(self, teacher: NodeFeatures, queries: Tensor) -> LocalGraphs:
        """The neighbours and weights of queries (M,); the teacher alone decides on both."""
        features = teacher.features.detach()
        neighbours = self._neighbours(features, teacher, queries)
        score = self.score(teacher)[queries].to(features.dtype)
        weights = self._weights(score, teacher.batch_index[queries])
        return LocalGraphs(queries, neighbours, weights)

    @torch.no_grad()
    def details(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> NodeDetails:
        """Weights and neighbours of the queries, and the part of each query in the loss."""
        graphs = self.local_graphs(teacher, self.choose_queries(teacher))
        queries = graphs.queries
        neighbours, teacher_edges, student_edges = self._edges(student, teacher, graphs)
        parts = distances_of_queries(self.comparison, neighbours, teacher_edges, student_edges)
        weights = torch.ones_like(parts) if graphs.weights is None else graphs.weights
        parts = parts * weights
        values = shares_of(self._scale(parts.sum(), neighbours), parts)
        nothing = parts.new_zeros(len(teacher))
        return NodeDetails(
            weights=nothing.index_copy(0, queries, weights),
            values=nothing.index_copy(0, queries, values),
            queries=queries,
            neighbours=graphs.neighbours,
            is_neighbour=torch.ones_like(graphs.neighbours, dtype=torch.bool),
        )

    @torch.no_grad()
    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Every node as an edge from itself to itself, behind the adapter of its side."""
        itself = torch.arange(len(student), device=student.device)
        neighbours = itself[:, None]
        embedded = []
        for adapter, features in ((self.student_adapter, student), (self.teacher_adapter, teacher)):
            tables = adapter(features, itself, neighbours)
            edges = self.comparison.embed(tables.nodes[neighbours], tables.centres)
            embedded.append(edges[:, 0])
        return embedded[0], embedded[1]

    def _edges(
        self, student: NodeFeatures, teacher: NodeFeatures, graphs: LocalGraphs
    ) -> tuple[Tensor, EdgeTables, EdgeTables]:
        """Neighbours (M, K) as rows of two tables, and the tables of teacher and student."""
        # Of a map with 50,000 cells a few thousand are in the graph. Only these are adapted.
        rows, queries, neighbours = _nodes_of_graph(len(teacher), graphs.queries, graphs.neighbours)
        student_rows = student.features.index_select(0, rows)
        teacher_rows = teacher.features.detach().index_select(0, rows)
        student_edges = self.student_adapter(student_rows, queries, neighbours)
        teacher_edges = self.teacher_adapter(teacher_rows, queries, neighbours)
        return neighbours, teacher_edges, student_edges

    def _groups(self, batch_index: Tensor) -> list[Tensor]:
        """Rows whose queries and weights are chosen together: those of each frame, or all."""
        if self.options.mix_frames:
            return [torch.arange(len(batch_index), device=batch_index.device)]
        return list(frames_of(batch_index))

    def _number_of_queries(self, nodes: int) -> int:
        """NUM_NODES, or that share of the ``nodes`` of a group."""
        count = self.options.num_nodes
        if count < 1:
            count = math.ceil(count * nodes)
        return min(int(count), nodes)

    def _neighbours(self, features: Tensor, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """(M, K) rows of the nodes nearest to each query; no more than the fullest frame has."""
        points = teacher.coords if self.options.neighbor_space == "metres" else features
        fullest = max(len(rows) for rows in self._groups(teacher.batch_index))
        count = min(self.options.num_neighbors, fullest)
        if self.options.mix_frames:
            return knn(points[queries], points, count)
        frames = teacher.batch_index
        return knn(points[queries], points, count, frames[queries], frames)

    @torch.no_grad()
    def _weights(self, score: Tensor, batch_index: Tensor) -> Tensor | None:
        """Weights (M,) of queries with ``score`` (M,); None for equal ones.

        Logs the entropy of the softmax as a share of the largest possible one: 1 when all are
        equal.
        """
        if self.options.weighting == "none":
            return None
        if self.options.weighting == "batch_size":
            return (batch_index.max() + 1).to(score.dtype).expand(len(score))
        weights = torch.empty_like(score)
        entropies = []
        for rows in self._groups(batch_index):
            group = score[rows]
            if self.options.weighting == "softmax":
                group = _scaled_to_unit(group)
            share = torch.softmax(group / self.options.temperature, dim=0)
            weights[rows] = share * len(rows)
            largest_entropy = math.log(max(len(rows), 2))
            entropies.append(torch.special.entr(share).sum() / largest_entropy)
        self.logs["entropy"] = torch.stack(entropies).mean()
        return weights

    def _scale(self, total: Tensor, neighbours: Tensor) -> Tensor:
        """From the sum over edges to the loss."""
        if self.options.distance == "frobenius":
            smallest = torch.finfo(total.dtype).tiny  # the slope of the root is infinite at 0
            return FROBENIUS_FACTOR * total.clamp_min(smallest).sqrt()
        terms = self.comparison.terms_per_query(neighbours.shape[1], self.width)
        count = len(neighbours) * terms
        factor = PUBLISHED_FACTOR if self.options.distance == "published" else 1.0
        return factor * total / count

    @torch.no_grad()
    def _watch(
        self,
        neighbours: Tensor,
        weights: Tensor | None,
        teacher: EdgeTables,
        student: EdgeTables,
    ) -> None:
        """Now and then log the share of each adapter's channels that are constant."""
        if not self.monitor.is_due():
            return
        queries = sample_by_weight(weights, len(neighbours), neighbours.device)
        for name, tables in (("teacher", teacher), ("student", student)):
            nodes = tables.nodes[neighbours[queries]]
            edges = self.comparison.embed(nodes, tables.centres[queries]).flatten(0, 1)
            self.logs[f"dead_{name}"] = self.monitor.dead_share(name, edges)


def _scaled_to_unit(score: Tensor) -> Tensor:
    """Scores (N,) moved and scaled to 0..1."""
    extent = score.max() - score.min()
    return (score - score.min()) / extent.clamp_min(torch.finfo(score.dtype).tiny)


def _nodes_of_graph(
    count: int, queries: Tensor, neighbours: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (R,) of the ``count`` nodes that are in the graph, and the graph among these.

    Args:
        count: all nodes.
        queries: (M,) rows.
        neighbours: (M, K) rows.

    Returns:
        Rows (R,), and queries (M,) and neighbours (M, K) as indices of them.
    """
    is_used = torch.zeros(count, dtype=torch.bool, device=queries.device)
    is_used[queries] = True
    is_used[neighbours.flatten()] = True
    new_row = is_used.cumsum(dim=0) - 1
    return torch.nonzero(is_used).flatten(), new_row[queries], new_row[neighbours]
