"""The features of one term in one frame: colours, distances, and what they say in numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ...distill import DistillTerm, NodeFeatures
from ...distill.losses import MapLoss, NodeLoss
from ...distill.node_matching import points_in_cells
from ...distill.term_inputs import NodeInput
from ...types import BatchDict
from .frames import Frame
from .sides import Side, Sides
from .spaces import (
    ColourBasis,
    LinearMap,
    Moments,
    Standardiser,
    balanced,
    cosine,
    distance,
    on_objects,
)
from .terms import TermNodes, matched_nodes

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

    def view(self, side: Side, nodes: TermNodes) -> FeatureView:
        """A student behind its fitted map."""
        teacher = self.standardise(nodes.teacher.features)
        student = self.standardise(self.maps[side.name](nodes.student.features))
        return view_of(nodes, student, teacher, self.basis)


@dataclasses.dataclass(frozen=True)
class LossSpace:
    """The space in which the loss itself compares, behind the trained adapters."""

    term: DistillTerm
    basis: ColourBasis

    def view(self, nodes: TermNodes) -> FeatureView:
        """The student behind its adapter."""
        space = common_space(self.term, nodes)
        assert space is not None
        return view_of(nodes, *space, self.basis)


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


def fit_spaces(
    sides: Sides, frames: Sequence[Frame], device: torch.device
) -> dict[str, TermSpaces]:
    """Fit the spaces of every term with nodes on frames that are not shown."""
    names = [
        name
        for name, term in sides.after.distiller.head.named_terms()
        if isinstance(term.student, NodeInput)
    ]
    together: dict[tuple[str, str], Moments] = {}
    of_loss: dict[str, Moments] = {}
    channels: dict[tuple[str, str], int] = {}
    for frame in frames if names else []:
        batch = frame.batch(device)
        for side in sides.both:
            for name, nodes in matched_nodes(side, batch, names).items():
                key = (name, side.name)
                channels[key] = nodes.student.features.shape[1]
                weights = balanced(on_objects(nodes.teacher, labels_of(batch)))
                rows = torch.cat([nodes.student.features, nodes.teacher.features], dim=1)
                add(together, key, Moments.of(rows, weights))
                term = sides.after.distiller.head.terms[name]
                if side is sides.after and side.has_adapters:
                    space = common_space(term, nodes)  # type: ignore[arg-type]
                    if space is not None:
                        add(of_loss, name, Moments.of(space[1], weights))
    spaces = {}
    for name in names:
        maps = {}
        for side in sides.both:
            key = (name, side.name)
            maps[side.name] = LinearMap.fit(together[key], channels[key])
        own = channels[name, sides.after.name]
        teacher = last_channels(together[name, sides.after.name], own)
        standardise = Standardiser.of(teacher)
        fitted = FittedSpace(standardise, ColourBasis.of(standardised(teacher)), maps)
        term = sides.after.distiller.head.terms[name]
        loss_space = None
        if name in of_loss:
            loss_space = LossSpace(term, ColourBasis.of(of_loss[name]))  # type: ignore[arg-type]
        spaces[name] = TermSpaces(fitted, loss_space)
    return spaces


def add(sums: dict, key: object, moments: Moments) -> None:
    """Add the moments of one frame to those of ``key``."""
    sums[key] = sums[key] + moments if key in sums else moments


def last_channels(moments: Moments, first: int) -> Moments:
    """The moments of the channels from ``first`` on."""
    return Moments(moments.weight, moments.sums[first:], moments.products[first:, first:])


def standardised(moments: Moments) -> Moments:
    """The moments of the same rows, each channel with mean 0 and spread 1."""
    spread = Standardiser.of(moments).spread.double()
    covariance = moments.covariance() / (spread[:, None] * spread[None])
    zero = torch.zeros_like(moments.sums)
    return Moments(moments.weight, zero, covariance * moments.weight)


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


def mean_of(values: Tensor, mask: Tensor) -> float:
    """Mean of values (N,) where the mask is set."""
    return float(values[mask].double().mean())
