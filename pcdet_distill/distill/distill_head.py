"""DistillHead: what of the student is compared with what of the teacher, and how much it weighs.

It owns what is learned for distillation alone (the adapters inside the losses) and is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import lookup
from ..errors import ConfigError
from .deprecated import warn_renamed
from .losses import DistillLoss, find_loss
from .losses.base import TERM_KEYS
from .prediction_input import PredictionInput
from .schedule import WeightSchedule
from .term_inputs import NodeInput, TapSource, TermInput

if TYPE_CHECKING:
    from .teacher import Predictor

__all__ = ["INPUTS", "DistillHead", "DistillTerm", "TapSource"]

# What a loss ``sees``; one that sees ``labels`` has no sides.
INPUTS: dict[str, type[TermInput]] = {"nodes": NodeInput, "predictions": PredictionInput}


class DistillTerm(nn.Module):
    """One entry of DISTILL.TERMS: what is seen of both sides, a loss and its weight.

    Args:
        student, teacher: the two sides; None for a loss that compares no features but changes the labels.
        loss: compares them.
        weight: factor of the loss; a number, or one that changes while the training goes on.

    Attributes:
        progress: how far the training has come, from 0 to 1.
    """

    def __init__(
        self,
        student: TermInput | None,
        teacher: TermInput | None,
        loss: DistillLoss,
        weight: float | WeightSchedule = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.loss = loss
        self.schedule = (
            weight if isinstance(weight, WeightSchedule) else WeightSchedule(weight, weight)
        )
        self.progress = 0.0

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapSource, teacher: TapSource, where: str
    ) -> DistillTerm:
        """Build from ``DISTILL.TERMS.<name>``; ``where`` is that key path."""
        _require(cfg, ("NAME",), where)
        loss_class = find_loss(cfg["NAME"], f"{where}.NAME")
        options = {key: value for key, value in cfg.items() if key not in TERM_KEYS}
        if loss_class.sees == "labels":
            for key in TERM_KEYS:
                if key in cfg and key != "NAME":
                    raise ConfigError(
                        f"{where}.{key}: {cfg['NAME']} changes the labels alone; remove it"
                    )
            return cls(None, None, loss_class.from_config(options, None, None, where))
        _require(cfg, ("STUDENT", "TEACHER"), where)
        side = lookup(INPUTS, loss_class.sees, f"{where}.NAME: 'sees' of {loss_class.__name__}")
        own, other = side.pair(cfg, student, teacher, where)
        weight = WeightSchedule.from_config(cfg.get("WEIGHT", 1.0), f"{where}.WEIGHT")
        return cls(own, other, loss_class.from_config(options, own.info, other.info, where), weight)

    @property
    def weight(self) -> float:
        """The factor of the loss at this point of the training."""
        return self.schedule.at(self.progress)

    @property
    def active(self) -> bool:
        """Whether features are compared now. At a weight of 0 there is no need to, nor for the teacher to run."""
        return self.student is not None and self.weight > 0

    @property
    def listens(self) -> bool:
        """The old name of ``active``."""
        warn_renamed("DistillTerm.listens", "DistillTerm.active")
        return self.active

    def prepare(self, batch_dict: dict[str, Any], teacher: Predictor) -> None:
        """Before the student's forward pass: the loss may replace entries of ``batch_dict``, such as the labels."""
        self.loss.prepare(batch_dict, teacher)

    def forward(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        batch_dict: Mapping[str, Any],
        teacher_batch_dict: Mapping[str, Any],
    ) -> Tensor:
        """The weighted loss between captured features, by tap path."""
        assert self.student is not None and self.teacher is not None, (
            "a term without sides has no loss of its own"
        )
        if not self.active:
            self.loss.logs.clear()
            return self.loss.zero_loss()
        own = self.student.read(student, batch_dict, detached=False)
        other = self.teacher.read(teacher, teacher_batch_dict, detached=True)
        return self.weight * self.loss(*self.student.match(own, other), batch_dict)


class DistillHead(nn.Module):
    """The terms of a distillation, by name."""

    def __init__(self, terms: Mapping[str, DistillTerm]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)

    @classmethod
    def from_config(
        cls, cfg: Mapping[str, Any], student: TapSource, teacher: TapSource
    ) -> DistillHead:
        """Build from the DISTILL.TERMS block."""
        if not isinstance(cfg, Mapping):
            raise ConfigError(
                "DISTILL.TERMS: expected named terms, as TERMS: {LOCAL_GRAPH: {NAME: ...}}"
            )
        for name, term in cfg.items():
            if not isinstance(term, Mapping) or "." in name or hasattr(nn.ModuleDict, name):
                raise ConfigError(
                    f"DISTILL.TERMS.{name}: expected a name in capitals and a block of keys under it"
                )
        return cls(
            {
                name: DistillTerm.from_config(term, student, teacher, f"DISTILL.TERMS.{name}")
                for name, term in cfg.items()
            }
        )

    def named_terms(self) -> list[tuple[str, DistillTerm]]:
        """The terms with their names."""
        return list(self.terms.items())  # type: ignore[arg-type]

    @property
    def student_paths(self) -> list[str]:
        """The student's taps that are needed now."""
        return _distinct(
            path
            for _, term in self.named_terms()
            if term.student and term.active
            for path in term.student.paths
        )

    @property
    def teacher_paths(self) -> list[str]:
        """The teacher's taps that are needed now."""
        return _distinct(
            path
            for _, term in self.named_terms()
            if term.teacher and term.active
            for path in term.teacher.paths
        )

    def set_progress(self, fraction: float) -> None:
        """How far the training has come, from 0 to 1."""
        for _, term in self.named_terms():
            term.progress = fraction

    def prepare(self, batch_dict: dict[str, Any], teacher: Predictor) -> None:
        """Before the student's forward pass: terms may replace entries of ``batch_dict``, such as the labels."""
        for _, term in self.named_terms():
            term.prepare(batch_dict, teacher)

    def forward(
        self,
        student_taps: Mapping[str, Any],
        teacher_taps: Mapping[str, Any],
        batch_dict: Mapping[str, Any],
        teacher_batch_dict: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The weighted sum of all terms, and what to log: ``distill_loss`` and ``distill_<term>``.

        Args:
            student_taps, teacher_taps: captured features by tap path.
            batch_dict: the student's batch after its forward pass.
            teacher_batch_dict: the teacher's, where it has one of its own.
        """
        teacher_batch_dict = batch_dict if teacher_batch_dict is None else teacher_batch_dict
        losses: list[Tensor] = []
        logs: dict[str, Any] = {}
        for name, term in self.named_terms():
            if term.student is not None:
                losses.append(term(student_taps, teacher_taps, batch_dict, teacher_batch_dict))
                logs[f"distill_{name.lower()}"] = losses[-1].detach()
                if term.schedule.changes:
                    logs[f"distill_{name.lower()}_weight"] = term.weight
            logs.update(
                {f"distill_{name.lower()}_{key}": value for key, value in term.loss.logs.items()}
            )
        total = sum(
            losses, start=torch.zeros(())
        )  # a sum takes zeros of another device, as resting terms give them
        return total, {"distill_loss": total.detach(), **logs}


def _require(cfg: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    """Every key must be there."""
    for key in keys:
        if not cfg.get(key):
            raise ConfigError(f"{where}: key {key} is missing")


def _distinct(paths: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(paths))
