"""``distill(student, teacher, terms)``: the distiller around any two detectors.

A detector is an ``nn.Module`` whose ``forward(batch_dict)`` returns ``({"loss": ...}, tb_dict,
disp_dict)`` in training and ``(pred_dicts, recall_dict)`` in eval. Detectors of this package list
by ``taps()`` which of their features can be compared. Those of another detector are described in
the terms, or found by running one batch through it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from ..errors import ConfigError
from ..ops.voxels import grid_size_of
from ..types import BatchDict, ConfigDict
from .classes import ClassMap
from .distill_head import DistillHead
from .distiller import Distiller
from .losses import DistillLoss
from .losses.old_interface import reads_taps
from .nodes import NodeGrid, VoxelData, grid_of
from .tap_description import ExampleBatch, describe_taps
from .tap_source import HeadLayout, TapSource, own_layout, score_paths_of
from .teacher import Teacher
from .term_classes import find_term_class

# Keys of a term that name a tap.
STUDENT_TAPS = ("STUDENT",)
TEACHER_TAPS = ("TEACHER", "SCORE_TAP")


class VoxelSpace:
    """Range and voxels of detectors without a dataset: enough to place features.

    Args:
        voxel_size: edges along x, y, z in metres.
        point_cloud_range: x, y, z minimum, then maximum, in metres.
        class_names: in the order of their labels, which begin at 1. Needed if the classes of the
            two detectors differ.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        class_names: Sequence[str] = (),
    ) -> None:
        limits = np.array(point_cloud_range, dtype=np.float32)
        if len(voxel_size) != 3 or min(voxel_size) <= 0:
            raise ConfigError(f"VoxelSpace: voxel_size {list(voxel_size)} is not three lengths")
        if limits.shape != (6,) or not (limits[3:] > limits[:3]).all():
            raise ConfigError(
                f"VoxelSpace: point_cloud_range {list(point_cloud_range)} is not x, y, z minimum, "
                "then maximum"
            )
        self.voxel_size = list(voxel_size)
        self.point_cloud_range = limits
        self.grid_size = grid_size_of(limits, voxel_size)
        self.class_names = list(class_names)


def distill(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    terms: Mapping[str, ConfigDict],
    *,
    student_data: VoxelData | None = None,
    teacher_data: VoxelData | None = None,
    example_batch: BatchDict | Callable[[], BatchDict] | None = None,
    teacher_mode: str = "eval",
    head_layout: HeadLayout = own_layout,
) -> Distiller:
    """The module to train in place of ``student``, which is its attribute ``student`` afterwards.

    Args:
        student: the detector that learns.
        teacher: a trained one. It is frozen.
        terms: what is compared, as under DISTILL.TERMS in a yaml file. STUDENT and TEACHER are tap
            paths, or blocks ``{PATH: ..., KIND: bev, CHANNELS: 64, STRIDE: 2}`` for detectors
            without ``taps()``.
        student_data: has the voxels of the student's batches and its class names: a dataset, a
            DataSpec or a VoxelSpace; ``student.dataset`` if None.
        teacher_data: the teacher's; ``teacher.dataset`` if None, or else the student's.
        example_batch: a batch, or a function that makes one when it is needed. The detectors run on
            it once, in eval mode, to find what the terms do not state of their taps.
        teacher_mode: ``eval``, or ``train``: batch normalisation uses the statistics of the batch.
        head_layout: describes the raw predictions of a head, for losses on predictions; the default
            calls its ``prediction_layout()``.
    """
    model = teacher.model if isinstance(teacher, Teacher) else teacher
    if student_data is None:
        student_data = getattr(student, "dataset", None)
    if teacher_data is None:
        teacher_data = getattr(model, "dataset", None)
    if teacher_data is None:
        teacher_data = student_data
    if not isinstance(terms, Mapping) or not terms:
        raise ConfigError("distill: expected at least one term, as {'LOCAL_GRAPH': {'NAME': ...}}")
    if not isinstance(teacher, Teacher):
        classes = _class_map(_class_names(student, student_data), _class_names(model, teacher_data))
        teacher = Teacher(teacher, teacher_mode, classes)
    example = ExampleBatch(example_batch)
    student_source = _tap_source(
        "student", student, student_data, _entries(terms, STUDENT_TAPS), example
    )
    teacher_source = _tap_source(
        "teacher", model, teacher_data, _entries(terms, TEACHER_TAPS), example
    )
    head = DistillHead.from_config(
        _paths_only(terms),
        dataclasses.replace(student_source, head_layout=head_layout),
        dataclasses.replace(teacher_source, head_layout=head_layout),
    )
    return Distiller(student, teacher, head)


def _tap_source(
    role: str,
    model: nn.Module,
    data: VoxelData | None,
    entries: list[tuple[str, str | ConfigDict]],
    example: ExampleBatch,
) -> TapSource:
    """What a detector offers to be compared; ``entries`` are the taps that the terms name."""
    grid = _grid_of(data)
    return TapSource(
        role=role,
        taps=describe_taps(role, model, grid, entries, example),
        grid=grid,
        model=model,
        class_names=_class_names(model, data),
        score_paths=score_paths_of(model),
    )


def _class_map(student: Sequence[str], teacher: Sequence[str]) -> ClassMap | None:
    """Translates labels; None if one of the two does not state its classes."""
    return ClassMap(student, teacher) if student and teacher else None


def _grid_of(data: VoxelData | None) -> NodeGrid | None:
    """The voxel grid of the data; None without data, or for data without voxels."""
    return grid_of(data) if data is not None and hasattr(data, "voxel_size") else None


def _class_names(model: nn.Module, data: VoxelData | None) -> tuple[str, ...]:
    """The classes of the data, or else of the model; empty if neither states them."""
    names = getattr(data, "class_names", None)
    if names is None:
        names = getattr(model, "class_names", None)
    return tuple(names or ())


def _entries(
    terms: Mapping[str, ConfigDict], keys: Sequence[str]
) -> list[tuple[str, str | ConfigDict]]:
    """Key path and value of everything in the terms that names a tap."""
    entries = []
    for name, term in terms.items():
        for key in keys:
            if _names_a_tap(term, key):
                entries.append((f"DISTILL.TERMS.{name}.{key}", term[key]))
    return entries


def _names_a_tap(term: object, key: str) -> bool:
    """Whether a term has a tap under ``key``. What is wrong with a term is reported later."""
    if not isinstance(term, Mapping) or not term.get(key):
        return False
    try:
        term_class = find_term_class(str(term.get("NAME")), key)
    except ConfigError:
        return False
    return issubclass(term_class, DistillLoss) and reads_taps(term_class)


def _paths_only(terms: Mapping[str, ConfigDict]) -> dict[str, ConfigDict]:
    """The terms with the block of every tap replaced by its path."""
    plain: dict[str, ConfigDict] = {}
    for name, term in terms.items():
        plain[name] = term
        if isinstance(term, Mapping):
            plain[name] = {key: _path_of(value, key) for key, value in term.items()}
    return plain


def _path_of(value: object, key: str) -> object:
    if key in (*STUDENT_TAPS, *TEACHER_TAPS) and isinstance(value, Mapping):
        return value["PATH"]
    return value
