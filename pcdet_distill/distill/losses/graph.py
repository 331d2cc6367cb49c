"""Local distillation of PointDistiller (Zhang et al., CVPR 2023): the student learns the teacher's local graphs.

The most salient nodes are queries. Each is joined with its K nearest nodes in the teacher's feature space; teacher and
student embed the same edges with an adapter each, and the embeddings are compared, salient queries weighing more.

``PRESET: official`` is the published code to the number (commit a5dc465, pillars). ``PRESET: default`` mends what is
wrong with it: frames are not mixed, weights follow a normalised score instead of falling on the fullest pillars alone,
and the teacher's adapter is fixed. The published one is trained with the student's: both can learn to put out zeros,
and then do, with the loss at zero and nothing learned. With the fixed one, standardised, a student that knows nothing
stays at a loss of 1, and 1 - loss is the explained share of the teacher's variance.
"""
from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ...lookup import lookup
from ...models.taps import TapInfo
from ...ops.knn import frames_of, knn
from ..nodes import NodeFeatures
from .base import DistillLoss, read_options
from .edges import EDGE_FORMS, ELEMENT_DISTANCES, POOLS, EdgeAdapter, EdgeComparison, sum_over_edges

SCORES = ("saliency", "channel_max", "norm")
SAMPLINGS = ("top", "bottom", "random")
WEIGHTINGS = ("none", "softmax", "softmax_raw")
SPACES = ("feature", "metres")
TEACHER_ADAPTERS = ("trained", "frozen", "none")
FROBENIUS_FACTOR, PUBLISHED_FACTOR = 5e-4, 2.0
WATCH_EVERY, WATCH_QUERIES = 20, 64
DEAD_SPREAD, DEAD_SHARE = 0.05, 0.9  # normalised outputs of live channels spread over about 5
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Every choice of the method. In yaml the names are in capitals; the values here are ``PRESET: default``.

    Attributes:
        num_nodes: queries per frame (per batch with ``mix_frames``); a fraction of the nodes when below 1.
        num_neighbors: K; the query is its own first neighbour.
        embed_dim: D, output channels of the adapters; without effect with ``teacher_adapter: none``.
        edge: ``concat`` [neighbour ; centre], ``difference`` [centre - neighbour ; centre].
        pool: of the graph feature over the neighbours: ``none`` (edge by edge), ``max``, ``mean``.
        score: ``saliency`` (points in a voxel, channel maximum of a BEV cell), or of the teacher's feature
            ``channel_max``, ``norm``.
        sampling: which scores become queries: ``top``, ``bottom``, ``random`` (any).
        weighting: ``none``; ``softmax`` of the score scaled to 0..1 among the queries of a frame; ``softmax_raw`` of
            the score as it is. Mean 1 over the queries of a frame (of the batch with ``mix_frames``).
        temperature: of the softmax.
        distance: ``mse``, ``smooth_l1``, ``cosine``, or ``published``: twice the weighted mean square; without
            weighting 5e-4 times the Frobenius norm.
        teacher_adapter: ``trained`` as published, ReLU on both sides; ``frozen``, a random projection, standardised;
            ``none``, the student predicts the teacher's standardised edges themselves.
        neighbor_space: neighbours are near in the teacher's ``feature`` space, or in ``metres``.
        mix_frames: queries, neighbours and weights over the whole batch, as published.
    """

    num_nodes: float = 1500.0
    num_neighbors: int = 32
    embed_dim: int = 32
    edge: str = "concat"
    pool: str = "none"
    score: str = "saliency"
    sampling: str = "top"
    weighting: str = "softmax"
    temperature: float = 0.5
    distance: str = "mse"
    teacher_adapter: str = "frozen"
    neighbor_space: str = "feature"
    mix_frames: bool = False


CHOICES = {"edge": EDGE_FORMS, "pool": POOLS, "score": SCORES, "sampling": SAMPLINGS, "weighting": WEIGHTINGS,
           "distance": (*ELEMENT_DISTANCES, "published"), "teacher_adapter": TEACHER_ADAPTERS,
           "neighbor_space": SPACES}
PRESETS = {
    "default": GraphOptions(),
    "official": GraphOptions(num_nodes=6000.0, num_neighbors=128, weighting="softmax_raw", temperature=0.01,
                             distance="published", teacher_adapter="trained", mix_frames=True),
}


class GraphDistillLoss(DistillLoss):
    """PointDistiller's local distillation between matched nodes."""

    def __init__(self, student_channels: int, teacher_channels: int, options: GraphOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or GraphOptions()
        trained, identity = options.teacher_adapter == "trained", options.teacher_adapter == "none"
        width = 2 * teacher_channels if identity else int(options.embed_dim)
        self.teacher_adapter = EdgeAdapter(teacher_channels, width, edge=options.edge, learned=trained,
                                           identity=identity)
        self.student_adapter = EdgeAdapter(student_channels, width, edge=options.edge, learned=True)
        distance = "mse" if options.distance == "published" else options.distance
        self.comparison = EdgeComparison(trained, options.pool, distance)
        self.width, self.calls, self.warned = width, 0, set[str]()

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any], student: TapInfo, teacher: TapInfo, where: str) -> GraphDistillLoss:
        settings = dict(cfg)
        preset = lookup(PRESETS, settings.pop("PRESET", "default"), f"{where}.PRESET")
        options = read_options(preset, settings, where, CHOICES)
        if options.num_nodes > 1 and options.num_nodes != int(options.num_nodes):
            raise ConfigError(f"{where}.NUM_NODES: expected a whole number, or a fraction below 1, "
                              f"found {options.num_nodes}")
        if options.teacher_adapter == "none" and "EMBED_DIM" in settings:
            raise ConfigError(f"{where}.EMBED_DIM: has no effect with TEACHER_ADAPTER: none; remove one of them")
        return cls(student.channels, teacher.channels, options)

    def forward(self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: Mapping[str, Any]) -> Tensor:
        return self.compare(student, teacher, self.choose_queries(teacher))

    def score(self, teacher: NodeFeatures) -> Tensor:
        """How much each node (N,) matters."""
        if self.options.score == "channel_max":
            return teacher.features.detach().amax(dim=1)
        return teacher.features.detach().norm(dim=1) if self.options.score == "norm" else teacher.saliency

    @torch.no_grad()
    def choose_queries(self, teacher: NodeFeatures) -> Tensor:
        """Rows (M,) of the queries: NUM_NODES of each frame, or all when it has fewer."""
        score, options = self.score(teacher), self.options
        if options.sampling == "random":
            score = torch.rand(len(teacher), device=score.device)
        chosen = [score.new_zeros(0, dtype=torch.long)]
        for rows in self._groups(teacher.batch_index):
            wanted = math.ceil(options.num_nodes * len(rows)) if options.num_nodes < 1 else int(options.num_nodes)
            best = score[rows].topk(min(wanted, len(rows)), largest=options.sampling != "bottom", sorted=False)[1]
            chosen.append(rows[best])
        return torch.cat(chosen)

    def compare(self, student: NodeFeatures, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """The loss over the given queries (M,), rows of both."""
        if len(queries) == 0:
            return sum((part.sum() * 0 for part in (student.features, *self.parameters())), start=torch.zeros(()))
        with torch.autocast(student.features.device.type, enabled=False):
            features = [_full(nodes.features) for nodes in (student, teacher)]
            neighbours = self._neighbours(features[1].detach(), teacher, queries)
            student_edges = self.student_adapter(features[0], queries, neighbours)
            teacher_edges = self.teacher_adapter(features[1].detach(), queries, neighbours)
            weights = self._weights(self.score(teacher)[queries].to(features[1].dtype), teacher.batch_index[queries])
            self._watch(neighbours, teacher_edges, student_edges)
            total = sum_over_edges(self.comparison, neighbours, weights, teacher_edges, student_edges)
            return self._scale(total, neighbours)

    def _groups(self, batch_index: Tensor) -> list[Tensor]:
        """Rows that are looked at together: one group per frame, or one in all."""
        if self.options.mix_frames:
            return [torch.arange(len(batch_index), device=batch_index.device)]
        return list(frames_of(batch_index))

    def _neighbours(self, features: Tensor, teacher: NodeFeatures, queries: Tensor) -> Tensor:
        """(M, K) rows of the nodes nearest to each query."""
        points = teacher.coords if self.options.neighbor_space == "metres" else features
        if self.options.mix_frames:
            return knn(points[queries], points, int(self.options.num_neighbors))
        return knn(points[queries], points, int(self.options.num_neighbors), teacher.batch_index[queries],
                   teacher.batch_index)

    @torch.no_grad()
    def _weights(self, score: Tensor, batch_index: Tensor) -> Tensor | None:
        """(M,) with mean 1 over each group; logs how evenly they are spread, 1 = all equal."""
        if self.options.weighting == "none":
            return None
        weights, entropies = torch.empty_like(score), []
        for rows in self._groups(batch_index):
            group = score[rows]
            if self.options.weighting == "softmax":
                group = (group - group.min()) / (group.max() - group.min()).clamp_min(torch.finfo(group.dtype).tiny)
            share = torch.softmax(group / self.options.temperature, dim=0)
            weights[rows] = share * len(rows)
            entropies.append(torch.special.entr(share).sum() / math.log(max(len(rows), 2)))
        self.logs["entropy"] = torch.stack(entropies).mean()
        return weights

    def _scale(self, total: Tensor, neighbours: Tensor) -> Tensor:
        """From the sum over edges to the loss."""
        count = len(neighbours) * self.comparison.terms_per_query(neighbours.shape[1], self.width)
        if self.options.distance != "published":
            return total / count
        if self.options.weighting == "none":
            return FROBENIUS_FACTOR * total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()
        return PUBLISHED_FACTOR * total / count

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
            if dead >= DEAD_SHARE and len(edges) > 1 and name not in self.warned:
                self.warned.add(name)
                log.warning("GraphDistillLoss: %.0f %% of the channels of the %s's adapter are constant; "
                            "this term no longer teaches anything", 100 * dead, name)


def _full(features: Tensor) -> Tensor:
    """At least float32: half precision ranks neighbours and sums edges wrongly."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
