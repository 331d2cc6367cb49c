"""The result of a LiDAR evaluation: figures by class, criterion and part, and texts of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...config import LidarEvalOptions
from ..few_objects import highest_possible
from ..result import PrimaryMetric
from .curves import APS, Curve, Figures
from .match_errors import MatchErrors
from .matching import KINDS, Criterion
from .text import class_text, mean_text, table_text

TITLES = {"3d": "3D", "bev": "BEV", "center": "center"}


@dataclass(frozen=True)
class Part:
    """Some of the objects of a class, such as the near ones; ``figures`` by criterion."""

    label: str
    figures: dict[Criterion, Figures] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassResult:
    """Everything about one class.

    Attributes:
        name: the class.
        num_frames: frames with an object that counts.
        num_left_out: objects that do not count: too few points, or out of the evaluated range.
        figures: of all objects, by criterion.
        by_distance: parts from near to far.
        by_points: parts from sparse to dense; empty where the labels do not tell the points.
        errors: how far matched boxes are from their objects.
        remarks: what to know before these figures are read.
        curves: precision over recall, by criterion.
    """

    name: str
    num_frames: int
    num_left_out: int
    figures: dict[Criterion, Figures]
    by_distance: list[Part]
    by_points: list[Part]
    errors: MatchErrors
    remarks: list[str] = field(default_factory=list)
    curves: dict[Criterion, Curve] = field(default_factory=dict)

    @property
    def num_objects(self) -> int:
        """The objects that were to be found."""
        return next(iter(self.figures.values())).num_objects

    @property
    def num_detections(self) -> int:
        """Detections that were right or wrong by the first criterion."""
        return next(iter(self.figures.values())).num_detections

    def criteria(self, kind: str) -> list[Criterion]:
        """The criteria of one of ``KINDS``."""
        return [criterion for criterion in self.figures if criterion.kind == kind]

    def ranking(self, kind: str) -> list[Criterion]:
        """The criteria that rank: the first IoU threshold, or all distances of the centres.

        nuScenes ranks by the mean over the distances.
        """
        criteria = self.criteria(kind)
        return criteria if kind == "center" else criteria[:1]

    def average_precision(self, kind: str, ap: str) -> float | None:
        """AP in percent by the ranking criteria; None for a class without objects."""
        if self.num_objects == 0:
            return None
        values = [self.figures[criterion].average_precision(ap) for criterion in self.ranking(kind)]
        return float(np.mean([value for value in values if value is not None]))


@dataclass(frozen=True)
class LidarResult:
    """An ``EvaluationResult`` in LiDAR coordinates.

    Attributes:
        classes: one entry a class, in the order of the experiment.
        num_frames: the frames that were evaluated.
        options: what was counted as a match.
        remarks: what to know before any figure is read.
    """

    classes: list[ClassResult]
    num_frames: int
    options: LidarEvalOptions
    remarks: list[str] = field(default_factory=list)

    def of_class(self, name: str) -> ClassResult:
        """The entry of one class."""
        return next(entry for entry in self.classes if entry.name == name)

    def map(self, kind: str = "3d", ap: str = "area") -> float:
        """Mean AP in percent over the classes that have objects; 0 where none has."""
        values = [entry.average_precision(kind, ap) for entry in self.classes]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else 0.0

    @property
    def primary(self) -> PrimaryMetric:
        """The mean AP that PRIMARY and PRIMARY_AP choose."""
        kind = self.options.primary
        ap = self.options.primary_ap
        return PrimaryMetric(f"{TITLES[kind]} mAP {ap}", self.map(kind, ap))

    @property
    def ap_dict(self) -> dict[str, float]:
        """All figures but the parts: ``Car_3d/iou0.7_area``, ``Car_errors/position_m``.

        A class without objects has no entries.
        """
        values: dict[str, float] = {}
        for entry in self.classes:
            for criterion, figures in entry.figures.items():
                place = f"{entry.name}_{criterion.kind}/{criterion.key}"
                values.update({f"{place}_{ap}": value for ap, value in _known(figures)})
            errors = dataclasses.asdict(entry.errors)
            for key, value in errors.items():
                if isinstance(value, float):
                    values[f"{entry.name}_errors/{key}"] = value
        for kind in KINDS:
            for ap in APS:
                values[f"mAP_{kind}/{ap}"] = self.map(kind, ap)
        return values

    def metrics(self) -> dict[str, object]:
        """All numbers as nested dicts: ``["Car"]["3d"]["iou0.7"]["area"]``.

        The first key under ``"3d"`` or ``"bev"`` is the threshold that ranks.
        """
        return {entry.name: _class_metrics(entry) for entry in self.classes}

    @property
    def text(self) -> str:
        """The full report."""
        paragraphs = [f"LiDAR evaluation of {self.num_frames} frames; AP, recall and F1 in percent"]
        paragraphs += [f"Warning: {remark}" for remark in self.remarks]
        paragraphs += [class_text(entry) for entry in self.classes]
        paragraphs.append(mean_text(self))
        return "\n\n".join(paragraphs) + "\n"

    def __str__(self) -> str:
        return self.text

    def text_table(self) -> str:
        """One line for each class: its objects, AP by each kind of match, recall."""
        return table_text(self)


def _known(figures: Figures) -> list[tuple[str, float]]:
    """Name and value of the figures that there are."""
    named = [(key, getattr(figures, key)) for key in (*APS, "recall", "best_f1")]
    return [(key, value) for key, value in named if value is not None]


def _class_metrics(entry: ClassResult) -> dict[str, object]:
    highest = highest_possible(entry.num_objects)
    nested: dict[str, object] = {
        "objects": entry.num_objects,
        "objects_left_out": entry.num_left_out,
        "frames": entry.num_frames,
        "highest_possible": highest,
        **_by_kind(entry.figures),
        "by_distance": {part.label: _by_kind(part.figures) for part in entry.by_distance},
        "by_points": {part.label: _by_kind(part.figures) for part in entry.by_points},
        "errors": dataclasses.asdict(entry.errors),
        "warnings": list(entry.remarks),
    }
    return nested


def _by_kind(figures: Mapping[Criterion, Figures]) -> dict[str, dict[str, object]]:
    nested: dict[str, dict[str, object]] = {}
    for criterion, entry in figures.items():
        nested.setdefault(criterion.kind, {})[criterion.key] = dataclasses.asdict(entry)
    return nested
