"""A street being furnished: where things stand, which places are taken, and the finished scene.

Places are given in street coordinates (u along the street, v to its left, see ``ground.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .ground import Ground
from .library import Library, library
from .lidar import SECTOR_RAD, Instances

FURTHEST_M = 75.0
CLEAR_AHEAD_M = 4.5  # nothing stands closer to the sensor than this
COLOURS = np.array([0.25, 0.5, 0.8, 1.1, 1.4, 1.7])  # car paint, from black to white


@dataclass(frozen=True)
class Scene:
    """A street ready for the LiDAR; labels has a KITTI class for each instance, None for furniture."""

    ground: Ground
    instances: Instances
    labels: list[str | None]


@dataclass
class SceneBuilder:
    """Collects instances; keeps the places that are taken as circles (x, y, radius)."""

    ground: Ground
    rng: np.random.Generator
    library: Library = field(default_factory=library)
    rows: list[tuple[int, tuple, tuple, float]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def furnish(
        self,
        name: str,
        u: float,
        v: float,
        size_m: tuple[float, float, float] | None = None,
        turn_rad: float = 0.0,
        *,
        blocks: float = 0.0,
    ) -> None:
        """Put furniture at (u, v); ``blocks`` is the radius that traffic must keep away."""
        template = self.library.index[name]
        size = tuple(self.library.shapes.sizes_m[template]) if size_m is None else size_m
        x, y = map(float, self.ground.street_to_sensor(u, v))
        sink = (
            0.15 if name in ("wall", "house", "hedge") else 0.02
        )  # long things must not hover over a bend
        pose = (x, y, float(self.ground.height(x, y)) - sink, self.ground.heading_rad + turn_rad)
        self._add(template, pose, size, self.rng.uniform(0.75, 1.25), None)
        if blocks:
            self.taken.append((x, y, blocks))

    def place(self, label: str, u: float, v: float, turn_rad: float) -> bool:
        """Put a road user at (u, v) if the place is free, in view and not on top of the sensor."""
        template, size = self.library.draw(label, self.rng)
        x, y = map(float, self.ground.street_to_sensor(u, v))
        yaw = self.ground.heading_rad + turn_rad
        circles = _circles(x, y, yaw, size)
        if x < 1.0 or min(np.hypot(cx, cy) - radius for cx, cy, radius in circles) < CLEAR_AHEAD_M:
            return False
        if (
            abs(np.arctan2(y, x)) > SECTOR_RAD + 0.1
            or np.hypot(x, y) > FURTHEST_M
            or self._collides(circles)
        ):
            return False
        shade = (
            self.rng.choice(COLOURS)
            if label in ("Car", "Van", "Truck")
            else self.rng.uniform(0.5, 1.3)
        )
        self._add(
            template, (x, y, float(self.ground.height(x, y)), yaw), tuple(size), float(shade), label
        )
        self.taken.extend(circles)
        return True

    def _collides(self, circles: list[tuple[float, float, float]]) -> bool:
        return any(
            (x - a) ** 2 + (y - b) ** 2 < (radius + other) ** 2
            for x, y, radius in circles
            for a, b, other in self.taken
        )

    def _add(
        self, template: int, pose: tuple, size: tuple, shade: float, label: str | None
    ) -> None:
        self.rows.append((template, pose, size, shade))
        self.labels.append(label)

    def build(self) -> Scene:
        """The finished scene."""
        template, poses, sizes, shade = zip(*self.rows)
        instances = Instances(
            np.array(template, dtype=np.int64),
            np.array(poses, dtype=float),
            np.array(sizes, dtype=float),
            np.array(shade, dtype=float),
            np.array([label is not None for label in self.labels]),
        )
        return Scene(self.ground, instances, self.labels)


def _circles(x: float, y: float, yaw: float, size: np.ndarray) -> list[tuple[float, float, float]]:
    """A footprint as a row of circles."""
    length, width = float(size[0]), float(size[1])
    number = max(1, round(length / max(width, 0.6)))
    steps = [((k + 0.5) / number - 0.5) * length for k in range(number)]
    radius = float(np.hypot(length / number, width)) / 2 + 0.05
    return [(x + np.cos(yaw) * step, y + np.sin(yaw) * step, radius) for step in steps]


def pavement_end_m(ground: Ground) -> float:
    """Distance from the middle of the street to the far side of its pavement."""
    return ground.half_width_m + ground.pavement_m


def in_junction(ground: Ground, u: float, margin_m: float) -> bool:
    """Whether something at ``u`` that reaches ``margin_m`` to either side stands in the crossing street."""
    return abs(u - ground.cross_u_m) < ground.cross_half_width_m + margin_m
