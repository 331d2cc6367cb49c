"""The result of an Argoverse 2 evaluation: one row for each category, and their means."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ..result import PrimaryMetric
from .protocol import Argoverse2Protocol

FEW_OBJECTS = 50
COLUMNS = {"AP": "ap", "ATE": "ate_m", "ASE": "ase", "AOE": "aoe_rad", "CDS": "cds"}


@dataclass(frozen=True)
class CategoryResult:
    """One category.

    Attributes:
        name: as the labels write it.
        num_objects, num_detections: those that count.
        ap: average precision, 0 to 1.
        ap_by_distance: at each distance of the protocol.
        ate_m, ase, aoe_rad: mean errors of position, size and heading.
        cds: the composite detection score, 0 to 1.
    """

    name: str
    num_objects: int
    num_detections: int
    ap: float
    ap_by_distance: tuple[float, ...]
    ate_m: float
    ase: float
    aoe_rad: float
    cds: float


@dataclass(frozen=True)
class Argoverse2Result:
    """An ``EvaluationResult``; values are 0 to 1, metres and radians, as Argoverse 2 gives them.

    Attributes:
        categories: the evaluated ones.
        num_frames: frames that were evaluated.
        protocol: what was counted.
    """

    categories: list[CategoryResult]
    num_frames: int
    protocol: Argoverse2Protocol

    def of_category(self, name: str) -> CategoryResult:
        """The row of one category."""
        return next(entry for entry in self.categories if entry.name == name)

    def means(self) -> dict[str, float]:
        """The mean of each column over the categories that have objects; 0 where none has."""
        with_objects = [entry for entry in self.categories if entry.num_objects]
        columns = {}
        for title, attribute in COLUMNS.items():
            values = [float(getattr(entry, attribute)) for entry in with_objects]
            columns[title] = float(np.mean(values)) if values else 0.0
        return columns

    @property
    def primary(self) -> PrimaryMetric:
        """The mean composite detection score, by which the leaderboard ranks."""
        return PrimaryMetric("CDS", self.means()["CDS"])

    @property
    def ap_dict(self) -> dict[str, float]:
        """``Regular_vehicle/AP`` and so on, and ``mean/CDS``; categories without objects lack."""
        values = {f"mean/{title}": value for title, value in self.means().items()}
        for entry in self.categories:
            if entry.num_objects:
                for title, attribute in COLUMNS.items():
                    values[f"{entry.name}/{title}"] = float(getattr(entry, attribute))
        return values

    def metrics(self) -> dict[str, object]:
        """All numbers as nested dicts: ``["Regular_vehicle"]["ap"]``."""
        nested: dict[str, object] = {
            entry.name: dataclasses.asdict(entry) for entry in self.categories
        }
        nested["mean"] = self.means()
        return nested

    @property
    def text(self) -> str:
        """A line for each category with its number of objects, the means, and warnings."""
        lines = [
            f"Argoverse 2 evaluation of {self.num_frames} frames, objects within "
            f"{self.protocol.max_range_m:g} m",
            _line("", "objects", *COLUMNS),
        ]
        lines += [_category_line(entry) for entry in self.categories]
        means = [f"{value:.3f}" for value in self.means().values()]
        num_objects = sum(entry.num_objects for entry in self.categories)
        lines.append(_line("mean of those with objects", str(num_objects), *means))
        few = [entry for entry in self.categories if 0 < entry.num_objects < FEW_OBJECTS]
        if few:
            listed = ", ".join(f"{entry.name} {entry.num_objects}" for entry in few)
            lines.append(
                f"Warning: few objects, so that AP and errors say little: {listed}; expected "
                f"{FEW_OBJECTS} or more"
            )
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return self.text

    def text_table(self) -> str:
        """Empty: the text is a table already."""
        return ""


def _category_line(entry: CategoryResult) -> str:
    if entry.num_objects == 0:
        return _line(entry.name, "0", *["-"] * len(COLUMNS))
    values = [f"{getattr(entry, attribute):.3f}" for attribute in COLUMNS.values()]
    return _line(entry.name, str(entry.num_objects), *values)


def _line(name: str, *cells: str) -> str:
    return f"{name:<32}" + "".join(f"{cell:>9}" for cell in cells)
