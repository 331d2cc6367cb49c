"""Which class of the teacher is which of the student: matched by name, never by number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import ConfigError
from ..ops.constants import constant


class ClassMap:
    """The classes that student and teacher share.

    Args:
        student: class names in the order of their labels; label 1 is the first.
        teacher: the teacher's.

    Attributes:
        missing: classes that only the student has.
        surplus: classes that only the teacher has.
    """

    def __init__(self, student: Sequence[str], teacher: Sequence[str]) -> None:
        self.student = list(student)
        self.teacher = list(teacher)
        if not set(self.student) & set(self.teacher):
            raise ConfigError(
                f"DISTILL.TEACHER: the teacher's classes are {', '.join(self.teacher)}; expected "
                f"one or more of the student's {', '.join(self.student)}"
            )
        self.missing = [name for name in self.student if name not in self.teacher]
        self.surplus = [name for name in self.teacher if name not in self.student]

    @property
    def is_identity(self) -> bool:
        """Whether both have the same classes in the same order."""
        return self.student == self.teacher

    def student_labels(self, labels: Tensor) -> Tensor:
        """The student's labels (N,) of the teacher's ``labels`` (N,) from 1; 0 if it has none."""
        student_label_of = [0]
        for name in self.teacher:
            label = self.student.index(name) + 1 if name in self.student else 0
            student_label_of.append(label)
        table = constant(student_label_of, labels.device, labels.dtype)
        return table[labels.long()]

    def relabel(self, boxes: dict[str, Tensor]) -> dict[str, Tensor]:
        """Boxes of one frame with the student's labels, without classes that it does not have.

        Args:
            boxes: ``pred_labels`` (K,) and other entries (K, ...).
        """
        labels = self.student_labels(boxes["pred_labels"])
        is_shared = labels > 0
        relabelled = {key: value[is_shared] for key, value in boxes.items()}
        relabelled["pred_labels"] = labels[is_shared]
        return relabelled
