"""Features as colours on the teacher's components, and distances between student and teacher.

Student and teacher have different channels. Two ways lead to a common space:

* the loss's own: the student behind its trained adapter, the teacher as the loss's target;
* a fitted one: the linear map of the student's features that comes nearest to the teacher's, fitted
  by least squares on other frames. It needs no adapter, so it compares any two students fairly.

In either space the colours are the first three principal components of the TEACHER's features. The
student's features are drawn with the same mean, directions and scale: equal colours are equal
features.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...distill import NodeFeatures
from ...ops.boxes import along_and_across

COLOURS = 3
SPREADS = 2.5  # standard deviations of a component from mid-grey to full colour
RIDGE = 1e-4  # of the mean variance of the student's channels, so that constant ones do no harm
MARGIN_M = 0.5  # by which the region of an object exceeds its box
SMALLEST = 1e-12


@dataclasses.dataclass
class Moments:
    """Weighted sums of rows (N, C): their mean and covariance in float64."""

    weight: float
    sums: Tensor
    products: Tensor

    @classmethod
    def of(cls, rows: Tensor, weights: Tensor) -> Moments:
        """Of rows (N, C) with weights (N,)."""
        rows = rows.double()
        weighted = rows * weights.double()[:, None]
        return cls(float(weights.sum()), weighted.sum(dim=0), weighted.t() @ rows)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.weight + other.weight, self.sums + other.sums, self.products + other.products
        )

    def mean(self) -> Tensor:
        """(C,)."""
        return self.sums / max(self.weight, SMALLEST)

    def covariance(self) -> Tensor:
        """(C, C)."""
        mean = self.mean()
        return self.products / max(self.weight, SMALLEST) - mean[:, None] * mean[None]

    def channels_from(self, first: int) -> Moments:
        """Of the same rows without their channels before ``first``."""
        return Moments(self.weight, self.sums[first:], self.products[first:, first:])

    def standardised(self) -> Moments:
        """Of the same rows, each channel with mean 0 and spread 1."""
        spread = Standardiser.of(self).spread.double()
        covariance = self.covariance() / (spread[:, None] * spread[None])
        return Moments(self.weight, torch.zeros_like(self.sums), covariance * self.weight)


@dataclasses.dataclass(frozen=True)
class ColourBasis:
    """The first principal components of the teacher, and how far its features spread along them.

    Attributes:
        mean: (D,).
        directions: (3, D), orthonormal.
        spreads: (3,) standard deviations.
        explained: share of the variance that the three hold.
        variance: mean over channels.
    """

    mean: Tensor
    directions: Tensor
    spreads: Tensor
    explained: float
    variance: float

    @classmethod
    def of(cls, moments: Moments) -> ColourBasis:
        """Of the teacher's features. A direction points to where its largest entry is positive."""
        covariance = moments.covariance()
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp_min(0)
        directions = vectors.t().flip(0)[:COLOURS]
        if len(directions) < COLOURS:
            missing = directions.new_zeros(COLOURS - len(directions), directions.shape[1])
            directions = torch.cat([directions, missing])
        largest = directions.abs().argmax(dim=1, keepdim=True)
        signs = directions.gather(1, largest).sign()
        directions = directions * torch.where(signs == 0, torch.ones_like(signs), signs)
        first = values.flip(0)[:COLOURS]
        spreads = torch.cat([first, first.new_zeros(COLOURS - len(first))]).sqrt()
        total = float(values.sum())
        return cls(
            mean=moments.mean().float(),
            directions=directions.float(),
            spreads=spreads.float(),
            explained=float(first.sum()) / max(total, SMALLEST),
            variance=total / len(values),
        )

    def components(self, features: Tensor) -> Tensor:
        """(N, 3) places of features (N, D) along the directions."""
        return (features.float() - self.mean) @ self.directions.t()

    def colours(self, features: Tensor) -> Tensor:
        """(N, 3) red, green, blue in 0..1; the teacher's mean is mid-grey."""
        scale = 2 * SPREADS * self.spreads.clamp_min(SMALLEST**0.5)
        return (0.5 + self.components(features) / scale).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """The least-squares prediction of the teacher's features from the student's."""

    student_mean: Tensor
    teacher_mean: Tensor
    weight: Tensor  # (C_s, C_t)

    @classmethod
    def fit(cls, together: Moments, student_channels: int) -> LinearMap:
        """From moments of rows [student ; teacher]."""
        mean = together.mean()
        covariance = together.covariance()
        own = covariance[:student_channels, :student_channels]
        across = covariance[:student_channels, student_channels:]
        size = own.diagonal().mean().clamp_min(SMALLEST)
        ridge = RIDGE * size * torch.eye(len(own), dtype=own.dtype, device=own.device)
        weight = torch.linalg.solve(own + ridge, across)
        student_mean = mean[:student_channels].float()
        return cls(student_mean, mean[student_channels:].float(), weight.float())

    def __call__(self, student: Tensor) -> Tensor:
        """(N, C_t) of features (N, C_s)."""
        return (student.float() - self.student_mean) @ self.weight + self.teacher_mean


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """Each of the teacher's channels with mean 0 and spread 1 over the fitted frames."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Standardiser:
        """A channel that never changes becomes 0."""
        variance = moments.covariance().diagonal()
        spread = variance.clamp_min(SMALLEST).sqrt()
        spread = torch.where(variance > SMALLEST, spread, torch.full_like(spread, torch.inf))
        return cls(moments.mean().float(), spread.float())

    def __call__(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.spread


def distance(student: Tensor, teacher: Tensor, variance: float) -> Tensor:
    """(N,) mean squared difference over the channels, in units of the teacher's variance.

    0 is equal; 1 is as far as the teacher's mean, that is, as a student that knows nothing.
    """
    return (student - teacher).square().mean(dim=1) / max(variance, SMALLEST)


def cosine(student: Tensor, teacher: Tensor, mean: Tensor) -> Tensor:
    """(N,) cosine of the two features, both seen from the teacher's mean."""
    return torch.nn.functional.cosine_similarity(student - mean, teacher - mean, dim=1)


def on_objects(nodes: NodeFeatures, boxes: Tensor) -> Tensor:
    """(N,) whether a node lies in one of the boxes (G, 7), seen from above, with a margin."""
    if len(boxes) == 0:
        return torch.zeros(len(nodes), dtype=torch.bool, device=nodes.coords.device)
    boxes = boxes[:, :7].to(nodes.coords)
    along, across = along_and_across(nodes.coords[:, :2], boxes)
    half_length = boxes[:, 3:4] / 2 + MARGIN_M
    half_width = boxes[:, 4:5] / 2 + MARGIN_M
    return ((along.abs() <= half_length) & (across.abs() <= half_width)).any(dim=0)


def balanced(is_object: Tensor) -> Tensor:
    """Weights (N,): nodes on objects and all others count half each, however few there are."""
    weights = torch.ones(len(is_object), dtype=torch.float64, device=is_object.device)
    objects = int(is_object.sum())
    others = len(is_object) - objects
    if objects and others:
        weights = torch.where(is_object, 0.5 / objects, 0.5 / others)
    else:
        weights = weights / max(len(weights), 1)
    return weights.double()
