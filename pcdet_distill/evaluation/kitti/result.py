"""The result of a KITTI evaluation: precision curves, and the APs and texts made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...texts import in_columns
from ..result import PrimaryMetric
from .protocol import DIFFICULTIES, METRICS, MIN_OVERLAP, OVERLAP_SETS

RECALLS = ("R11", "R40")
# Metric of each part of OpenPCDet's keys, in its order: ``Car_image/easy_R40`` is "bbox".
KEY_METRICS = {"aos": "aos", "3d": "3d", "bev": "bev", "image": "bbox"}
Row = dict[str, str | float]


@dataclass(frozen=True)
class KittiResult:
    """Curves of the evaluated classes; everything else is computed from them.

    Attributes:
        classes: names of the evaluated classes.
        precision: "bbox", "bev", "3d" and, when detections have an observation angle, "aos", each
            (class, difficulty, overlap set, 41).
        num_objects: (class, difficulty) objects that count; None where it was not counted.
        remarks: what to know before the numbers are read, such as that objects are few.
    """

    classes: list[str]
    precision: dict[str, np.ndarray]
    num_objects: np.ndarray | None = None
    remarks: list[str] = field(default_factory=list)

    def average_precision(self, metric: str, recall: str = "R40") -> np.ndarray:
        """AP in percent (class, difficulty, overlap set).

        R11 averages the recall points 0, 0.1, ... 1, as KITTI did until 2019. R40 averages 1/40,
        2/40, ... 1: it leaves out recall 0, which one lucky detection is enough for.
        """
        curves = self.precision[metric]
        points = curves[..., ::4] if recall == "R11" else curves[..., 1:]
        return points.mean(axis=-1) * 100

    def map(
        self,
        metric: str = "3d",
        recall: str = "R40",
        difficulty: str = "moderate",
        overlaps: str = "strict",
    ) -> float:
        """Mean AP over the classes, in percent."""
        values = self.average_precision(metric, recall)
        return float(values[:, DIFFICULTIES.index(difficulty), OVERLAP_SETS.index(overlaps)].mean())

    @property
    def primary(self) -> PrimaryMetric:
        """Mean 3D AP over the classes, moderate difficulty, R40, official overlaps."""
        return PrimaryMetric("3D mAP moderate R40", self.map())

    @property
    def ap_dict(self) -> dict[str, float]:
        """OpenPCDet's result dict: ``Car_3d/moderate_R40`` and so on (R40, strict overlaps)."""
        strict = OVERLAP_SETS.index("strict")
        tables = {
            key: self.average_precision(metric)[..., strict]
            for key, metric in KEY_METRICS.items()
            if metric in self.precision
        }
        values = {}
        for class_index, name in enumerate(self.classes):
            for key, table in tables.items():
                for level, value in zip(DIFFICULTIES, table[class_index]):
                    values[f"{name}_{key}/{level}_R40"] = float(value)
        return values

    def metrics(self) -> dict[str, dict[str, object]]:
        """All APs as nested dicts: ``["Car"]["strict"]["3d"]["R40"]["moderate"]``.

        The objects that they are based on are in ``["Car"]["objects"]["moderate"]``.
        """
        nested: dict[str, dict[str, object]] = {}
        for class_index, name in enumerate(self.classes):
            nested[name] = {}
            for set_index, overlap_set in enumerate(OVERLAP_SETS):
                nested[name][overlap_set] = {
                    metric: self._by_recall(metric, class_index, set_index)
                    for metric in self.precision
                }
            if self.num_objects is not None:
                counts = self.num_objects[class_index].tolist()
                nested[name]["objects"] = dict(zip(DIFFICULTIES, counts))
        return nested

    def _by_recall(
        self, metric: str, class_index: int, set_index: int
    ) -> dict[str, dict[str, float]]:
        """AP of one class by one metric: recall rule, then difficulty."""
        by_recall = {}
        for recall in RECALLS:
            values = self.average_precision(metric, recall)[class_index, :, set_index]
            by_recall[recall] = dict(zip(DIFFICULTIES, values.tolist()))
        return by_recall

    def table(
        self, metrics: Sequence[str] = ("bev", "3d"), recall: str = "R40", overlaps: str = "strict"
    ) -> list[Row]:
        """One row per class, and a last one "mAP" of their means.

        A row is ``{"class": "Car", "bev easy": 90.1, ..., "3d hard": 70.2}``.
        """
        values: dict[str, np.ndarray] = {}  # column to AP (class,)
        for metric in metrics:
            if metric in self.precision:
                table = self.average_precision(metric, recall)[..., OVERLAP_SETS.index(overlaps)]
                for level, column in zip(DIFFICULTIES, table.T):
                    values[f"{metric} {level}"] = column
        rows: list[Row] = []
        for index, name in enumerate(self.classes):
            rows.append({"class": name} | {key: float(ap[index]) for key, ap in values.items()})
        rows.append({"class": "mAP"} | {key: float(ap.mean()) for key, ap in values.items()})
        return rows

    def text_table(
        self, metrics: Sequence[str] = ("bev", "3d"), recall: str = "R40", overlaps: str = "strict"
    ) -> str:
        """``table`` as aligned text for a log."""
        rows = self.table(metrics, recall, overlaps)
        cells = [list(rows[0])] + [_cells(row) for row in rows]
        return "\n".join([f"AP {recall}, {overlaps} overlaps", *in_columns(cells)])

    @property
    def text(self) -> str:
        """OpenPCDet's text, line for line."""
        lines = []
        for class_index in range(len(self.classes)):
            for set_index in range(len(OVERLAP_SETS)):
                for recall in RECALLS:
                    lines += self._block(class_index, set_index, recall)
        return "\n".join([*lines, ""])

    def __str__(self) -> str:
        return self.text

    def _block(self, class_index: int, set_index: int, recall: str) -> list[str]:
        """The lines of one class, overlap set and recall rule."""
        name = self.classes[class_index]
        overlaps = _numbers(MIN_OVERLAP[name][OVERLAP_SETS[set_index]], digits=2)
        suffix = "_R40" if recall == "R40" else ""
        lines = [f"{name} AP{suffix}@{overlaps}:"]
        for metric in (*METRICS, "aos"):
            if metric in self.precision:
                values = self.average_precision(metric, recall)[class_index, :, set_index]
                digits = 2 if metric == "aos" else 4
                lines.append(f"{metric:<4} AP:{_numbers(values, digits)}")
        return lines


def _cells(row: Row) -> list[str]:
    return [value if isinstance(value, str) else f"{value:.2f}" for value in row.values()]


def _numbers(values: Sequence[float] | np.ndarray, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
