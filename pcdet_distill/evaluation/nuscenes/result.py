"""The result of a nuScenes evaluation: APs, errors, mAP and NDS, and OpenPCDet's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...texts import in_columns
from ..result import PrimaryMetric
from .protocol import CONFIG_NAME, DETECTION_NAMES, ERRORS, MAP_WEIGHT, MATCH_DISTANCES_M

OWN_RULES = "the rules of this package"


@dataclass(frozen=True)
class NuScenesResult:
    """APs and errors of the ten classes; everything else is computed from them.

    Attributes:
        ap: by class and distance in metres, from 0 to 1.
        errors: by class and name of the error; NaN where a class has no such error.
        num_objects: labelled boxes by class that count in the evaluation.
        classes: order of the classes in the text.
        computed_by: the name of what computed the numbers.
        precision: (101,) at the recalls 0, 0.01, ... 1, by class and distance; empty where it was
            not kept.
    """

    ap: dict[str, dict[float, float]]
    errors: dict[str, dict[str, float]]
    num_objects: dict[str, int]
    classes: Sequence[str] = DETECTION_NAMES
    computed_by: str = OWN_RULES
    precision: Mapping[str, Mapping[float, np.ndarray]] = field(default_factory=dict)

    def class_ap(self, name: str) -> float:
        """AP of a class: the mean over the four distances."""
        return float(np.mean([self.ap[name][distance] for distance in MATCH_DISTANCES_M]))

    @property
    def mean_ap(self) -> float:
        """Mean AP over the ten classes; a class without labelled boxes counts as 0."""
        return float(np.mean([self.class_ap(name) for name in DETECTION_NAMES]))

    @property
    def mean_errors(self) -> dict[str, float]:
        """Of each error the mean over the classes that have it."""
        means = {}
        for error in ERRORS:
            values = [self.errors[name][error] for name in DETECTION_NAMES]
            means[error] = float(np.nanmean(values))
        return means

    @property
    def scores(self) -> dict[str, float]:
        """1 - error, and 0 for errors above 1."""
        return {name: max(1.0 - error, 0.0) for name, error in self.mean_errors.items()}

    @property
    def detection_score(self) -> float:
        """NDS: mAP counts as much as the five scores of the errors together."""
        total = MAP_WEIGHT * self.mean_ap + float(np.sum(list(self.scores.values())))
        return total / (MAP_WEIGHT + len(ERRORS))

    @property
    def primary(self) -> PrimaryMetric:
        """NDS, from 0 to 1."""
        return PrimaryMetric("NDS", self.detection_score)

    @property
    def ap_dict(self) -> dict[str, float]:
        """OpenPCDet's result dict: the five errors, mAP and NDS."""
        return {**self.mean_errors, "mAP": self.mean_ap, "NDS": self.detection_score}

    def metrics(self) -> dict[str, object]:
        """All numbers with the keys of the devkit's ``metrics_summary.json``.

        ``num_objects`` and ``computed_by`` are added.
        """
        return {
            "label_aps": {
                name: {str(distance): value for distance, value in by_distance.items()}
                for name, by_distance in self.ap.items()
            },
            "mean_dist_aps": {name: self.class_ap(name) for name in DETECTION_NAMES},
            "mean_ap": self.mean_ap,
            "label_tp_errors": {name: dict(values) for name, values in self.errors.items()},
            "tp_errors": self.mean_errors,
            "tp_scores": self.scores,
            "nd_score": self.detection_score,
            "num_objects": dict(self.num_objects),
            "computed_by": self.computed_by,
        }

    @property
    def text(self) -> str:
        """OpenPCDet's text, line for line."""
        lines = [f"----------------Nuscene {CONFIG_NAME} results-----------------"]
        for name in self.classes:
            lines += self._class_lines(name)
        lines.append("--------------average performance-------------")
        for error, value in self.mean_errors.items():
            lines.append(f"{error}:\t {value:.4f}")
        lines.append(f"mAP:\t {self.mean_ap:.4f}")
        lines.append(f"NDS:\t {self.detection_score:.4f}")
        return "\n".join([*lines, ""])

    def __str__(self) -> str:
        return self.text

    def _class_lines(self, name: str) -> list[str]:
        """The two lines of a class."""
        short = ", ".join(error.split("_")[0] for error in ERRORS)
        distances = ", ".join(str(distance) for distance in MATCH_DISTANCES_M)
        errors = ", ".join(f"{self.errors[name][error]:.2f}" for error in ERRORS)
        aps = ", ".join(f"{self.ap[name][distance] * 100:.2f}" for distance in MATCH_DISTANCES_M)
        return [
            f"***{name} error@{short} | AP@{distances}",
            f"{errors} | {aps} | mean AP: {self.class_ap(name)}",
        ]

    def text_table(self) -> str:
        """One line for each class: labelled objects, AP in percent, the five errors."""
        header = ["class", "objects", "AP", *(error.split("_")[0] for error in ERRORS)]
        rows = [header]
        for name in self.classes:
            cells = [name, str(self.num_objects[name]), f"{self.class_ap(name) * 100:.2f}"]
            cells += [_error_cell(self.errors[name][error]) for error in ERRORS]
            rows.append(cells)
        means = [_error_cell(value) for value in self.mean_errors.values()]
        total = str(sum(self.num_objects.values()))
        rows.append(["mean", total, f"{self.mean_ap * 100:.2f}", *means])
        title = f"NDS {self.detection_score * 100:.2f}, mAP {self.mean_ap * 100:.2f}"
        lines = [f"{title} (computed by {self.computed_by})", *in_columns(rows)]
        absent = [name for name in self.classes if self.num_objects[name] == 0]
        if absent:
            lines.append(f"no labelled objects, so they count as 0 in mAP: {', '.join(absent)}")
        return "\n".join(lines)


def _error_cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
