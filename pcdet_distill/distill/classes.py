"""Which class of the teacher is which of the student: by name, never by number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError


class ClassMap:
    """The classes that student and teacher share.

    Args:
        student, teacher: class names of both in the order of their labels; label 1 is the first.

    Attributes:
        missing, surplus: classes that only the student has, that only the teacher has.
    """

    def __init__(self, student: Sequence[str], teacher: Sequence[str]) -> None:
        self.student, self.teacher = list(student), list(teacher)
        if not set(self.student) & set(self.teacher):
            raise ConfigError(
                f"DISTILL.TEACHER: the teacher's classes are {', '.join(self.teacher)}; expected one "
                f"or more of the student's {', '.join(self.student)}"
            )
        self.missing = [name for name in self.student if name not in self.teacher]
        self.surplus = [name for name in self.teacher if name not in self.student]

    @property
    def is_identity(self) -> bool:
        """Whether both have the same classes in the same order."""
        return self.student == self.teacher

    def student_labels(self, labels: Tensor) -> Tensor:
        """The student's labels of the teacher's ``labels`` (N,) from 1; 0 where the student has no such class."""
        numbers = [
            0,
            *(self.student.index(name) + 1 if name in self.student else 0 for name in self.teacher),
        ]
        return torch.tensor(numbers, dtype=labels.dtype, device=labels.device)[labels.long()]

    def relabel(self, boxes: dict[str, Tensor]) -> dict[str, Tensor]:
        """Boxes of one frame (``pred_labels`` and other entries, (K, ...) each) without those the student has no class
        for, the labels being the student's."""
        labels = self.student_labels(boxes["pred_labels"])
        known = labels > 0
        return {
            key: (labels if key == "pred_labels" else value)[known] for key, value in boxes.items()
        }
