"""Local distillation of PointDistiller (Zhang et al., CVPR 2023): the student learns the teacher's local graphs.

The most salient nodes are queries. Each is joined with its K nearest nodes in the teacher's feature space; teacher and
student embed the same edges with an adapter each, and the embeddings are compared, salient queries weighing more.

``PRESET: official`` is the published code to the number (commit a5dc465), which treats each kind of node in its own way
(``OFFICIAL``): pillars, the BEV maps of SECOND, the points of PointRCNN. Its PointPillars for nuScenes are the BEV way
with ``WEIGHTING: none``; what it does with its option ``reweight`` off is ``WEIGHTING: none, DISTANCE: frobenius``.

``PRESET: default`` mends what is wrong with it: frames are not mixed, weights follow a normalised score instead of
falling on the fullest pillars alone, and the teacher's adapter is fixed. The published one is trained with the
student's: both can learn to put out zeros, and then do, with the loss at zero and nothing learned. With the fixed one,
standardised, a student that knows nothing stays at a loss of 1, and 1 - loss is the explained share of the teacher's
variance.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from ...models.model_utils.precision import at_least_float32
from ...models.taps import TapInfo
from ...ops.knn import frames_of, knn
from ..nodes import NodeFeatures
from .base import DistillLoss
from .edges import ELEMENT_DISTANCES, EdgeAdapter, EdgeComparison, sum_over_edges
from .graph_options import GraphOptions, graph_options

FROBENIUS_FACTOR, PUBLISHED_FACTOR = 5e-4, 2.0
WATCH_EVERY, WATCH_QUERIES, DEAD_LOOKS = 20, 64, 2  # one look alone may have met an empty frame
DEAD_SPREAD, DEAD_SHARE = 0.05, 0.9  # normalised outputs of live channels spread over about 5
log = logging.getLogger(__name__)


class GraphDistillLoss(DistillLoss):
    """PointDistiller's local distillation between matched nodes."""

    def __init__(
        self, student_channels: int, teacher_channels: int, options: GraphOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options = options or GraphOptions()
        trained, identity = options.teacher_adapter == "trained", options.teacher_adapter == "none"
        width = 2 * teacher_channels if identity else int(options.embed_dim)
        self.teacher_adapter = EdgeAdapter(
            teacher_channels, width, edge=options.edge, learned=trained, identity=identity
        )
        self.student_adapter = EdgeAdapter(student_channels, width, edge=options.edge, learned=True)
        distance = options.distance if options.distance in ELEMENT_DISTANCES else "mse"
        self.comparison = EdgeComparison(trained, options.pool, distance)
        self.width, self.calls, self.warned = width, 0, set[str]()
        self.dead_looks = {"teacher": 0, "student": 0}

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str
    ) -> GraphDistillLoss:
        return cls(student.channels, teacher.channels, graph_options(cfg, student, where))

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]
    ) -> Tensor:
        return self.compare(student, teacher, self.choose_queries(teacher))

    def score(self, teacher: NodeFeatures) -> Tensor:
        """How much each node (N,) matters."""
        if self.options.score == "channel_max":
            return teacher.features.detach().amax(dim=1)
        if self.options.score == "norm":
            return teacher.features.detach().norm(dim=1)
        if self.options.score == "saliency":
            return teacher.saliency
        if teacher.objectness is None:
            raise DataError(
                "GraphDistillLoss: SCORE is objectness, but the teacher's nodes carry none; "
                "see with_objectness in distill/nodes.py"
            )
        return teacher.objectness

    @torch.no_grad()
    def choose_queries(self, teacher: NodeFeatures) -> Tensor:
        """Rows (M,) of the queries: NUM_NODES of each frame, or all when it has fewer."""
        score, options = self.score(teacher), self.options
        if options.sampling == "random":
            score = torch.rand(len(teacher), device=score.device)
        chosen = [score.new_zeros(0, dtype=torch.long)]
        for rows in self._groups(teacher.batch_index):
            wanted = (
                math.ceil(options.num_nodes * len(rows))
                if options.num_nodes < 1
                else int(options.num_nodes)
            )
            best = score[rows].topk(
                min(wanted, len(rows)), largest=options.sampling != "bottom", sorted=False
            )[1]
            chosen.append(rows[best])
        return torch.cat(chosen)

    def compare(self, student: NodeFeatures, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """The loss over the given queries (M,), rows of both."""
        if len(queries) == 0:
            return self.zero_loss(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            own, other = (
                at_least_float32(student.features),
                at_least_float32(teacher.features.detach()),
            )
            neighbours = self._neighbours(other, teacher, queries)
            weights = self._weights(
                self.score(teacher)[queries].to(other.dtype), teacher.batch_index[queries]
            )
            rows, queries, neighbours = _occurring(len(teacher), queries, neighbours)
            student_edges = self.student_adapter(own.index_select(0, rows), queries, neighbours)
            teacher_edges = self.teacher_adapter(other.index_select(0, rows), queries, neighbours)
            self._watch(neighbours, teacher_edges, student_edges)
            total = sum_over_edges(
                self.comparison, neighbours, weights, teacher_edges, student_edges
            )
            return self._scale(total, neighbours)

    def _groups(self, batch_index: Tensor) -> list[Tensor]:
        """Rows that are looked at together: one group per frame, or one in all."""
        if self.options.mix_frames:
            return [torch.arange(len(batch_index), device=batch_index.device)]
        return list(frames_of(batch_index))

    def _neighbours(self, features: Tensor, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """(M, K) rows of the nodes nearest to each query; no more than the fullest frame has."""
        points = teacher.coords if self.options.neighbor_space == "metres" else features
        count = min(
            int(self.options.num_neighbors), max(map(len, self._groups(teacher.batch_index)))
        )
        if self.options.mix_frames:
            return knn(points[queries], points, count)
        return knn(
            points[queries], points, count, teacher.batch_index[queries], teacher.batch_index
        )

    @torch.no_grad()
    def _weights(self, score: Tensor, batch_index: Tensor) -> Tensor | None:
        """(M,), from a softmax with mean 1 over each group; logs how evenly they are spread, 1 = all equal."""
        if self.options.weighting == "none":
            return None
        if self.options.weighting == "batch_size":
            return (batch_index.max() + 1).to(score.dtype).expand(len(score))
        weights, entropies = torch.empty_like(score), []
        for rows in self._groups(batch_index):
            group = score[rows]
            if self.options.weighting == "softmax":
                group = (group - group.min()) / (group.max() - group.min()).clamp_min(
                    torch.finfo(group.dtype).tiny
                )
            share = torch.softmax(group / self.options.temperature, dim=0)
            weights[rows] = share * len(rows)
            entropies.append(torch.special.entr(share).sum() / math.log(max(len(rows), 2)))
        self.logs["entropy"] = torch.stack(entropies).mean()
        return weights

    def _scale(self, total: Tensor, neighbours: Tensor) -> Tensor:
        """From the sum over edges to the loss."""
        count = len(neighbours) * self.comparison.terms_per_query(neighbours.shape[1], self.width)
        if self.options.distance == "frobenius":
            return FROBENIUS_FACTOR * total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()
        return (PUBLISHED_FACTOR if self.options.distance == "published" else 1.0) * total / count

    @torch.no_grad()
    def _watch(self, neighbours: Tensor, *sides: tuple[Tensor, Tensor]) -> None:
        """Now and then: the share of each adapter's channels that say nothing, on a few queries."""
        self.calls += 1
        if self.calls % WATCH_EVERY != 1:
            return
        picked = torch.linspace(0, len(neighbours) - 1, min(len(neighbours), WATCH_QUERIES)).long()
        picked = picked.to(neighbours.device)
        for name, (nodes, centres) in zip(("teacher", "student"), sides):
            edges = self.comparison.embed(nodes[neighbours[picked]], centres[picked]).flatten(0, 1)
            dead = float((edges.amax(dim=0) - edges.amin(dim=0) < DEAD_SPREAD).float().mean())
            self.logs[f"dead_{name}"] = dead
            is_dead = dead >= DEAD_SHARE and len(edges) > 1
            self.dead_looks[name] = self.dead_looks[name] + 1 if is_dead else 0
            if self.dead_looks[name] == DEAD_LOOKS and name not in self.warned:
                self.warned.add(name)
                log.warning(
                    "GraphDistillLoss: %.0f %% of the channels of the %s's adapter are constant; "
                    "this term no longer teaches anything",
                    100 * dead,
                    name,
                )


def _occurring(count: int, queries: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (R,) of the ``count`` nodes that are in the graph, and queries (M,) and neighbours (M, K) counted in them.

    Of a map with 50,000 cells a few thousand are: the others need no adapter.
    """
    used = torch.zeros(count, dtype=torch.bool, device=queries.device)
    used[queries] = True
    used[neighbours.flatten()] = True
    place = used.cumsum(dim=0) - 1
    return torch.nonzero(used).flatten(), place[queries], place[neighbours]
