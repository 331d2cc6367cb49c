"""ExportConfig: what ``config.json`` beside an exported network says.

A program that reads this file and runs the network needs nothing else: no yaml, no checkpoint and
none of this package. The road from points to boxes is:

1. Bring the columns of a point into the order of ``points.features``; multiply by ``points.scale``.
2. Group the points into pillars by ``voxels``: the arrays of ``inputs``.
3. Run ``model``. It gives the arrays of ``outputs``, for each of ``heads`` its boxes and scores.
4. Drop low scores and run NMS, group by group of ``post_processing.nms``.

A file with ``stages_outside`` is a part of a network. These stages must run before it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from ..config import nearest
from ..errors import DataError
from ..whole_files import whole_file

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
MODEL_FILE = "model.onnx"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of the network.

    Attributes:
        name: of the tensor in the file.
        dtype: ``float32`` or ``int32``.
        shape: a number, or a letter for a size that may differ from run to run: P pillars, N
            points.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclasses.dataclass(frozen=True)
class PointSpec:
    """The points that the network learnt from.

    Attributes:
        features: names of the columns, in order; x, y, z in metres are the first.
        range_m: x, y, z minimum, then maximum; points outside are dropped.
        scale: what each column is multiplied with; 1 where the sensor's unit is the network's.
        largest_intensity: 1, 255 or 65535, the end of the intensities' scale after this
            multiplication. Null: the model reads none, or the scale is not known.
    """

    features: tuple[str, ...]
    range_m: tuple[float, ...]
    scale: tuple[float, ...]
    largest_intensity: float | None = None


@dataclasses.dataclass(frozen=True)
class VoxelSpec:
    """How points are grouped.

    A point's cell is ``floor((xyz - range_min) / size)`` in float32. Points outside of the grid, or
    NaN, are dropped. Pillars are numbered by their first point. A full pillar drops later points;
    after ``max_voxels`` pillars no new one is opened.

    Attributes:
        kind: ``fixed``: the inputs hold ``max_points`` slots a pillar, unused ones are zero.
            ``dynamic``: every point is kept and knows its pillar; the height is ignored.
        size_m: edges along x, y, z.
        grid: number of cells along x, y, z.
        max_points: slots of a pillar; null where dynamic.
        max_voxels: pillars at most; null where dynamic.
    """

    kind: str
    size_m: tuple[float, ...]
    grid: tuple[int, ...]
    max_points: int | None
    max_voxels: int | None


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """The outputs of one head. All its boxes are decoded: x, y, z, dx, dy, dz, heading, velocities.

    Attributes:
        boxes: name of the output (A, 7 or 9).
        scores: name of the output: (A, classes) where every box has a score for each class, (A,)
            where every box has a label already.
        labels: name of the output (A,) of labels from 1; null where scores have class columns.
        column_labels: labels (from 1) of the class columns; empty with ``labels``.
        filter_scores: name of the output (A,) that the score threshold is compared with, where it
            is not ``scores``. CenterPoint with an IoU branch filters first, then corrects scores.
    """

    boxes: str
    scores: str
    labels: str | None
    column_labels: tuple[int, ...]
    filter_scores: str | None


@dataclasses.dataclass(frozen=True)
class NmsGroup:
    """Boxes that suppress each other.

    The final boxes of a frame are those that the groups keep, one group after the other.

    Attributes:
        heads: numbers of the heads whose boxes take part, one after the other.
        label: only the scores or boxes of this class take part. With null all do: where scores have
            class columns, every box has the label of its highest score.
        kind: ``rotated`` or ``axis_aligned``: by the IoU from above; ``circle``: by the distance of
            the centres.
        threshold: a box is dropped when its IoU with a better one is above; with ``circle`` when
            the distance in metres is not above.
        pre_maxsize: this many boxes of highest score take part; of equal scores the first. Null:
            all.
        post_maxsize: this many are kept at most. Null: all.
    """

    heads: tuple[int, ...]
    label: int | None
    kind: str
    threshold: float
    pre_maxsize: int | None
    post_maxsize: int | None


@dataclasses.dataclass(frozen=True)
class PostProcessing:
    """From the outputs of the network to the final boxes.

    Attributes:
        score_threshold: lower scores do not take part in NMS.
        keeps_equal: whether a score equal to the threshold takes part.
        centre_range_m: x, y, z minimum, then maximum: boxes with a centre outside are dropped
            before NMS. Null: none is dropped.
        nms: the groups, in the order of the final boxes.
    """

    score_threshold: float
    keeps_equal: bool
    centre_range_m: tuple[float, ...] | None
    nms: tuple[NmsGroup, ...]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """All of ``config.json``.

    Attributes:
        format_version: of this file; readers refuse another.
        package_version: of the pcdet_distill that wrote it.
        detector: MODEL.NAME of the yaml.
        layout: ``boxes``: one network from ``inputs`` to decoded boxes. Other layouts are those of
            other projects' programs.
        stages: what the network computes, in order.
        stages_outside: what has to run before it; empty for a network that takes pillars.
        checkpoint: file name of the checkpoint.
        checkpoint_sha256: of that file.
        model: file name of the network.
        model_sha256: of that file; another means that the two files do not belong together.
        class_names: label 1 is the first.
        points, voxels: how points become inputs.
        inputs, outputs: of the network.
        heads, post_processing: how outputs become boxes.
    """

    format_version: int
    package_version: str
    detector: str
    layout: str
    stages: tuple[str, ...]
    stages_outside: tuple[str, ...]
    checkpoint: str
    checkpoint_sha256: str
    model: str
    model_sha256: str
    class_names: tuple[str, ...]
    points: PointSpec
    voxels: VoxelSpec
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    heads: tuple[HeadSpec, ...]
    post_processing: PostProcessing

    def to_text(self) -> str:
        """The content of the file."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def to_json(self, path: str | Path) -> None:
        """Write the file."""
        path = Path(path)
        try:
            with whole_file(path) as partial:
                partial.write_text(self.to_text(), encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error

    @classmethod
    def from_json(cls, path: str | Path) -> ExportConfig:
        """Read the file; a missing, unknown or misshapen entry is a DataError that names it."""
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise DataError(f"{path}: is no JSON ({error})") from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path}: format_version is {version}, expected {FORMAT_VERSION}: the "
                f"{CONFIG_FILE} of an export by this version"
            )
        return _read_value(content, cls, str(path))


