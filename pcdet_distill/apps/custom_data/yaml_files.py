"""The yaml files of a data set: a PointPillars teacher, and a student of a quarter of its size.

They are made of texts, ``yaml_templates.py``, because each value that depends on the data has a
comment that says how it was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .settings import Anchor, Grid, Sampling, Schedule, VoxelLimits
from .yaml_templates import ANCHOR, DATASET, FLIP, SHORT_TRAINING, STUDENT, TEACHER

TEACHER_CHANNELS = 64
STUDENT_CHANNELS = 32


@dataclass(frozen=True)
class YamlValues:
    """What the yaml files say about the data."""

    data_path: Path
    classes: tuple[str, ...]
    stored: tuple[str, ...]
    seen: tuple[str, ...]
    grid: Grid
    limits: VoxelLimits
    anchors: tuple[Anchor, ...]
    sampling: dict[str, Sampling]
    schedule: Schedule
    comments: dict[str, str]


def quoted(name: str) -> str:
    """A text that yaml reads as this text: in double quotes, with its own letters."""
    return json.dumps(name, ensure_ascii=False)


def listed(names: Sequence[str]) -> str:
    """A yaml list of texts on one line."""
    return f"[{', '.join(quoted(name) for name in names)}]"


def dataset_yaml(values: YamlValues) -> str:
    """The DATA_CONFIG of both files."""
    grid = values.grid
    nx, ny = grid.shape
    not_seen = [name for name in values.stored if name not in values.seen]
    return DATASET.substitute(
        data_path=quoted(str(values.data_path)),
        why_range=values.comments["range"],
        nx=nx,
        ny=ny,
        limits=_numbers(grid.limits),
        why_split=values.comments["split"],
        seen=listed(values.seen),
        more=f"; points/ also has {', '.join(not_seen)}" if not_seen else "",
        stored=listed(values.stored),
        min_points=_entries({name: part.min_points for name, part in values.sampling.items()}),
        counts=_entries({name: part.count for name, part in values.sampling.items()}),
        num_features=len(values.stored),
        flip=FLIP.substitute(axes=", ".join(grid.flip_axes)) if grid.flip_axes else "",
        why_pillar=values.comments["pillar"],
        why_voxels=values.comments["voxels"],
        pillar=f"{grid.pillar_m:g}",
        height=f"{round(grid.limits[5] - grid.limits[2], 2):g}",
        max_points=values.limits.max_points,
        max_train=values.limits.train,
        max_test=values.limits.test,
    )


def _numbers(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{number:g}' for number in numbers)}]"


def _entries(numbers: Mapping[str, int]) -> str:
    """A list of 'Class:number'."""
    return listed([f"{name}:{number}" for name, number in numbers.items()])


def teacher_yaml(values: YamlValues, dataset_file: str, own_file: str) -> str:
    """PointPillars at KITTI's widths."""
    schedule = values.schedule
    return TEACHER.substitute(
        own_file=own_file,
        classes=listed(values.classes),
        dataset_file=quoted(dataset_file),
        momentum=SHORT_TRAINING if schedule.is_short else "",
        **_widths(TEACHER_CHANNELS),
        anchors="".join(_anchor(anchor) for anchor in values.anchors),
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        why_epochs=values.comments["epochs"],
    )


def _widths(channels: int) -> dict[str, int]:
    """The channels of the three levels of the backbone."""
    return {"channels": channels, "channels_2": 2 * channels, "channels_4": 4 * channels}


def _anchor(anchor: Anchor) -> str:
    return ANCHOR.substitute(
        name=quoted(anchor.name),
        size=_numbers(anchor.size),
        bottom=f"{anchor.bottom_m:g}",
        matched=f"{anchor.matched:g}",
        unmatched=f"{anchor.unmatched:g}",
    )


def student_yaml(teacher_file: str, own_file: str) -> str:
    """The teacher at half of its widths, initialised from it."""
    return STUDENT.substitute(
        own_file=own_file, teacher_file=quoted(teacher_file), **_widths(STUDENT_CHANNELS)
    )
