"""Distiller: the module that is trained in place of the student, and thrown away afterwards.

It has the interface of a detector, so the training loop, DDP, mixed precision and evaluation need
no special case.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable

from torch import Tensor, nn

from ..checkpoint import LoadReport, load_model_state
from ..errors import CheckpointError
from ..models.taps import capture
from ..models.trainable import (
    CheckpointState,
    OneProcess,
    Processes,
    TrainableModule,
    TrainingData,
    as_trainable,
)
from ..moved import warn_renamed
from ..types import BatchDict
from .distill_head import DistillHead
from .gradient_share import DetectionStep
from .init import StudentInit
from .tap_source import Features
from .teacher import Teacher, TeacherOutput, TeacherPass
from .teacher_check import check_on_first_frames


@dataclasses.dataclass(frozen=True)
class BothModels:
    """What one run of teacher and student gives to the terms.

    Attributes:
        student_output: what the student returned.
        student_features: by tap path.
        teacher: the teacher's features and its own batch.
        batch_dict: the student's batch, with everything that transforms and modules added.
    """

    student_output: tuple
    student_features: Features
    teacher: TeacherOutput
    batch_dict: BatchDict


class Distiller(TrainableModule):
    """Student and distillation head.

    The teacher is a plain attribute, no submodule: it moves to the student's device, but is neither
    trained nor saved.

    Args:
        student: a detector.
        teacher: runs in training, and never changes.
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

    def forward(self, batch_dict: BatchDict) -> tuple:
        """The student's outputs, in training with the distillation loss added.

        Returns:
            In training ``({"loss": loss}, tb_dict, disp_dict)``, in eval ``(pred_dicts,
            recall_dict)``.
        """
        if not self.training or self.head.is_empty:
            return self.student(batch_dict)
        both = self.run_both(batch_dict)
        ret_dict, tb_dict, disp_dict = both.student_output
        detection = DetectionStep(ret_dict["loss"], self.student)
        loss, logs = self.head(
            both.student_features,
            both.teacher.features,
            both.batch_dict,
            both.teacher.batch_dict,
            detection,
        )
        ret_dict = {**ret_dict, "loss": ret_dict["loss"] + loss}
        return ret_dict, {**tb_dict, **logs}, {**disp_dict, "distill": loss.detach()}

    def run_both(self, batch_dict: BatchDict) -> BothModels:
        """Teacher and student on one batch, which stays as it is, with all features of the terms.

        The student runs in its mode. In eval its output are its boxes.
        """
        # The caller's dict stays as it is when a transform replaces labels.
        batch_dict = dict(batch_dict)
        teacher = TeacherPass(self.teacher, self.head.teacher_paths)
        self.head.prepare(batch_dict, teacher)
        output = teacher.run(batch_dict)
        with capture(self.student, self.head.student_paths) as student_features:
            student_output = self.student(batch_dict)
        return BothModels(student_output, student_features, output, batch_dict)

    def prepare_data(
        self, processes: Processes | None = None, logger: logging.Logger | None = None
    ) -> None:
        """Compute and load the teacher's predictions if DISTILL.TEACHER.CACHE stores them.

        Call it before the first batch is loaded. tools/train.py does.
        """
        self.teacher.prepare_data(
            processes or OneProcess(),
            next(self.student.parameters()).device,
            logger or logging.getLogger(__name__),
        )

    def check_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """Check on a few frames that the teacher detects the student's classes in these data."""
        check_on_first_frames(self.teacher, data, next(self.parameters()).device).log(logger)

    def init_before_training(self, data: TrainingData, logger: logging.Logger) -> None:
        """DISTILL.INIT_STUDENT on the first frames of the training data."""
        if self.student_init is not None:
            self.init_student(data.first_frames(self.student_init.frames), logger)

    def init_student(self, batches: Iterable[BatchDict], logger: logging.Logger) -> None:
        """Set the student's weights by ``student_init``."""
        if self.student_init is not None:
            self.student_init(self.student, self.teacher, batches, logger)

    def initialise(self, batches: Iterable[BatchDict], logger: logging.Logger) -> None:
        """The old name of ``init_student``."""
        warn_renamed("Distiller.initialise", "Distiller.init_student")
        self.init_student(batches, logger)

    def set_progress(self, fraction: float) -> None:
        """Before each step: the finished share of the training, from 0 to 1."""
        self.head.set_progress(fraction)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        """``to``, ``cuda``, ``double`` ...: the teacher moves along."""
        super()._apply(fn, recurse)
        self.teacher.apply_to_tensors(fn)
        return self

    def update_global_step(self) -> None:
        """Count one finished training step."""
        as_trainable(self.student).update_global_step()

    def checkpoint_state(self) -> CheckpointState:
        """The student's state as of a plain training, and the head's as ``distill_state``."""
        student_state = as_trainable(self.student).checkpoint_state()
        return {**student_state, "distill_state": self.head.state_dict()}

    def load_checkpoint_state(self, state: CheckpointState, where: str) -> LoadReport:
        """Load what ``checkpoint_state`` returned; every tensor must fit."""
        if "distill_state" not in state:
            raise CheckpointError(
                f"{where}: no 'distill_state' in it, so this distillation cannot be resumed from "
                "it; to start from a plain detector give it as --pretrained_model"
            )
        report = as_trainable(self.student).load_checkpoint_state(state, where)
        # Losses without adapters have no tensors, and load_model_state refuses an empty state.
        if state["distill_state"] or self.head.state_dict():
            load_model_state(
                self.head, state["distill_state"], strict=True, where=f"{where} (distill_state)"
            )
        return report
