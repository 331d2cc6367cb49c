"""What a report is made from: one JSON file beside the results of an evaluation.

``report_data.json`` of a result folder holds all that ``report.html`` shows, frames included. So
a page can be built again, and two runs be compared, without the data set and without the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..whole_files import whole_file

FILE = "report_data.json"
FORMAT = 1


@dataclass(frozen=True)
class ApTable:
    """A table of figures.

    Attributes:
        title: heading.
        about: what the numbers are.
        header: names of the columns.
        rows: a name, then numbers; None where there is none.
        num_totals: rows at the end that are means.
    """

    title: str
    about: str
    header: list[str]
    rows: list[list[Any]]
    num_totals: int = 0


@dataclass(frozen=True)
class PrecisionCurve:
    """Precision over recall of one class.

    Attributes:
        class_name: the class.
        criterion: what a match is, such as ``3D, IoU 0.70``.
        about: the rule that makes the AP from the curve.
        ap: in percent, as it stands in the table.
        num_objects: objects that it is based on.
        recall, precision: from 0 to 1.
    """

    class_name: str
    criterion: str
    about: str
    ap: float
    num_objects: int
    recall: list[float]
    precision: list[float]


@dataclass(frozen=True)
class Division:
    """AP of the parts of one class's objects, by distance or by number of points.

    Attributes:
        class_name: the class.
        by: ``distance`` or ``points``.
        criterion: what a match is.
        labels: names of the parts.
        ap: in percent; None for a part without objects.
        recall: in percent.
        num_objects: objects of each part.
        spread: standard deviation of the AP over seeds; empty for a single run.
    """

    class_name: str
    by: str
    criterion: str
    labels: list[str]
    ap: list[float | None]
    recall: list[float | None]
    num_objects: list[int]
    spread: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class SceneBoxes:
    """Boxes of one frame: [x, y, z, dx, dy, dz, heading] each, and what each of them is."""

    names: list[str]
    boxes: list[list[float]]
    scores: list[float]
    verdicts: list[str]


@dataclass(frozen=True)
class Scene:
    """One frame to look at.

    Attributes:
        frame_id: its name.
        points: (N, 3) in centimetres as base64 text of int16; empty where they are not known.
        limits: x0, y0, x1, y1 in metres that the picture shows.
        objects: labelled ones.
        detections: of the evaluated model.
        teacher: detections of its teacher; None where they are not known.
        found_by_teacher: what each object is to the teacher.
    """

    frame_id: str
    points: str
    limits: list[float]
    objects: SceneBoxes
    detections: SceneBoxes
    teacher: SceneBoxes | None = None
    found_by_teacher: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """One evaluation.

    Attributes:
        name: of the model, for headings and legends.
        benchmark: whose rules the tables follow, such as ``KITTI``.
        data: the data set, such as ``KittiDataset, /data/kitti, split val``.
        num_frames: frames that were evaluated.
        class_names: evaluated classes.
        primary: name and value of the number that ranks; empty where there is none.
        facts: further rows of the overview: parameters, milliseconds, checkpoint and so on.
        tables, curves, divisions: figures.
        division_rule: which objects count in ``divisions``.
        remarks: warnings of the evaluation.
        thresholds: score from which a detection is drawn and counted in frames, by class.
        errors: of each frame its objects, and those missed, invented, inexact.
        scenes: the frames with most errors.
        config: the resolved yaml.
        command: what was called.
        training: folder of metrics.jsonl, as seen from the folder of this file; empty if unknown.
        teacher: the record of the teacher without its frames; None where it is not known.
    """

    name: str
    benchmark: str
    data: str
    num_frames: int
    class_names: list[str]
    primary: list[Any] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    tables: list[ApTable] = field(default_factory=list)
    curves: list[PrecisionCurve] = field(default_factory=list)
    divisions: list[Division] = field(default_factory=list)
    division_rule: str = ""
    remarks: list[str] = field(default_factory=list)
    thresholds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, list[int]] = field(default_factory=dict)
    scenes: list[Scene] = field(default_factory=list)
    config: str = ""
    command: str = ""
    training: str = ""
    teacher: Record | None = None

    def as_teacher(self) -> Record:
        """What the record of a student keeps of its teacher."""
        return replace(self, scenes=[], errors={}, config="", teacher=None)


def write_record(record: Record, folder: Path) -> Path:
    """Write the record into a result folder, as a whole or not at all."""
    file = folder / FILE
    content = {"format": FORMAT, **asdict(record)}
    with whole_file(file) as partial:
        partial.write_text(json.dumps(content, default=float), encoding="utf-8")
    return file


def read_record(file: Path) -> Record:
    """The record in a file of ``write_record``."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format")
        if version != FORMAT:
            raise DataError(
                f"{file}: has format {version}, expected {FORMAT}; evaluate again, or use the "
                "version of pcdet_distill that wrote it"
            )
        return _record(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: not the data of a report ({error!r})") from None


def _record(content: Mapping[str, Any]) -> Record:
    values = dict(content)
    values["tables"] = [ApTable(**each) for each in values["tables"]]
    values["curves"] = [PrecisionCurve(**each) for each in values["curves"]]
    values["divisions"] = [Division(**each) for each in values["divisions"]]
    values["scenes"] = [_scene(each) for each in values["scenes"]]
    if values["teacher"] is not None:
        values["teacher"] = _record(values["teacher"])
    return Record(**values)


def _scene(content: Mapping[str, Any]) -> Scene:
    values = dict(content)
    for key in ("objects", "detections", "teacher"):
        if values[key] is not None:
            values[key] = SceneBoxes(**values[key])
    return Scene(**values)
