"""From an evaluation to its record: figures, curves, parts, and the frames with most errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..config import LidarEvalOptions
from ..evaluation.kitti.protocol import NEUTRAL
from ..evaluation.lidar import LidarResult, lidar_eval
from ..evaluation.lidar.frame_errors import JudgedFrame, Judgement, judge_frames
from ..evaluation.lidar.frames import Anno
from ..evaluation.result import EvaluationResult
from .figures import benchmark_name, curves_of, divisions_of, tables_of
from .record import Record
from .scenes import counts_of, scene_of

NUM_SCENES = 10
IN_RANGE = "Objects outside of POINT_CLOUD_RANGE or without points do not count."
LIDAR_KEYS = ("name", "score", "boxes_lidar", "frame_id")

# Frame name -> points (N, 3 or more), or None where they cannot be read.
PointReader = Callable[[str], "np.ndarray | None"]


def no_points(frame_id: str) -> np.ndarray | None:
    """The reader of a data set whose points are not known."""
    return None


@dataclass(frozen=True)
class Evaluation:
    """Everything that a record is made from.

    Attributes:
        name: of the model.
        data: the data set in words.
        class_names: evaluated classes.
        result: of the evaluation; None where the split has no labels.
        det_annos: detections of every frame, as in result.pkl.
        labels: of every frame, as ``lidar_eval`` reads them; empty where they are not known.
        options: of the evaluation in LiDAR coordinates.
        point_cloud_range: of the model.
        read_points: gives the points of a frame.
        teacher_annos: the teacher's detections; empty where they are not known.
    """

    name: str
    data: str
    class_names: Sequence[str]
    result: EvaluationResult | None
    det_annos: Sequence[Anno]
    labels: Sequence[Anno] = ()
    options: LidarEvalOptions = field(default_factory=LidarEvalOptions)
    point_cloud_range: Sequence[float] = ()
    read_points: PointReader = no_points
    teacher_annos: Sequence[Anno] = ()


def collect(evaluation: Evaluation) -> Record:
    """The record of an evaluation. Without labels it has neither figures nor frames."""
    result = evaluation.result
    record = Record(
        name=evaluation.name,
        benchmark=benchmark_name(result),
        data=evaluation.data,
        num_frames=len(evaluation.det_annos),
        class_names=list(evaluation.class_names),
    )
    if result is None:
        return record
    lidar = _lidar_result(evaluation)
    is_own = isinstance(result, LidarResult)
    record = replace(
        record,
        primary=list(result.primary) if result.primary is not None else [],
        tables=tables_of(result),
        curves=curves_of(result, lidar),
        divisions=divisions_of(lidar) if lidar is not None else [],
        division_rule="" if is_own else IN_RANGE,
        remarks=_remarks(result),
    )
    return _with_frames(record, evaluation) if lidar is not None else record


def _lidar_result(evaluation: Evaluation) -> LidarResult | None:
    """The detections scored in LiDAR coordinates; None without labels or boxes for it."""
    if isinstance(evaluation.result, LidarResult):
        return evaluation.result
    if not evaluation.labels or not all(map(_has_lidar_boxes, evaluation.det_annos)):
        return None
    return lidar_eval(
        evaluation.labels,
        evaluation.det_annos,
        evaluation.class_names,
        within_range(evaluation.options, evaluation.point_cloud_range),
    )


def within_range(options: LidarEvalOptions, limits: Sequence[float]) -> LidarEvalOptions:
    """The options, with objects that the model cannot see left out: neither for nor against."""
    return options if options.range else replace(options, range=tuple(map(float, limits)))


def _has_lidar_boxes(anno: Anno) -> bool:
    return all(key in anno for key in LIDAR_KEYS)


def _remarks(result: EvaluationResult) -> list[str]:
    """Warnings of the evaluation about all classes, then about single ones."""
    remarks = list(getattr(result, "remarks", ()))
    if isinstance(result, LidarResult):
        for entry in result.classes:
            remarks += entry.remarks
    return remarks


def _with_frames(record: Record, evaluation: Evaluation) -> Record:
    """The record with the errors of all frames and pictures of the worst ones."""
    if not evaluation.labels:
        return record
    judgement = judge_frames(
        evaluation.labels, evaluation.det_annos, evaluation.class_names, _frame_options(evaluation)
    )
    teacher = judge_teacher(evaluation)
    scenes = []
    for judged in judgement.worst(NUM_SCENES):
        points = evaluation.read_points(judged.frame_id)
        of_teacher = teacher.get(judged.frame_id)
        scenes.append(scene_of(judged, points, evaluation.point_cloud_range, of_teacher))
    return replace(
        record,
        thresholds={name: round(score, 3) for name, score in judgement.thresholds.items()},
        errors={judged.frame_id: counts_of(judged) for judged in judgement.frames},
        scenes=scenes,
    )


def _frame_options(evaluation: Evaluation) -> LidarEvalOptions:
    return within_range(evaluation.options, evaluation.point_cloud_range)


def judge_teacher(evaluation: Evaluation) -> Mapping[str, JudgedFrame]:
    """The teacher's detections by frame, above the thresholds that are best for the teacher."""
    if not all(map(_has_lidar_boxes, evaluation.teacher_annos)):
        return {}
    labelled = {str(anno["frame_id"]) for anno in evaluation.labels}
    annos = [anno for anno in evaluation.teacher_annos if str(anno["frame_id"]) in labelled]
    if not annos:
        return {}
    judged: Judgement = judge_frames(
        evaluation.labels, annos, evaluation.class_names, _frame_options(evaluation)
    )
    return {frame.frame_id: frame for frame in judged.frames}


def with_kitti_neutral(options: LidarEvalOptions, class_names: Sequence[str]) -> LidarEvalOptions:
    """The options with KITTI's classes that look alike, where none are given."""
    if options.neutral:
        return options
    neutral = {name: NEUTRAL[name] for name in class_names if name in NEUTRAL}
    return replace(options, neutral=neutral)
