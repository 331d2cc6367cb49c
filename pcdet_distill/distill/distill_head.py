"""DistillHead: the terms of a distillation, and how much each of them weighs.

It owns the parameters that only the distillation needs, the adapters inside the losses. It is
thrown away after the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..moved import forward_names, warn_renamed
from ..types import BatchDict, ConfigDict
from .batch_transforms import BatchTransform
from .gradient_share import DetectionStep, GradientShare, shared_tensors
from .losses import DistillLoss
from .losses.base import TERM_KEYS
from .losses.old_interface import OldLabelLoss, inputs_of, is_old_label_loss
from .schedule import WeightSchedule
from .tap_source import Features, TapSource, distinct
from .term_classes import find_term_class
from .term_inputs import TermInput

if TYPE_CHECKING:
    from .teacher import Predictor

__all__ = ["DistillHead", "DistillTerm", "TapSource"]

Logs: TypeAlias = dict[str, float | Tensor]


class DistillTerm(nn.Module):
    """An entry of DISTILL.TERMS that is a loss: its inputs from both sides, and its weight.

    Args:
        student, teacher: the inputs of the loss.
        loss: compares them.
        weight: factor of the loss; a number, or one that changes during the training.

    Attributes:
        progress: finished share of the training, from 0 to 1.
    """

    def __init__(
        self,
        student: TermInput,
        teacher: TermInput,
        loss: DistillLoss,
        weight: float | WeightSchedule = 1.0,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.loss = loss
        if not isinstance(weight, WeightSchedule):
            weight = WeightSchedule(weight, weight)
        self.schedule = weight
        self.gradient_share = None if weight.share is None else GradientShare(weight.share)
        self.progress = 0.0

    @classmethod
    def from_config(
        cls, cfg: ConfigDict, student: TapSource, teacher: TapSource, where: str
    ) -> DistillTerm:
        """Build from a block of DISTILL.TERMS; ``where`` is its key path."""
        _require_keys(cfg, ("NAME", "STUDENT", "TEACHER"), where)
        loss_class = find_term_class(cfg["NAME"], f"{where}.NAME")
        if not issubclass(loss_class, DistillLoss):
            raise ConfigError(f"{where}.NAME: {cfg['NAME']} is no loss")
        cfg = loss_class.with_input_keys(cfg, teacher.has_class_scores)
        inputs = inputs_of(loss_class, f"{where}.NAME")
        student_input, teacher_input = inputs.pair(cfg, student, teacher, where)
        options = {key: value for key, value in cfg.items() if key not in TERM_KEYS}
        loss = loss_class.from_config(options, student_input.info, teacher_input.info, where)
        weight = WeightSchedule.from_config(cfg.get("WEIGHT", 1.0), f"{where}.WEIGHT")
        return cls(student_input, teacher_input, loss, weight)

    @property
    def weight(self) -> float:
        """The factor of the loss now."""
        weight = self.schedule.at(self.progress)
        return weight if self.gradient_share is None else weight * float(self.gradient_share.factor)

    @property
    def active(self) -> bool:
        """Whether the loss is computed now. With a weight of 0 it is not, and needs no teacher."""
        return self.schedule.at(self.progress) > 0

    @property
    def listens(self) -> bool:
        """The old name of ``active``."""
        warn_renamed("DistillTerm.listens", "DistillTerm.active")
        return self.active

    def forward(
        self,
        student: Features,
        teacher: Features,
        batch_dict: BatchDict,
        teacher_batch_dict: BatchDict,
        detection: DetectionStep | None = None,
    ) -> Tensor:
        """The weighted loss, a scalar, between captured features.

        A term with a SHARE also needs the ``detection`` loss of the step.
        """
        if not self.active:
            self.loss.logs.clear()
            return self.loss.zero_loss()
        student_data, teacher_data = self.read(student, teacher, batch_dict, teacher_batch_dict)
        loss = self.compare(student_data, teacher_data, batch_dict)
        weight = self.schedule.at(self.progress)
        if self.gradient_share is None:
            return weight * loss
        return weight * self._measured_factor(self.gradient_share, loss, student, detection) * loss

    def read(
        self,
        student: Features,
        teacher: Features,
        batch_dict: BatchDict,
        teacher_batch_dict: BatchDict,
    ) -> tuple[Any, Any]:
        """Captured features in the form that is matched; the teacher's without gradient."""
        return (
            self.student.read(student, batch_dict, detached=False),
            self.teacher.read(teacher, teacher_batch_dict, detached=True),
        )

    def compare(self, student: Any, teacher: Any, batch_dict: BatchDict) -> Tensor:
        """The loss without its weight, a scalar, between what ``read`` returned."""
        matched = self.student.match(student, teacher)
        matched = self.student.leave_out_unsure(*matched, batch_dict)
        return self.loss(*matched, batch_dict)

    def _measured_factor(
        self,
        share: GradientShare,
        loss: Tensor,
        student: Features,
        detection: DetectionStep | None,
    ) -> Tensor:
        """The factor of the loss for a share of 1, measured anew where this is due."""
        if detection is None:
            raise ConfigError("WEIGHT.SHARE: needs the detection loss, which was not given")
        if share.is_due():
            of = share.options.of
            tensors = shared_tensors(student, self.student.paths, detection.student, of)
            share.measure(detection.loss, loss, tensors)
        return share.factor.clone()

    def weight_logs(self) -> Logs:
        """The weight, where it changes, and the share that was measured last."""
        weight = self.schedule.at(self.progress)
        if self.gradient_share is None:
            return {"weight": weight} if self.schedule.changes else {}
        logs: Logs = {"weight": weight * self.gradient_share.factor}
        if self.gradient_share.measured is not None:
            logs["share"] = weight * self.gradient_share.measured
        return logs


