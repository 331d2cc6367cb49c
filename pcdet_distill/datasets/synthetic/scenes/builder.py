"""Puts objects into a street and keeps track of the places that are taken.

Places are given in street coordinates: u along the street, v to its left (``ground.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..sensors.lidar import SECTOR_RAD
from ..sensors.raycast import Instances
from ..templates.library import Library, library
from .ground import Ground

FURTHEST_M = 75.0
CLEAR_AHEAD_M = 4.5  # no road user stands closer to the sensor
VEHICLES = ("Car", "Van", "Truck")
PAINT_SHADES = np.array([0.25, 0.5, 0.8, 1.1, 1.4, 1.7])  # from black to white cars
# Long objects are sunk into the ground, so that no gap shows below them where it is curved.
SINK_M = 0.02
LONG_OBJECTS = ("wall", "house", "hedge")
SINK_OF_LONG_M = 0.15


class Circle(NamedTuple):
    """A place on the ground, in the sensor's frame."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class PlacedObject:
    """An object of the scene.

    Attributes:
        template: row in the table of templates.
        pose: x, y, z of the bottom centre, and yaw, in the sensor's frame.
        size_m: length, width, height.
        shade: factor on every albedo.
        label: KITTI's class; None for street furniture.
        moves: whether it moves along its yaw; seen in several sweeps only.
    """

    template: int
    pose: tuple[float, float, float, float]
    size_m: tuple[float, ...]
    shade: float
    label: str | None
    moves: bool = False

    def with_shade(self, shade: float) -> PlacedObject:
        """The same object in another shade."""
        return replace(self, shade=shade)

    def with_shape(self, template: int, size_m: np.ndarray) -> PlacedObject:
        """An object of another shape at the same place."""
        return replace(self, template=template, size_m=tuple(map(float, size_m)))


@dataclass(frozen=True)
class Scene:
    """A street ready for the LiDAR.

    Attributes:
        ground: the ground.
        instances: the objects.
        labels: KITTI's class of each object; None for street furniture.
        moves: (N,) bool, objects that move along their yaw.
        tilt: (3, 3) rotation from this upright frame to that of the sensor; None for none.
    """

    ground: Ground
    instances: Instances
    labels: list[str | None]
    moves: np.ndarray
    tilt: np.ndarray | None = None


