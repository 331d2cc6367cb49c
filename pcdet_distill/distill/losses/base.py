"""The kinds of distillation losses, and how they are built from their block of a yaml file.

A loss of your own derives from ``NodeLoss``, ``MapLoss`` or ``PredictionLoss``. It needs
``compute``, which gets tensors of the student and of the teacher at the same places and returns a
scalar. If it has options it names their dataclass by ``options_class``; docs/methods.md shows a
whole one.

``forward`` of the three kinds does what all losses begin with. Without anything to compare the loss
is zero. Else ``compute`` runs without autocast, on tensors of float32 or better.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from ...config import NoOptions, TermOptions, option_keys
from ...config import read_options as read_option_block
from ...models.taps import TapInfo
from ...moved import warn_renamed
from ...ops.precision import at_least_float32
from ...types import BatchDict, ConfigDict
from ..nodes import NodeFeatures
from ..prediction_input import PredictionInput
from ..predictions import PredictionReader, Predictions
from ..term_inputs import MapInput, NodeInput, TermInput
from .node_details import NodeDetails
from .old_interface import OldSees, read_options

if TYPE_CHECKING:
    from ..teacher import Predictor

__all__ = [
    "TERM_KEYS",
    "DistillLoss",
    "MapLoss",
    "NoOptions",
    "NodeLoss",
    "PredictionLoss",
    "channels_of",
    "read_options",
]

# Keys of an entry of DISTILL.TERMS that belong to the term. All others are options of its loss.
TERM_KEYS = option_keys(TermOptions)

# Describes the input of one side: its tap, or the reader of its head.
Info = TypeVar("Info", TapInfo, PredictionReader)


class DistillLoss(nn.Module, Generic[Info]):
    """Compares a student with its teacher. Its parameters are trained with the student's.

    Args:
        student: the student's tap, or the reader of its head. A loss without adapters ignores it.
        teacher: the teacher's.
        options: an instance of ``options_class``; its defaults if None.

    Attributes:
        inputs: finds, reads and matches what ``forward`` compares.
        options_class: dataclass of the options; the yaml keys are its field names in capitals.
        logs: numbers of the last forward pass for the training log.
    """

    inputs: ClassVar[type[TermInput] | None] = None
    options_class: ClassVar[type] = NoOptions
    sees = OldSees()

    def __init__(
        self,
        student: Info | None = None,
        teacher: Info | None = None,
        options: object = None,
    ) -> None:
        super().__init__()
        if isinstance(student, self.options_class):
            name = type(self).__name__
            warn_renamed(f"{name}(options)", f"{name}(options=options)")
            options = student
        self.options: Any = self.options_class() if options is None else options
        self.logs: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(
        cls, cfg: ConfigDict, student: Info, teacher: Info, where: str
    ) -> DistillLoss[Info]:
        """Build from a block of DISTILL.TERMS without the keys of the term itself.

        Args:
            cfg: the options, in capitals.
            student: as of the constructor.
            teacher: as of the constructor.
            where: key path of the block, for errors.
        """
        options = cls.options_from_config(cfg, student, teacher, where)
        return cls(student, teacher, options)

    @classmethod
    def with_input_keys(cls, cfg: ConfigDict, teacher_has_scores: bool) -> ConfigDict:
        """The block of a term, with those keys filled in on which its inputs depend.

        A loss overrides it whose default SCORE is the objectness.

        Args:
            cfg: the block.
            teacher_has_scores: whether the teacher publishes its class scores.
        """
        return cfg

    @classmethod
    def options_from_config(cls, cfg: ConfigDict, student: Info, teacher: Info, where: str) -> Any:
        """The options in ``cfg``; a loss overrides it to refuse what does not fit together."""
        return read_option_block(cls.options_class, cfg, where, also_known=TERM_KEYS)

    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """Called before the student's forward pass. Only losses of version 0.1 override it.

        A ``BatchTransform`` is the place to change labels or points.
        """

    def forward(self, student: Any, teacher: Any, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def zero_loss(self, *outputs: Tensor) -> Tensor:
        """A loss of 0 whose gradient, 0 too, reaches ``outputs`` and every parameter of the loss.

        For batches without anything to compare. Parallel training waits for a gradient of every
        parameter in every process.
        """
        parts = [part.reshape(-1)[:0].sum().float() for part in (*outputs, *self.parameters())]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def without_pairs(self, *outputs: Tensor) -> Tensor:
        """``zero_loss`` of a batch without a pair to compare; numbers of earlier batches go."""
        self.logs.clear()
        return self.zero_loss(*outputs)

    def nothing(self, *outputs: Tensor) -> Tensor:
        """The old name of ``zero_loss``."""
        warn_renamed("DistillLoss.nothing", "DistillLoss.zero_loss")
        return self.zero_loss(*outputs)


class NodeLoss(DistillLoss[TapInfo]):
    """Compares features of single places: pillars, voxels, map cells, points."""

    inputs = NodeInput

    def forward(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between matched nodes: row i of both is the same place."""
        if len(student) == 0:
            return self.without_pairs(student.features)
        with torch.autocast(student.features.device.type, enabled=False):
            return self.compute(student.at_least_float32(), teacher.at_least_float32(), batch_dict)

    def compute(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> Tensor:
        """The loss, a scalar, between one or more matched nodes."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute")

    def details(
        self, student: NodeFeatures, teacher: NodeFeatures, batch_dict: BatchDict
    ) -> NodeDetails | None:
        """What ``compute`` does at single nodes; None for a loss that does not tell."""
        return None

    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor] | None:
        """Features (N, C_s) and (N, C_t) in the space (N, D) in which they are compared.

        None for a loss without an adapter: its student and its teacher have no common channels.
        """
        return None


class MapLoss(DistillLoss[TapInfo]):
    """Compares whole bird's eye view maps."""

    inputs = MapInput

    def forward(self, student: Tensor, teacher: Tensor, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between maps (B, C_s, H, W) and (B, C_t, H, W)."""
        if student.numel() == 0:
            return self.without_pairs(student)
        with torch.autocast(student.device.type, enabled=False):
            return self.compute(at_least_float32(student), at_least_float32(teacher), batch_dict)

    def compute(self, student: Tensor, teacher: Tensor, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between maps that are not empty."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute")

    def common_space(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor] | None:
        """As of a ``NodeLoss``: cells (N, C_s) and (N, C_t) in one space, or None."""
        return None


class PredictionLoss(DistillLoss[PredictionReader]):
    """Compares class scores and boxes of the detection heads."""

    inputs = PredictionInput

    def forward(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between matched predictions: row i of both is the same place."""
        if len(student) == 0:
            return self.without_pairs(student.logits, student.codes)
        with torch.autocast(student.logits.device.type, enabled=False):
            return self.compute(student, teacher, batch_dict)

    def compute(self, student: Predictions, teacher: Predictions, batch_dict: BatchDict) -> Tensor:
        """The loss, a scalar, between one or more matched predictions."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute")


def channels_of(tap: TapInfo | int) -> int:
    """Channels of a tap. A number, as version 0.1 took it, still works."""
    if isinstance(tap, int):
        warnings.warn(
            "a loss now takes the TapInfo of each side, not its number of channels",
            DeprecationWarning,
            stacklevel=3,
        )
        return tap
    return tap.channels
