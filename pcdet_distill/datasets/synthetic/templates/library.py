"""All templates of a scene by name, built once per process, and the sizes of road users."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..nuscenes import shapes as nuscenes_shapes
from . import lookalike_shapes, more_road_users, road_users, street
from .shapes import Shapes

# Arguments of ``road_users.pedestrian``: stride and arm swing in metres.
WALKING_POSES = (
    (0.0, 0.02),
    (0.08, 0.06),
    (0.16, 0.12),
    (0.24, 0.18),
    (0.30, 0.26),
    (0.20, 0.05),
)
# Arguments of ``road_users.cyclist``: pedals from -1 to 1, lean of the back in radians.
RIDING_POSES = (
    (1.0, 0.35),
    (0.3, 0.45),
    (-0.5, 0.25),
    (-1.0, 0.60),
    (0.6, 0.15),
)


@dataclass(frozen=True)
class RoadUser:
    """A labelled class.

    Attributes:
        templates: names of its templates.
        mean_m: length, width, height.
        spread_m: standard deviation of each.
    """

    templates: tuple[str, ...]
    mean_m: tuple[float, float, float]
    spread_m: tuple[float, float, float]


PEDESTRIANS = tuple(f"pedestrian{number}" for number in range(len(WALKING_POSES)))
CYCLISTS = tuple(f"cyclist{number}" for number in range(len(RIDING_POSES)))
ROAD_USERS: dict[str, RoadUser] = {
    "Car": RoadUser(tuple(road_users.CAR_STYLES), (3.88, 1.63, 1.53), (0.40, 0.09, 0.11)),
    "Van": RoadUser(("van",), (5.06, 1.90, 2.20), (0.45, 0.12, 0.25)),
    "Truck": RoadUser(("truck",), (9.5, 2.58, 3.25), (1.8, 0.15, 0.3)),
    # The length of a pedestrian follows from the stride of the template.
    "Pedestrian": RoadUser(PEDESTRIANS, (0.0, 0.66, 1.75), (0.0, 0.05, 0.10)),
    "Person_sitting": RoadUser(("person_sitting",), (0.80, 0.60, 1.28), (0.05, 0.04, 0.06)),
    "Cyclist": RoadUser(CYCLISTS, (1.76, 0.60, 1.73), (0.10, 0.04, 0.08)),
}


@dataclass(frozen=True)
class Library:
    """All templates.

    Attributes:
        shapes: their table.
        index: row of each template in the table, by name.
    """

    shapes: Shapes
    index: dict[str, int]

    def draw(self, label: str, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A random template of a labelled class, and a random size (3,) for it."""
        road_user = ROAD_USERS[label]
        name = road_user.templates[rng.integers(len(road_user.templates))]
        template = self.index[name]
        deviations = np.clip(rng.normal(size=3), -2.0, 2.0)
        size_m = np.array(road_user.mean_m) + np.array(road_user.spread_m) * deviations
        if label == "Pedestrian":
            size_m[0] = self.shapes.sizes_m[template, 0] * rng.uniform(0.92, 1.08)
        return template, size_m


@functools.lru_cache(maxsize=1)
def library() -> Library:
    """All templates, in one table."""
    templates = {style: road_users.car(style) for style in road_users.CAR_STYLES}
    templates["van"] = road_users.van()
    templates["truck"] = road_users.truck()
    templates["person_sitting"] = road_users.person_sitting()
    templates["bicycle"] = road_users.bicycle()
    for name, (stride_m, arm_swing_m) in zip(PEDESTRIANS, WALKING_POSES):
        templates[name] = road_users.pedestrian(stride_m, arm_swing_m)
    for name, (knee_lift, lean_rad) in zip(CYCLISTS, RIDING_POSES):
        templates[name] = road_users.cyclist(knee_lift, lean_rad)
    templates["wall"] = street.plain_box("wall", "masonry")
    templates["hedge"] = street.plain_box("hedge", "hedge")
    templates["house"] = street.house()
    templates["tree"] = street.tree()
    templates["bush"] = street.bush()
    templates["fence"] = street.fence()
    templates["guard_rail"] = street.guard_rail()
    templates["pole"] = street.pole()
    templates["sign"] = street.sign()
    templates["litter_bin"] = street.litter_bin()
    templates.update(more_road_users.templates())
    templates.update(lookalike_shapes.templates())
    templates.update(nuscenes_shapes.templates())
    index = {name: row for row, name in enumerate(templates)}
    return Library(Shapes.pack(list(templates.values())), index)