@dataclass
class SceneBuilder:
    """Collects the objects of a scene.

    Attributes:
        ground: the ground that they stand on.
        rng: draws templates, sizes and shades.
        library: the templates.
        objects: those placed so far.
        taken: places where no road user may stand.
    """

    ground: Ground
    rng: np.random.Generator
    library: Library = field(default_factory=library)
    objects: list[PlacedObject] = field(default_factory=list)
    taken: list[Circle] = field(default_factory=list)

    def furnish(
        self,
        name: str,
        u: float,
        v: float,
        size_m: tuple[float, float, float] | None = None,
        turn_rad: float = 0.0,
        *,
        blocked_radius_m: float = 0.0,
    ) -> None:
        """Put street furniture at (u, v).

        Args:
            name: of the template.
            u: along the street.
            v: to the left.
            size_m: length, width, height; None for the template's own.
            turn_rad: yaw relative to the street.
            blocked_radius_m: road users stay this far away; 0 for no limit.
        """
        template = self.library.index[name]
        size = tuple(self.library.shapes.sizes_m[template]) if size_m is None else size_m
        x, y = map(float, self.ground.street_to_sensor(u, v))
        sink_m = SINK_OF_LONG_M if name in LONG_OBJECTS else SINK_M
        z = float(self.ground.height(x, y)) - sink_m
        pose = (x, y, z, self.ground.heading_rad + turn_rad)
        shade = self.rng.uniform(0.75, 1.25)
        self.objects.append(PlacedObject(template, pose, size, shade, label=None))
        if blocked_radius_m:
            self.taken.append(Circle(x, y, blocked_radius_m))

    def place(
        self, label: str, u: float, v: float, turn_rad: float, *, moves: bool = False
    ) -> bool:
        """Put a road user at (u, v) if the place is free, in view and not at the sensor."""
        template, size_m = self.library.draw(label, self.rng)
        x, y = map(float, self.ground.street_to_sensor(u, v))
        yaw = self.ground.heading_rad + turn_rad
        footprint = _footprint_circles(x, y, yaw, size_m)
        if not _is_in_view(x, y) or _is_at_sensor(footprint) or self._collides(footprint):
            return False
        if label in VEHICLES:
            shade = float(self.rng.choice(PAINT_SHADES))
        else:
            shade = float(self.rng.uniform(0.5, 1.3))
        pose = (x, y, float(self.ground.height(x, y)), yaw)
        self.objects.append(PlacedObject(template, pose, tuple(size_m), shade, label, moves))
        self.taken.extend(footprint)
        return True

    def with_rng(self, rng: np.random.Generator) -> SceneBuilder:
        """The same scene, to which another stream of random numbers adds objects."""
        return replace(self, rng=rng)

    def is_free(
        self, u: float, v: float, turn_rad: float, size_m: tuple[float, float, float]
    ) -> bool:
        """Whether street furniture at (u, v) would stand apart from all road users."""
        x, y = map(float, self.ground.street_to_sensor(u, v))
        yaw = self.ground.heading_rad + turn_rad
        footprint = _footprint_circles(x, y, yaw, np.array(size_m))
        return not _is_at_sensor(footprint) and not self._collides(footprint)

    def places_of(self, label: str) -> list[tuple[float, float, float]]:
        """u, v and yaw relative to the street of every object of a class."""
        places = []
        for placed in self.objects:
            if placed.label == label:
                u, v = self.ground.sensor_to_street(placed.pose[0], placed.pose[1])
                places.append((float(u), float(v), placed.pose[3] - self.ground.heading_rad))
        return places

    def _collides(self, footprint: list[Circle]) -> bool:
        """Whether a footprint overlaps a place that is taken."""
        for circle in footprint:
            for other in self.taken:
                distance2 = (circle.x - other.x) ** 2 + (circle.y - other.y) ** 2
                if distance2 < (circle.radius + other.radius) ** 2:
                    return True
        return False

    def build(self, tilt: np.ndarray | None = None) -> Scene:
        """The finished scene, seen by a sensor that is tilted by a rotation (3, 3)."""
        objects = self.objects
        labels = [placed.label for placed in objects]
        instances = Instances(
            template=np.array([placed.template for placed in objects], dtype=np.int64),
            poses=np.array([placed.pose for placed in objects], dtype=float),
            sizes_m=np.array([placed.size_m for placed in objects], dtype=float),
            shade=np.array([placed.shade for placed in objects], dtype=float),
            counted=np.array([label is not None for label in labels]),
        )
        moves = np.array([placed.moves for placed in objects], dtype=bool)
        return Scene(self.ground, instances, labels, moves=moves, tilt=tilt)


def _is_in_view(x: float, y: float) -> bool:
    """Whether a place lies ahead, inside the sector that is cast, and not too far away."""
    in_sector = abs(np.arctan2(y, x)) <= SECTOR_RAD + 0.1
    return x >= 1.0 and in_sector and np.hypot(x, y) <= FURTHEST_M


def _is_at_sensor(footprint: list[Circle]) -> bool:
    nearest_m = min(np.hypot(circle.x, circle.y) - circle.radius for circle in footprint)
    return nearest_m < CLEAR_AHEAD_M


def _footprint_circles(x: float, y: float, yaw: float, size_m: np.ndarray) -> list[Circle]:
    """A footprint as a row of circles, so that collisions need distances only."""
    length = float(size_m[0])
    width = float(size_m[1])
    count = max(1, round(length / max(width, 0.6)))
    radius = float(np.hypot(length / count, width)) / 2 + 0.05
    circles = []
    for number in range(count):
        forward = ((number + 0.5) / count - 0.5) * length
        circles.append(Circle(x + np.cos(yaw) * forward, y + np.sin(yaw) * forward, radius))
    return circles


def pavement_end_m(ground: Ground) -> float:
    """Distance from the middle of the street to the far side of its pavement."""
    return ground.half_width_m + ground.pavement_m


def in_junction(ground: Ground, u: float, margin_m: float) -> bool:
    """Whether an object from ``u - margin_m`` to ``u + margin_m`` meets the crossing street."""
    return abs(u - ground.cross_u_m) < ground.cross_half_width_m + margin_m
