"""Distiller: the one module that is trained in a distillation. It wraps the student and is thrown away afterwards.

It speaks the detector's contract, so the training loop, DDP, mixed precision and evaluation hold no special case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ..checkpoint import LoadReport, load_model_state
from ..errors import CheckpointError
from ..models.taps import capture
from ..models.trainable import CheckpointState, TrainableModule, TrainingData, as_trainable
from .distill_head import DistillHead
from .init import StudentInit
from .teacher import Teacher, TeacherPass
from .teacher_check import check_on_first_frames


class Distiller(TrainableModule):
    """Student and distillation head; the teacher is a plain attribute that follows to the student's device.

    Args:
        student: a detector.
        teacher: looked at in training, never changed.
        head: compares the two. Without any term the teacher does not run.
        student_init: sets the student's weights from the teacher's; None leaves them as they are.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        head: DistillHead,
        student_init: StudentInit | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.head = head
        self.student_init = student_init

    def forward(self, batch_dict: dict[str, Any]) -> tuple:
        """In training ({"loss": detection + distillation}, tb_dict, disp_dict); in eval the student's forward."""
        if not self.training or not self.head.named_terms():
            return self.student(batch_dict)
        batch_dict = dict(batch_dict)
        teacher = TeacherPass(self.teacher, self.head.teacher_paths)
        self.head.prepare(batch_dict, teacher)
        output = teacher.run(batch_dict)
        with capture(self.student, self.head.student_paths) as student_features:
            ret_dict, tb_dict, disp_dict = self.student(batch_dict)
        loss, logs = self.head(student_features, output.features, batch_dict, output.batch_dict)
        ret_dict = {**ret_dict, "loss": ret_dict["loss"] + loss}
        return ret_dict, {**tb_dict, **logs}, {**disp_dict, "distill": loss.detach()}

    def check_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """Check on a few frames that the teacher detects the student's classes in these data."""
        check_on_first_frames(self.teacher, data, next(self.parameters()).device).log(logger)

    def init_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """DISTILL.INIT_STUDENT on the first frames of the training data."""
        if self.student_init is not None:
            self.init_student(data.first_frames(self.student_init.frames), logger)

    def init_student(self, batches: Iterable[dict[str, Any]], logger: logging.Logger) -> None:
        """Set the student's weights by ``student_init``."""
        if self.student_init is not None:
            self.student_init(self.student, self.teacher, batches, logger)

    def set_progress(self, fraction: float) -> None:
        """Before each step: how far the training has come, from 0 to 1."""
        self.head.set_progress(fraction)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        """``to``, ``cuda``, ``double`` ...: the teacher goes where the student goes."""
        super()._apply(fn, recurse)
        self.teacher.apply_to_tensors(fn)
        return self

    def update_global_step(self) -> None:
        """Count one finished training step."""
        as_trainable(self.student).update_global_step()

    def checkpoint_state(self) -> CheckpointState:
        """The student's state as if it had been trained alone, and the head's as ``distill_state``."""
        student_state = as_trainable(self.student).checkpoint_state()
        return {**student_state, "distill_state": self.head.state_dict()}

    def load_checkpoint_state(self, state: CheckpointState, where: str) -> LoadReport:
        """Load what ``checkpoint_state`` returned; every tensor must fit."""
        if "distill_state" not in state:
            raise CheckpointError(
                f"{where}: no 'distill_state' in it, so this distillation cannot be resumed from it; "
                "to start from a plain detector give it as --pretrained_model"
            )
        report = as_trainable(self.student).load_checkpoint_state(state, where)
        # Losses without adapters have no tensors to load.
        if state["distill_state"] or self.head.state_dict():
            load_model_state(
                self.head, state["distill_state"], strict=True, where=f"{where} (distill_state)"
            )
        return report