class DistillHead(nn.Module):
    """The terms of a distillation, by name.

    Args:
        terms: losses.
        transforms: change the batch before the student runs.
    """

    def __init__(
        self,
        terms: Mapping[str, DistillTerm],
        transforms: Mapping[str, BatchTransform] | None = None,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.transforms = nn.ModuleDict(transforms or {})

    @classmethod
    def from_config(cls, cfg: ConfigDict, student: TapSource, teacher: TapSource) -> DistillHead:
        """Build from the DISTILL.TERMS block. Its entries are losses and batch transforms."""
        if not isinstance(cfg, Mapping):
            raise ConfigError(
                "DISTILL.TERMS: expected named terms, as TERMS: {LOCAL_GRAPH: {NAME: ...}}"
            )
        terms = {}
        transforms = {}
        for name, block in cfg.items():
            where = f"DISTILL.TERMS.{name}"
            # A name becomes part of the names in the state_dict.
            if not isinstance(block, Mapping) or "." in name or hasattr(nn.ModuleDict, name):
                raise ConfigError(
                    f"{where}: expected a name in capitals and a block of keys under it"
                )
            transform = _build_transform(block, where)
            if transform is None:
                terms[name] = DistillTerm.from_config(block, student, teacher, where)
            else:
                transform.check_student(student, where)
                transforms[name] = transform
        return cls(terms, transforms)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do in a training step."""
        return len(self.terms) == 0 and len(self.transforms) == 0

    def named_terms(self) -> list[tuple[str, DistillTerm]]:
        """The losses with their names."""
        return list(self.terms.items())  # type: ignore[arg-type]

    def named_transforms(self) -> list[tuple[str, BatchTransform]]:
        """The batch transforms with their names."""
        return list(self.transforms.items())  # type: ignore[arg-type]

    @property
    def student_paths(self) -> list[str]:
        """The student's taps that are needed now."""
        return _paths_of([term.student for term in self._active_terms()])

    @property
    def teacher_paths(self) -> list[str]:
        """The teacher's taps that are needed now."""
        return _paths_of([term.teacher for term in self._active_terms()])

    def _active_terms(self) -> list[DistillTerm]:
        return [term for _, term in self.named_terms() if term.active]

    def set_progress(self, fraction: float) -> None:
        """Before each step: the finished share of the training, from 0 to 1."""
        for _, term in self.named_terms():
            term.progress = fraction

    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """Before the student's forward pass: transforms may replace entries of ``batch_dict``."""
        for _, transform in self.named_transforms():
            transform.prepare(batch_dict, teacher)
        for _, term in self.named_terms():
            term.loss.prepare(batch_dict, teacher)

    def forward(
        self,
        student_taps: Features,
        teacher_taps: Features,
        batch_dict: BatchDict,
        teacher_batch_dict: BatchDict | None = None,
        detection: DetectionStep | None = None,
    ) -> tuple[Tensor, Logs]:
        """The weighted sum of all losses, and what to log: ``distill_loss`` and ``distill_<term>``.

        Args:
            student_taps, teacher_taps: captured features by tap path.
            batch_dict: the student's batch after its forward pass.
            teacher_batch_dict: the teacher's, if it is not the same.
            detection: the student's own loss, for terms whose WEIGHT is a SHARE.
        """
        if teacher_batch_dict is None:
            teacher_batch_dict = batch_dict
        # A scalar without device: zeros of inactive terms may be on another one than the losses.
        total = torch.zeros(())
        logs: Logs = {}
        for name, transform in self.named_transforms():
            logs.update(_prefixed(name, transform.logs))
        for name, term in self.named_terms():
            loss = term(student_taps, teacher_taps, batch_dict, teacher_batch_dict, detection)
            total = total + loss
            logs[f"distill_{name.lower()}"] = loss.detach()
            logs.update(_prefixed(name, term.weight_logs()))
            logs.update(_prefixed(name, term.loss.logs))
        return total, {"distill_loss": total.detach(), **logs}


def _build_transform(block: ConfigDict, where: str) -> BatchTransform | None:
    """The batch transform of a block of DISTILL.TERMS; None if the block is a loss."""
    _require_keys(block, ("NAME",), where)
    term_class = find_term_class(block["NAME"], f"{where}.NAME")
    if issubclass(term_class, DistillLoss) and not is_old_label_loss(term_class):
        return None
    for key in TERM_KEYS:
        if key in block and key != "NAME":
            changed = getattr(term_class, "changes", "the labels")
            raise ConfigError(f"{where}.{key}: {block['NAME']} changes {changed} alone; remove it")
    options = {key: value for key, value in block.items() if key != "NAME"}
    if issubclass(term_class, DistillLoss):
        return OldLabelLoss(term_class.from_config(options, None, None, where))
    return term_class.from_config(options, where)


def _prefixed(name: str, logs: Logs) -> Logs:
    """The logs of a term under names of their own."""
    return {f"distill_{name.lower()}_{key}": value for key, value in logs.items()}


def _require_keys(cfg: ConfigDict, keys: Iterable[str], where: str) -> None:
    for key in keys:
        if not cfg.get(key):
            raise ConfigError(f"{where}: key {key} is missing")


def _paths_of(inputs: list[TermInput]) -> list[str]:
    """The taps of all inputs, each once."""
    paths: list[str] = []
    for term_input in inputs:
        paths += term_input.paths
    return distinct(paths)


# Old names, for one more version.
__getattr__ = forward_names(
    __name__, "pcdet_distill.distill.losses.old_interface", {"SIDES": "OLD_INPUTS"}
)
