"""The result of a KITTI evaluation: precision curves, and the average precisions and texts made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..result import PrimaryMetric
from .protocol import DIFFICULTIES, METRICS, MIN_OVERLAP, OVERLAP_SETS

RECALLS = ("R11", "R40")


@dataclass(frozen=True)
class KittiResult:
    """Curves of the evaluated ``classes``; everything else is computed from them.

    ``precision`` maps "bbox", "bev", "3d" and, when detections have an observation angle, "aos" to an array
    (class, difficulty, overlap set, 41).
    """

    classes: list[str]
    precision: dict[str, np.ndarray]

    def average_precision(self, metric: str, recall: str = "R40") -> np.ndarray:
        """AP in percent (class, difficulty, overlap set): R11 averages points 0, 4 .. 40, R40 points 1 .. 40."""
        curves = self.precision[metric]
        points = curves[..., ::4] if recall == "R11" else curves[..., 1:]
        return points.mean(axis=-1) * 100

    @property
    def text(self) -> str:
        """OpenPCDet's text, line for line."""
        return str(self)

    @property
    def primary(self) -> PrimaryMetric:
        """Mean 3D AP over the classes, moderate difficulty, R40, official overlaps."""
        return PrimaryMetric("3D mAP moderate R40", self.map())

    @property
    def ap_dict(self) -> dict[str, float]:
        """OpenPCDet's result dict: ``Car_3d/moderate_R40`` and so on (R40, strict overlaps)."""
        named = {"aos": "aos", "3d": "3d", "bev": "bev", "image": "bbox"}
        tables = {
            key: self.average_precision(metric)
            for key, metric in named.items()
            if metric in self.precision
        }
        return {
            f"{name}_{key}/{difficulty}_R40": float(table[c, d, 0])
            for c, name in enumerate(self.classes)
            for key, table in tables.items()
            for d, difficulty in enumerate(DIFFICULTIES)
        }

    def metrics(self) -> dict[str, Any]:
        """All APs as plain nested dicts: ``["Car"]["strict"]["3d"]["R40"]["moderate"]``."""
        tables = {
            (metric, recall): self.average_precision(metric, recall)
            for metric in self.precision
            for recall in RECALLS
        }
        return {
            name: {
                overlap_set: {
                    metric: {
                        recall: {
                            level: float(tables[metric, recall][c, d, s])
                            for d, level in enumerate(DIFFICULTIES)
                        }
                        for recall in RECALLS
                    }
                    for metric in self.precision
                }
                for s, overlap_set in enumerate(OVERLAP_SETS)
            }
            for c, name in enumerate(self.classes)
        }

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

    def table(
        self, metrics: Sequence[str] = ("bev", "3d"), recall: str = "R40", overlaps: str = "strict"
    ) -> list[dict[str, Any]]:
        """One row per class and a last one "mAP": ``{"class": "Car", "bev easy": 90.1, ..., "3d hard": 70.2}``."""
        shown = [metric for metric in metrics if metric in self.precision]
        values = np.stack(
            [
                self.average_precision(metric, recall)[..., OVERLAP_SETS.index(overlaps)]
                for metric in shown
            ],
            axis=1,
        )
        rows = [*zip(self.classes, values), ("mAP", values.mean(axis=0))]
        return [
            {
                "class": name,
                **{
                    f"{metric} {level}": float(row[m, d])
                    for m, metric in enumerate(shown)
                    for d, level in enumerate(DIFFICULTIES)
                },
            }
            for name, row in rows
        ]

    def text_table(
        self, metrics: Sequence[str] = ("bev", "3d"), recall: str = "R40", overlaps: str = "strict"
    ) -> str:
        """``table`` as aligned text for a log."""
        rows = self.table(metrics, recall, overlaps)
        columns = list(rows[0])
        cells = [columns] + [
            [value if isinstance(value, str) else f"{value:.2f}" for value in row.values()]
            for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = [
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])),
                ]
            )
            for row in cells
        ]
        return "\n".join([f"AP {recall}, {overlaps} overlaps", *lines])

    def __str__(self) -> str:
        """OpenPCDet's text, line for line."""
        lines = [
            line
            for c in range(len(self.classes))
            for s in range(len(OVERLAP_SETS))
            for recall in RECALLS
            for line in self._block(c, s, recall)
        ]
        return "\n".join([*lines, ""])

    def _block(self, class_index: int, set_index: int, recall: str) -> list[str]:
        """The lines of one class, overlap set and recall rule."""
        name = self.classes[class_index]
        overlaps = ", ".join(f"{value:.2f}" for value in MIN_OVERLAP[name][OVERLAP_SETS[set_index]])
        lines = [f"{name} AP{'_R40' if recall == 'R40' else ''}@{overlaps}:"]
        for metric in (*METRICS, "aos"):
            if metric in self.precision:
                values = self.average_precision(metric, recall)[class_index, :, set_index]
                digits = 2 if metric == "aos" else 4
                lines.append(
                    f"{metric:<4} AP:" + ", ".join(f"{value:.{digits}f}" for value in values)
                )
        return lines
