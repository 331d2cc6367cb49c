"""A teacher that sees more points than its student: is it really so?

Both select their points out of one common cloud. Exchanged selections, or another order of sensors
in the data, would train without an error and teach nothing.
"""

from __future__ import annotations

from ..datasets.dataset import DatasetTemplate
from ..datasets.spec import DataSpec
from ..datasets.view import PointView
from ..errors import ConfigError

COUNTED_FRAMES = 4


def refuse_student_who_sees_more(dataset: DatasetTemplate | DataSpec, view: PointView) -> None:
    """A student that selects more points of the first frames than its teacher is a ConfigError.

    Args:
        dataset: the student's. A description without frames is not checked.
        view: the teacher's points of it.
    """
    if not isinstance(dataset, DatasetTemplate):
        return
    student = dataset.data_processor
    teacher = view.processor
    if not student.selections and not teacher.selections:
        return
    of_student = 0
    of_teacher = 0
    for index in range(min(COUNTED_FRAMES, dataset.num_frames)):
        points = dataset.load_frame(index)["points"]
        of_student += len(student.select(points))
        of_teacher += len(teacher.select(points))
    if of_student > of_teacher:
        raise ConfigError(
            f"DISTILL.TEACHER: the student sees {of_student} points of the first frames and its "
            f"teacher {of_teacher}, so the teacher is not privileged; expected the student to "
            "select fewer beams, sweeps or sensors in its DATA_PROCESSOR"
        )
