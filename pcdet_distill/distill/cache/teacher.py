"""CachedTeacher: stands in for a teacher, and answers from its stored predictions."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ...config import CloudOptions, TeacherOptions
from ...datasets.dataset import DatasetTemplate
from ...datasets.predicted import PREDICTED
from ...datasets.spec import DataSpec
from ...datasets.view import PointView
from ...errors import ConfigError
from ...models.trainable import Processes
from ...types import BatchDict, ConfigDict
from ..prediction_readers import prediction_reader
from ..predictions import PredictionReader
from ..privilege import refuse_student_who_sees_more
from ..tap_source import TapSource
from ..teacher import FrameBoxes, Teacher, TeacherOutput
from .build import CacheBuilder
from .files import TeacherCache


class CachedTeacher(Teacher):
    """A teacher whose boxes come from the batch; it runs for features alone.

    Args:
        teacher: the teacher, whose model and classes it has.
        cache: where the predictions are stored.
    """

    def __init__(self, teacher: Teacher, cache: TeacherCache) -> None:
        super().__init__(
            teacher.model,
            teacher.mode,
            teacher.classes,
            teacher.own_view,
            precision=teacher.precision,
        )
        self.cache = cache

    def prepare_data(
        self, processes: Processes, device: torch.device, logger: logging.Logger
    ) -> None:
        """Compute the predictions that are missing, and let the data set's items bring them."""
        dataset = self.cache.builder.dataset
        if not isinstance(dataset, DatasetTemplate):
            raise ConfigError(
                f"DISTILL.TEACHER.CACHE: the frames of {type(dataset).__name__} cannot be read "
                "without augmentation; expected a dataset of pcdet_distill"
            )
        dataset.add_predictions(self.cache.prepare(processes, device, logger))

    @torch.no_grad()
    def run(
        self, batch_dict: BatchDict, paths: Sequence[str] = (), *, with_boxes: bool = False
    ) -> TeacherOutput:
        """As of a teacher that runs; the boxes are the stored ones of the batch, if it has them."""
        if not with_boxes or PREDICTED not in batch_dict:
            return super().run(batch_dict, paths, with_boxes=with_boxes)
        output = super().run(batch_dict, paths)
        return dataclasses.replace(output, boxes=self._stored_boxes(batch_dict))

    def _stored_boxes(self, batch_dict: BatchDict) -> list[FrameBoxes]:
        """The moved detections of every frame, with the student's labels."""
        stored = batch_dict[PREDICTED]
        boxes = []
        for frame in range(len(stored["matrix"])):
            of_frame = torch.nonzero(stored["detected_frame_index"] == frame).flatten()
            by_score = stored["detected_scores"][of_frame].argsort(descending=True, stable=True)
            of_frame = of_frame[by_score]
            boxes.append(
                {
                    "pred_boxes": stored["detected_boxes"][of_frame],
                    "pred_scores": stored["detected_scores"][of_frame],
                    "pred_labels": stored["detected_labels"][of_frame].long(),
                }
            )
        return self.with_students_labels(boxes)


def cached_teacher(
    teacher: Teacher,
    teacher_cfg: ConfigDict,
    dataset: DatasetTemplate | DataSpec,
    options: TeacherOptions,
) -> CachedTeacher:
    """A teacher that answers from its stored predictions.

    Args:
        teacher: the teacher, with its weights.
        teacher_cfg: its whole config.
        dataset: the student's training split.
        options: DISTILL.TEACHER.
    """
    if options.mode != "eval":
        raise ConfigError(
            "DISTILL.TEACHER.CACHE: predictions are stored once, for a teacher in MODE: eval; "
            f"found MODE: {options.mode}"
        )
    if options.reuse > 1:
        raise ConfigError(
            "DISTILL.TEACHER.REUSE: has no effect with CACHE, as the teacher does not run in the "
            "training; remove it"
        )
    if isinstance(dataset, DatasetTemplate):
        dataset.check_motions()
    stored_features = dataset.point_feature_encoder.src_feature_list
    # The values of evaluation, as a teacher is chosen by what it detects there.
    stored_cloud = CloudOptions.from_config(getattr(dataset, "dataset_cfg", {}))
    view = PointView(
        teacher_cfg["DATA_CONFIG"], stored_features, training=False, stored_cloud=stored_cloud
    )
    refuse_student_who_sees_more(dataset, view)
    builder = CacheBuilder(
        teacher=teacher,
        reader=_reader_of(teacher, teacher_cfg),
        dataset=dataset,  # type: ignore[arg-type]
        view=view,
        threshold=options.cache_thresh,
    )
    folder = None if options.cache_dir is None else Path(options.cache_dir)
    return CachedTeacher(teacher, TeacherCache(builder, teacher_cfg, folder))


def _reader_of(teacher: Teacher, teacher_cfg: ConfigDict) -> PredictionReader | None:
    """Reads the dense head; None for a teacher without one, or one whose rows cannot be read."""
    source = TapSource.of("teacher", teacher.model, teacher.model.dataset)  # type: ignore[arg-type]
    head = getattr(teacher.model, "dense_head", None)
    if head is None or source.head_layout(head) is None:
        return None
    reader = prediction_reader(source, "dense_head", "DISTILL.TEACHER.CACHE")
    return None if reader.grid() is None else reader
