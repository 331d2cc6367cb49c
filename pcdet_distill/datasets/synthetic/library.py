"""The shapes a scene may hold, by name, built once per process; and the sizes they come in."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from . import road_users, street
from .lidar import Shapes

WALKING_POSES = ((0.0, 0.02), (0.08, 0.06), (0.16, 0.12), (0.24, 0.18), (0.30, 0.26), (0.20, 0.05))
RIDING_POSES = ((1.0, 0.35), (0.3, 0.45), (-0.5, 0.25), (-1.0, 0.60), (0.6, 0.15))


@dataclass(frozen=True)
class Kind:
    """What a label's class looks like: template names, mean and spread of (length, width, height) in metres."""

    templates: tuple[str, ...]
    mean_m: tuple[float, float, float]
    spread_m: tuple[float, float, float]


KINDS: dict[str, Kind] = {
    "Car": Kind(tuple(road_users.CAR_STYLES), (3.88, 1.63, 1.53), (0.40, 0.09, 0.11)),
    "Van": Kind(("van",), (5.06, 1.90, 2.20), (0.45, 0.12, 0.25)),
    "Truck": Kind(("truck",), (9.5, 2.58, 3.25), (1.8, 0.15, 0.3)),
    "Pedestrian": Kind(
        tuple(f"pedestrian{k}" for k in range(len(WALKING_POSES))),
        (0.0, 0.66, 1.75),
        (0.0, 0.05, 0.10),
    ),  # the length follows from the stride
    "Person_sitting": Kind(("person_sitting",), (0.80, 0.60, 1.28), (0.05, 0.04, 0.06)),
    "Cyclist": Kind(
        tuple(f"cyclist{k}" for k in range(len(RIDING_POSES))),
        (1.76, 0.60, 1.73),
        (0.10, 0.04, 0.08),
    ),
}


@dataclass(frozen=True)
class Library:
    """Every template by its row in ``shapes``."""

    shapes: Shapes
    index: dict[str, int]

    def draw(self, label: str, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """One template of a labelled class and its size ``(3,)``."""
        kind = KINDS[label]
        template = self.index[kind.templates[rng.integers(len(kind.templates))]]
        size = np.array(kind.mean_m) + np.array(kind.spread_m) * np.clip(
            rng.normal(size=3), -2.0, 2.0
        )
        if label == "Pedestrian":
            size[0] = self.shapes.sizes_m[template, 0] * rng.uniform(0.92, 1.08)
        return template, size


@functools.lru_cache(maxsize=1)
def library() -> Library:
    """All templates, packed."""
    templates = [road_users.car(style) for style in road_users.CAR_STYLES]
    templates += [
        road_users.van(),
        road_users.truck(),
        road_users.person_sitting(),
        road_users.bicycle(),
    ]
    names = [template.name for template in templates]
    templates += [road_users.pedestrian(*pose) for pose in WALKING_POSES]
    names += KINDS["Pedestrian"].templates
    templates += [road_users.cyclist(*pose) for pose in RIDING_POSES]
    names += KINDS["Cyclist"].templates
    furniture = [
        street.plain_box("wall", "masonry"),
        street.plain_box("hedge", "hedge"),
        street.house(),
        street.tree(),
        street.bush(),
        street.fence(),
        street.guard_rail(),
        street.pole(),
        street.sign(),
        street.litter_bin(),
    ]
    names += [template.name for template in furniture]
    return Library(
        Shapes.pack(templates + furniture), {name: row for row, name in enumerate(names)}
    )
