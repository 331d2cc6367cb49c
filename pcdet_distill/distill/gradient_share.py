"""The factor with which a term has a given share of the gradient, measured while training goes on.

A weight that is set before the training does not stay what it was: the gradient of one loss falls
faster than that of another. Every EVERY steps this measures

    r = |gradient of the detection loss| / |gradient of the term without its weight|

and the weight of the term is SHARE * factor, where factor follows r: its logarithm is averaged over
the measurements, of which none moves it far, and it stays within LIMIT of the first one. So a term
whose loss vanishes, as adapters that have collapsed let it, is not blown up without end.

Both gradients are taken on what the two losses share: the student's features at the taps of the
term, or the parameters of the student that the term reaches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.taps import tensors_in
from .schedule import ShareOptions

# One batch may give an outlier: a measurement counts as at most this many times the factor, or that
# part of it.
LARGEST_STEP = 4.0
# Small gradients would vanish in float16. A power of two changes no digit of the ratio.
LOSS_SCALE = 1024.0


@dataclasses.dataclass(frozen=True)
class DetectionStep:
    """What the student alone did in a step.

    Attributes:
        loss: the detection loss.
        student: the detector.
    """

    loss: Tensor
    student: nn.Module


class GradientShare(nn.Module):
    """Measures the factor of one term. It is saved with the distillation's other tensors.

    Args:
        options: how it is measured.

    Attributes:
        factor: of the term at a share of 1; 0 before the first measurement.
        first: the first factor.
        steps: training steps in which the term was active.
        measured: gradient of the term over that of the detection loss at the last measurement, with
            the factor it had then; None before the first one.
    """

    factor: Tensor
    first: Tensor
    steps: Tensor

    def __init__(self, options: ShareOptions) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("factor", torch.zeros(()))
        self.register_buffer("first", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.measured: float | None = None
        # Copies of two buffers: reading them from a GPU in every step would make it wait.
        self._steps_done: int | None = None
        self._is_measured = False

    def is_due(self) -> bool:
        """Whether to measure in this step; called once in each step.

        The first measurement is repeated in the next step until it has found two gradients.
        """
        if self._steps_done is None:
            self._steps_done = int(self.steps)
            self._is_measured = bool(self.first > 0)
        step = self._steps_done
        self._steps_done += 1
        self.steps += 1
        return not self._is_measured or step % self.options.every == 0

    def measure(self, detection: Tensor, term: Tensor, shared: Sequence[Tensor]) -> None:
        """Update the factor.

        Every process of a parallel training calls this in the same step, and gets the same factor.

        Args:
            detection: the detection loss.
            term: the loss of the term, without its weight.
            shared: tensors that both depend on.
        """
        norms = gradient_norms(detection, term, shared)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(norms)
        detection_norm, term_norm = norms.tolist()
        is_usable = 0 < detection_norm < float("inf") and 0 < term_norm < float("inf")
        if is_usable:
            self._follow(detection_norm / term_norm)

    @torch.no_grad()
    def _follow(self, ratio: float) -> None:
        """Move the factor towards a measured ratio of the gradients."""
        first = float(self.first)
        self.measured = (float(self.factor) if first > 0 else ratio) / ratio
        if first == 0:
            self.first.fill_(ratio)
            self.factor.fill_(ratio)
            self._is_measured = True
            return
        kept = self.options.smoothing
        factor = float(self.factor)
        ratio = min(max(ratio, factor / LARGEST_STEP), factor * LARGEST_STEP)
        smoothed = factor**kept * ratio ** (1 - kept)
        limit = self.options.limit
        self.factor.fill_(min(max(smoothed, first / limit), first * limit))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """The copies are read anew after a checkpoint has been loaded."""
        super()._load_from_state_dict(*args, **kwargs)
        self._steps_done = None


def gradient_norms(detection: Tensor, term: Tensor, shared: Sequence[Tensor]) -> Tensor:
    """(2,) norms of the gradients of two losses, over the ``shared`` tensors that the term reaches.

    Raises:
        ConfigError: if the detection loss does not depend on any of the tensors.
    """
    of_detection = _gradients(detection, shared)
    of_term = _gradients(term, shared)
    if all(gradient is None for gradient in of_detection):
        raise ConfigError(
            "WEIGHT.SHARE: the detection loss does not depend on what the term compares, so its "
            "gradient has no size there; set OF: student, or a plain WEIGHT"
        )
    # A batch in which the term has nothing to compare has no gradient, and gives no measurement.
    squares = detection.new_zeros(2, dtype=torch.float32)
    for first, second in zip(of_detection, of_term):
        if first is not None and second is not None:
            squares += torch.stack([_square_sum(first), _square_sum(second)])
    return squares.sqrt() / LOSS_SCALE


def shared_tensors(
    features: Mapping[str, Any], paths: Sequence[str], student: nn.Module, of: str
) -> list[Tensor]:
    """Where gradients are compared, by the key OF.

    Args:
        features: captured features of the student by tap path.
        paths: the taps of the term.
        student: the detector.
        of: ``features`` or ``student``.
    """
    if of == "student":
        return [parameter for parameter in student.parameters() if parameter.requires_grad]
    found = []
    for path in paths:
        found += [tensor for tensor in tensors_in(features[path]) if tensor.requires_grad]
    return found


def _gradients(loss: Tensor, shared: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradients of the scaled loss; None for what it does not depend on."""
    if not shared or not loss.requires_grad:
        return [None] * len(shared)
    return torch.autograd.grad(LOSS_SCALE * loss, shared, retain_graph=True, allow_unused=True)


def _square_sum(gradient: Tensor) -> Tensor:
    return gradient.float().square().sum()