# The type of a field is only known when the file is read, so these four take and return any.
def _read_value(value: Any, kind: Any, where: str) -> Any:
    """``value`` of a JSON file as a ``kind``: a dataclass, tuple, number, text, or one of several.

    Args:
        where: file and key path, for messages.
    """
    if dataclasses.is_dataclass(kind):
        return _read_part(value, kind, where)
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        return _read_one_of(value, typing.get_args(kind), where)
    if origin is tuple:
        return _read_tuple(value, typing.get_args(kind)[0], where)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise DataError(f"{where} is {value!r}, expected {kind.__name__}")
    return value


def _read_part(value: Any, kind: Any, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    names = list(fields)
    if not isinstance(value, dict):
        raise DataError(f"{where} is {value!r}, expected the keys {', '.join(names)}")
    for key in value:
        if key not in names:
            raise DataError(f"{where}: unknown key '{key}'{nearest(key, names)}")
    kinds = typing.get_type_hints(kind)
    values = {}
    for name in names:
        if name not in value:
            if fields[name].default is not dataclasses.MISSING:
                continue  # files of older versions lack it
            raise DataError(f"{where}: '{name}' is missing")
        values[name] = _read_value(value[name], kinds[name], f"{where}: {name}")
    return kind(**values)


def _read_tuple(value: Any, kind: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise DataError(f"{where} is {value!r}, expected a list")
    entries = []
    for number, entry in enumerate(value):
        entries.append(_read_value(entry, kind, f"{where}[{number}]"))
    return tuple(entries)


def _read_one_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """A value whose type is a choice: nothing or a part, a number or a text."""
    if value is None and type(None) in kinds:
        return None
    if type(value) in kinds:
        return value
    others = [kind for kind in kinds if kind is not type(None)]
    return _read_value(value, others[0], where)
