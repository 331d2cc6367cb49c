"""The nodes of one term, as its own loss chooses, weighs and compares them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ...distill import Distiller, DistillTerm, NodeFeatures, NodeLoss, Predictions, match_nodes
from ...distill.distiller import BothModels
from ...distill.losses.node_details import NodeDetails
from ...distill.term_inputs import NodeInput
from ...types import BatchDict
from .sides import Side


@dataclasses.dataclass(frozen=True)
class TermNodes:
    """What one term compares in one frame, for one student.

    Attributes:
        student, teacher: matched nodes; row i of both is the same place.
        details: what the loss does at single nodes; None for a loss that does not tell.
        loss: its value without WEIGHT; None without trained adapters.
        pull: (N,) length of the loss's gradient at each node of the student; None likewise.
    """

    student: NodeFeatures
    teacher: NodeFeatures
    details: NodeDetails | None
    loss: float | None
    pull: Tensor | None


@dataclasses.dataclass(frozen=True)
class PredictionPlaces:
    """What a term on predictions does in one frame: places (P, 2), and the pull of each (P,)."""

    coords: Tensor
    pull: Tensor
    loss: float


@dataclasses.dataclass
class FrameOfSide:
    """One student and the teacher on one frame.

    Attributes:
        batch_dict: the student's batch after its run.
        boxes, scores, labels: of the student, (K, 7 + C), (K,), (K,) from 1.
        nodes: by the name of the term.
        places: of terms on predictions.
    """

    batch_dict: BatchDict
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    nodes: dict[str, TermNodes] = dataclasses.field(default_factory=dict)
    places: dict[str, PredictionPlaces] = dataclasses.field(default_factory=dict)


def look_at(side: Side, batch: BatchDict) -> FrameOfSide:
    """Run teacher and student of a side on a batch of one frame."""
    distiller = side.distiller
    with torch.no_grad():
        both = distiller.run_both(batch)
    found = both.student_output[0][0]
    frame = FrameOfSide(
        both.batch_dict, found["pred_boxes"], found["pred_scores"], found["pred_labels"]
    )
    for name, term in distiller.head.named_terms():
        if isinstance(term.student, NodeInput):
            frame.nodes[name] = nodes_of(term, both, has_adapters=side.has_adapters)
        elif term.teacher.paths or not term.student.reads_taps:
            frame.places[name] = places_of(term, both)
    return frame


def matched_nodes(side: Side, batch: BatchDict, names: Sequence[str]) -> dict[str, TermNodes]:
    """The matched nodes of some terms, without what their losses do."""
    with torch.no_grad():
        both = side.distiller.run_both(batch)
    terms = dict(side.distiller.head.named_terms())
    found = {}
    for name in names:
        student, teacher = match_nodes(*read(terms[name], both))
        found[name] = TermNodes(student.detach(), teacher, None, None, None)
    return found


def nodes_of(term: DistillTerm, both: BothModels, *, has_adapters: bool) -> TermNodes:
    """The matched nodes of a term with everything that its loss tells about them."""
    student, teacher = read(term, both)
    leaf = student.features.detach().clone().requires_grad_()
    loss = pull = None
    if has_adapters:
        loss, (gradient,) = loss_and_gradients(
            term, dataclasses.replace(student, features=leaf), teacher, [leaf], both.batch_dict
        )
        pull = gradient.norm(dim=1)
    if pull is not None:
        # The rows of the matched student, with the pull in place of the features.
        pulled = dataclasses.replace(student, features=pull[:, None])
        pull = match_nodes(pulled, teacher)[0].features[:, 0]
    student, teacher = match_nodes(student, teacher)
    details = None
    if isinstance(term.loss, NodeLoss) and len(student):
        details = term.loss.details(
            student.at_least_float32(), teacher.at_least_float32(), both.batch_dict
        )
    return TermNodes(student.detach(), teacher, details, loss, pull)


def places_of(term: DistillTerm, both: BothModels) -> PredictionPlaces:
    """Where a term on predictions pulls at the student's scores and boxes."""
    student, teacher = read(term, both)
    assert isinstance(student, Predictions)
    logits = student.logits.detach().clone().requires_grad_()
    codes = student.codes.detach().clone().requires_grad_()
    learning = dataclasses.replace(student, logits=logits, codes=codes)
    loss, gradients = loss_and_gradients(term, learning, teacher, [logits, codes], both.batch_dict)
    squares = sum(gradient.square().sum(dim=1) for gradient in gradients)
    assert isinstance(squares, Tensor)
    return PredictionPlaces(student.coords[:, :2], squares.sqrt(), loss)


def read(term: DistillTerm, both: BothModels) -> tuple[NodeFeatures, NodeFeatures]:
    """Student and teacher of a term, in the form that is matched."""
    with torch.no_grad():
        return term.read(
            both.student_features,
            both.teacher.features,
            both.batch_dict,
            both.teacher.batch_dict,
        )


def loss_and_gradients(
    term: DistillTerm,
    student: NodeFeatures | Predictions,
    teacher: NodeFeatures | Predictions,
    leaves: list[Tensor],
    batch_dict: BatchDict,
) -> tuple[float, list[Tensor]]:
    """The loss of a term without WEIGHT, and its gradient at the student's ``leaves``."""
    with torch.enable_grad():
        loss = term.compare(student, teacher, batch_dict)
        gradients: list[Tensor | None] = [None] * len(leaves)
        if loss.requires_grad:
            gradients = list(torch.autograd.grad(loss, leaves, allow_unused=True))
    filled = []
    for leaf, gradient in zip(leaves, gradients):
        filled.append(torch.zeros_like(leaf) if gradient is None else gradient.detach())
    return float(loss.detach()), filled


def teacher_boxes(distiller: Distiller, batch: BatchDict) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of the teacher, of the student's classes."""
    found = distiller.teacher.predict(batch)[0]
    return found["pred_boxes"], found["pred_scores"], found["pred_labels"]
