"""Interrupted trainings: kill one, and compare what it left with one that ran through."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.engine.logging import LogValues
from pcdet_distill.engine.loop import Trainer
from pcdet_distill.types import BatchDict


class Killed(BaseException):
    """Stands for the end of the process: nothing in the engine may catch it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    """Raise ``Killed`` when the step after ``iterations`` begins."""
    train_step = Trainer.train_step

    def train_step_or_die(trainer: Trainer, batch: BatchDict) -> tuple[LogValues, list[str]]:
        if trainer.iteration == iterations:
            raise Killed
        return train_step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", train_step_or_die)


def identical(first: object, second: object) -> bool:
    """Whether two checkpoints, or parts of them, are equal to the last bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        if list(first) != list(second):
            return False
        return all(identical(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return False
        return all(identical(*pair) for pair in zip(first, second))
    return first == second
