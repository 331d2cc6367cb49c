"""Relations within objects: how the nodes in and around one object differ from each other.

Written for this library, after what was learned from PointDistiller's local graphs. Their edges are
linear in both nodes once the teacher's adapter is fixed, and neighbours in feature space are nearly
equal. So that loss compares nodes, whatever the number of neighbours. Here the neighbours spread
over one object and its surroundings, and what is compared cannot be said node by node:

    L = NODE_WEIGHT * mean over objects and their nodes i of |A s_i - t_i|^2 / channels
      + RELATION_WEIGHT * mean over objects of D

The nodes of an object are those in its labelled box, grown by MARGIN_M. t is the teacher's feature,
each channel standardised by statistics of the first batches. A is a learned 1x1 convolution.

D is the distance between relations of student and teacher. NUM_NEIGHBORS nodes of the object are
related, evenly spaced from its centre to its surroundings:

    difference    mean of 1 - cos(A s_j - A s_k, t_j - t_k), weighted by |t_j - t_k|^2
    affinity      1 - CKA: the similarities s_j . s_k, centred and normalised, against those of t
    attention     mean over j of KL(a_t | a_s), a_s = softmax over k of cos(s_j, s_k) / TEMPERATURE,
                  features centred on the mean of the object

``relations.py`` has the full formulas. ``affinity`` is the centred kernel alignment of Kornblith et
al. (ICML 2019), with products as its kernel.

NUM_NEIGHBORS: 1 is the control. A node alone has no relation: the first line of L remains, over the
same nodes. A claim about relations has to beat it at the same share of the gradient.

SCORE: objectness weighs each object by the largest class score of the teacher in its region. An
object that the teacher does not detect is a bad example.

Departures: the papers relate the images of a batch, this loss the nodes of one object.

* ``difference``: Relational Knowledge Distillation (Park et al., CVPR 2019) compares the angles of
  triples, the student's with the teacher's, by a Huber loss. Here the student's differences are
  turned towards the teacher's, which fixes all angles and needs A.
* ``affinity``: the paper measures how alike two networks are, and trains nothing. Tung and Mori
  (ICCV 2019) train with squared differences of similarities that are not centred.
* ``attention``: Probabilistic Knowledge Transfer (Passalis and Tefas, ECCV 2018) divides
  (cos + 1) / 2 by its sum in place of the softmax, and centres nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...config import option
from ...errors import ConfigError
from ...models.taps import TapInfo
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures
from .features import score_of, with_score
from .imitation import ImitationLoss
from .node_details import NodeDetails
from .object_graphs import ObjectGraphs, object_graphs
from .relations import relation_distance

RELATIONS = ("difference", "affinity", "attention")


@dataclasses.dataclass(frozen=True)
class GraphRelationOptions:
    """Which nodes are related, and how."""

    relation: str = option(
        "difference",
        choices=RELATIONS,
        help="what is compared between the nodes of an object. difference: the directions of their "
        "differences. affinity: centred, normalised similarities (CKA). attention: a softmax of "
        "similarities",
    )
    num_neighbors: int = option(
        16,
        above=0,
        help="nodes of each object that are related; 1 is the control without relations",
    )
    margin_m: float = option(
        1.0, at_least=0, help="metres by which an object's region exceeds its box on each side"
    )
    node_weight: float = option(1.0, at_least=0, help="weight of the distance between nodes")
    relation_weight: float = option(
        1.0, at_least=0, help="weight of the distance between relations"
    )
    temperature: float = option(
        0.2, above=0, help="of the softmax of RELATION: attention; a small one attends to few nodes"
    )
    score: str = option(
        "objectness",
        choices=("none", "objectness"),
        help="weights of the objects. none: equal, also by default for a teacher that publishes no "
        "class scores. objectness: the largest class score of the teacher's head in the object's "
        "region",
    )


class GraphRelationLoss(ImitationLoss):
    """Distance between nodes in and around objects, and between their relations."""

    options_class = GraphRelationOptions

    options: GraphRelationOptions

    def __init__(
        self, student: TapInfo, teacher: TapInfo, options: GraphRelationOptions | None = None
    ) -> None:
        options = options or GraphRelationOptions()
        # Without channels to compare there is no adapter: it could absorb the difference.
        adapted = options.node_weight > 0 or options.relation == "difference"
        super().__init__(student, teacher, options, adapted=adapted)
        self.relation_distance = relation_distance(options.relation, options.temperature)

    @classmethod
    def with_input_keys(cls, cfg: ConfigDict, teacher_has_scores: bool) -> ConfigDict:
        """With SCORE: the objectness, if the teacher publishes class scores."""
        return with_score(cfg, teacher_has_scores, otherwise="none")

    @classmethod
    def options_from_config(
        cls, cfg: ConfigDict, student: TapInfo, teacher: TapInfo, where: str
    ) -> GraphRelationOptions:
        """The options in ``cfg``; a loss that would always be zero is refused."""
        options = super().options_from_config(cfg, student, teacher, where)
        has_relations = options.num_neighbors > 1 and options.relation_weight > 0
        if options.node_weight == 0 and not has_relations:
            raise ConfigError(
                f"{where}.NODE_WEIGHT: 0 leaves nothing to compare; expected a number above 0, or "
                "NUM_NEIGHBORS above 1 with RELATION_WEIGHT above 0"
            )
        if options.relation != "attention" and "TEMPERATURE" in cfg:
            raise ConfigError(
                f"{where}.TEMPERATURE: has no effect with RELATION: {options.relation}; "
                "remove one of them"
            )
        return options

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes. Logs the number of objects."""
        graphs = self.graphs(teacher, batch_dict)
        self.logs["objects"] = float(len(graphs))
        if len(graphs) == 0:
            return self.zero_loss(student.features)
        weights = self._object_weights(teacher, graphs)
        member_weights = (weights / graphs.sizes())[graphs.owners]
        self.observe(teacher.features[graphs.members], member_weights)
        return self._compare(student.features, teacher.features, graphs, weights)

    def graphs(self, teacher: NodeFeatures, batch_dict: BatchDict) -> ObjectGraphs:
        """The nodes in and around every labelled object."""
        return object_graphs(
            teacher.coords,
            teacher.batch_index,
            batch_dict["gt_boxes"],
            margin_m=self.options.margin_m,
            count=self.options.num_neighbors,
        )

    @torch.no_grad()
    def details(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> NodeDetails:
        """Weights of the members, and of each its own distance and a part of its relations.

        A relation belongs to all related nodes of its object. Each gets the same part of it. The
        query of a graph is the innermost of its nodes.
        """
        graphs = self.graphs(teacher, batch_dict)
        nothing = student.features.new_zeros(len(student))
        if len(graphs) == 0:
            return NodeDetails.of_nodes(nothing, nothing)
        object_weights = self._object_weights(teacher, graphs).to(nothing.dtype)
        member_weights = (object_weights / graphs.sizes())[graphs.owners]
        values = nothing
        if self.options.node_weight > 0:
            members = graphs.members
            distances = self.distance(student.features[members], teacher.features[members])
            parts = self.options.node_weight * member_weights * distances
            values = values.index_add(0, members, parts)
        if self.options.relation_weight > 0 and self.options.num_neighbors > 1:
            distances = self._relation_distances(student.features, teacher.features, graphs)
            parts = self.options.relation_weight * object_weights * distances
            each = (parts / graphs.is_valid.sum(dim=1))[:, None].expand(graphs.rows.shape)
            values = values.index_add(0, graphs.rows[graphs.is_valid], each[graphs.is_valid])
        return NodeDetails(
            weights=nothing.index_add(0, graphs.members, member_weights),
            values=values,
            queries=graphs.rows[:, 0],
            neighbours=graphs.rows,
            is_neighbour=graphs.is_valid,
        )

    @torch.no_grad()
    def _object_weights(self, teacher: NodeFeatures, graphs: ObjectGraphs) -> Tensor:
        """(G,) how much each object counts; their sum is 1."""
        weights = torch.ones(len(graphs), device=teacher.features.device)
        if self.options.score == "objectness":
            scores = score_of(teacher, "objectness")[graphs.members]
            weights = torch.zeros_like(weights).scatter_reduce(
                0, graphs.owners, scores.to(weights.dtype), reduce="amax", include_self=False
            )
        return weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def _compare(
        self, student: Tensor, teacher: Tensor, graphs: ObjectGraphs, weights: Tensor
    ) -> Tensor:
        """The loss between features (N, C_s) and (N, C_t), for objects with ``weights`` (G,)."""
        options = self.options
        total = student.new_zeros(())
        if options.node_weight > 0:
            nodes = (weights * self._node_distances(student, teacher, graphs)).sum()
            self.logs["nodes"] = nodes.detach()
            total = total + options.node_weight * nodes
        if options.relation_weight > 0 and options.num_neighbors > 1:
            relations = (weights * self._relation_distances(student, teacher, graphs)).sum()
            self.logs["relations"] = relations.detach()
            total = total + options.relation_weight * relations
        return total

    def _node_distances(self, student: Tensor, teacher: Tensor, graphs: ObjectGraphs) -> Tensor:
        """(G,) mean squared error of the student's prediction of the nodes of each object."""
        errors = self.distance(student[graphs.members], teacher[graphs.members])
        sums = errors.new_zeros(len(graphs)).index_add(0, graphs.owners, errors)
        return sums / graphs.sizes()

    def _relation_distances(self, student: Tensor, teacher: Tensor, graphs: ObjectGraphs) -> Tensor:
        """(G,) distance between the relations within each object."""
        related = student[graphs.rows]
        if self.options.relation == "difference":
            related = self.adapt(related)
        return self.relation_distance(related, self.target(teacher[graphs.rows]), graphs.is_valid)
