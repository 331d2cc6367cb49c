"""Changes of the batch before the student runs, by the NAME that a yaml file gives them."""

from .base import BatchTransform
from .labels import TeacherLabels
from .soft_targets import SoftTargets

BATCH_TRANSFORMS: dict[str, type[BatchTransform]] = {
    "SoftTargets": SoftTargets,
    "TeacherLabels": TeacherLabels,
}

__all__ = ["BATCH_TRANSFORMS", "BatchTransform", "SoftTargets", "TeacherLabels"]
