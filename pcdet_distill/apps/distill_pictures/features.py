"""The features of one term in one frame: colours, distances, and what they say in numbers."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...distill import DistillTerm, NodeFeatures
from ...distill.losses import MapLoss, NodeLoss
from ...distill.losses.collapse import DEAD_DEVIATION
from ...distill.node_matching import points_in_cells
from ...types import BatchDict
from .sides import Side
from .spaces import (
    ColourBasis,
    LinearMap,
    Moments,
    Standardiser,
    cosine,
    distance,
    on_objects,
)
from .terms import TermNodes

Regions = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class FeatureView:
    """One student beside the teacher, in one space, in one frame.

    Attributes:
        nodes: where the N features stand.
        teacher_colours, student_colours: (N, 3) on the teacher's components.
        distances: (N,), 1 is as far as the teacher's mean.
        cosines: (N,).
    """

    nodes: NodeFeatures
    teacher_colours: Tensor
    student_colours: Tensor
    distances: Tensor
    cosines: Tensor


@dataclasses.dataclass(frozen=True)
class FittedSpace:
    """The teacher's standardised features, and the best linear map of each student to them."""

    standardise: Standardiser
    basis: ColourBasis
    maps: dict[str, LinearMap]  # by the name of the side

    def features(self, nodes: TermNodes, side_name: str) -> tuple[Tensor, Tensor]:
        """A student behind its fitted map, and the teacher, both (N, C_t) and standardised."""
        teacher = self.standardise(nodes.teacher.features)
        student = self.standardise(self.maps[side_name](nodes.student.features))
        return student, teacher

    def view(self, side: Side, nodes: TermNodes) -> FeatureView:
        """A student behind its fitted map."""
        return view_of(nodes, *self.features(nodes, side.name), self.basis)


@dataclasses.dataclass(frozen=True)
class LossSpace:
    """The space in which the loss itself compares, behind the trained adapters."""

    term: DistillTerm
    basis: ColourBasis

    def view(self, nodes: TermNodes) -> FeatureView:
        """The student behind its adapter."""
        return view_of(nodes, *self.features(nodes), self.basis)

    def features(self, nodes: TermNodes) -> tuple[Tensor, Tensor]:
        """Student and teacher, both (N, D)."""
        space = common_space(self.term, nodes)
        assert space is not None
        return space


@dataclasses.dataclass(frozen=True)
class TermSpaces:
    """How the features of one term are compared; ``of_loss`` is None without adapters."""

    fitted: FittedSpace
    of_loss: LossSpace | None


def view_of(nodes: TermNodes, student: Tensor, teacher: Tensor, basis: ColourBasis) -> FeatureView:
    """Colours and distances of features (N, D) in one space."""
    return FeatureView(
        nodes=nodes.teacher,
        teacher_colours=basis.colours(teacher),
        student_colours=basis.colours(student),
        distances=distance(student, teacher, basis.variance),
        cosines=cosine(student, teacher, basis.mean),
    )


def common_space(term: DistillTerm, nodes: TermNodes) -> tuple[Tensor, Tensor] | None:
    """Student and teacher as the loss compares them; None for a loss without an adapter."""
    if not isinstance(term.loss, (NodeLoss, MapLoss)):
        return None
    with torch.no_grad():
        return term.loss.common_space(
            nodes.student.features.float(), nodes.teacher.features.float()
        )


def labels_of(batch: BatchDict) -> Tensor:
    """(G, 7 + C + 1) the labelled boxes of a batch of one frame, without padding."""
    boxes = batch.get("gt_boxes")
    if boxes is None:
        return torch.zeros(0, 8)
    return boxes[0][boxes[0][:, 3] > 0]


def regions_of(nodes: NodeFeatures, batch: BatchDict, weights: Tensor | None) -> Regions:
    """Parts of a frame over which numbers are averaged, as (N,) masks."""
    regions: Regions = {}
    if weights is not None and bool((weights > 0).any()):
        regions["nodes that the loss compares"] = weights > 0
    regions["on labelled objects"] = on_objects(nodes, labels_of(batch))
    if nodes.grid is not None:
        has_points = points_in_cells(nodes, batch["points"]) > 0
        regions["other cells with points"] = has_points & ~regions["on labelled objects"]
        regions["cells without points"] = ~has_points & ~regions["on labelled objects"]
    regions["all nodes"] = torch.ones(len(nodes), dtype=torch.bool, device=nodes.coords.device)
    return {name: mask for name, mask in regions.items() if bool(mask.any())}


def constant_share(features: Tensor, weights: Tensor) -> float:
    """Share of the channels of features (N, D) that hardly vary over nodes with weights (N,).

    By the measure of the training's monitor: a standard deviation below ``DEAD_DEVIATION``.
    """
    moments = Moments.of(features, weights)
    deviation = moments.covariance().diagonal().clamp_min(0).sqrt()
    return float((deviation < DEAD_DEVIATION).double().mean())


def mean_of(values: Tensor, mask: Tensor) -> float:
    """Mean of values (N,) where the mask is set."""
    return float(values[mask].double().mean())
