"""Fit the spaces of every term on frames that are not shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...distill import DistillTerm
from ...distill.term_inputs import NodeInput
from ...types import BatchDict
from .features import FittedSpace, LossSpace, TermSpaces, common_space, labels_of
from .frames import Frame
from .sides import Side, Sides
from .spaces import ColourBasis, LinearMap, Moments, Standardiser, balanced, on_objects
from .terms import TermNodes, matched_nodes


class TermFit:
    """The moments of one term over all frames so far."""

    def __init__(self, term: DistillTerm) -> None:
        self.term = term
        self.together: dict[str, Moments] = {}  # of [student ; teacher], by side
        self.student_channels: dict[str, int] = {}
        self.of_target: Moments | None = None

    def add(self, side: Side, nodes: TermNodes, batch: BatchDict, *, with_target: bool) -> None:
        """Take in one frame of one side; the target of the loss is taken from one side only."""
        weights = balanced(on_objects(nodes.teacher, labels_of(batch)))
        student = nodes.student.features
        rows = torch.cat([student.float(), nodes.teacher.features.float()], dim=1)
        moments = Moments.of(rows, weights)
        known = self.together.get(side.name)
        self.together[side.name] = moments if known is None else known + moments
        self.student_channels[side.name] = student.shape[1]
        space = common_space(self.term, nodes) if with_target else None
        if space is not None:
            target = Moments.of(space[1], weights)
            self.of_target = target if self.of_target is None else self.of_target + target

    def spaces(self) -> TermSpaces:
        """The fitted space, and that of the loss if it was taken in."""
        maps = {}
        for name, moments in self.together.items():
            maps[name] = LinearMap.fit(moments, self.student_channels[name])
        name, moments = next(iter(self.together.items()))
        teacher = moments.channels_from(self.student_channels[name])
        basis = ColourBasis.of(teacher.standardised())
        fitted = FittedSpace(Standardiser.of(teacher), basis, maps)
        if self.of_target is None:
            return TermSpaces(fitted, None)
        return TermSpaces(fitted, LossSpace(self.term, ColourBasis.of(self.of_target)))


def fit_spaces(
    sides: Sides, frames: Sequence[Frame], device: torch.device
) -> dict[str, TermSpaces]:
    """The spaces of every term that has nodes, by its name."""
    fits = {}
    for name, term in sides.after.distiller.head.named_terms():
        if isinstance(term.student, NodeInput):
            fits[name] = TermFit(term)
    for frame in frames if fits else []:
        batch = frame.batch(device)
        for side in sides.both:
            with_target = side is sides.after and side.has_adapters
            for name, nodes in matched_nodes(side, batch, list(fits)).items():
                fits[name].add(side, nodes, batch, with_target=with_target)
    return {name: fit.spaces() for name, fit in fits.items()}
