"""What stands where: a street of one of three styles, its furniture, and the traffic in it.

Everything is placed in street coordinates (u along the street, v to its left, see ``ground.py``); the sensor drives in
the right lane and looks roughly along the street.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .ground import Ground
from .library import Library, library
from .lidar import SECTOR_RAD, SENSOR_HEIGHT_M, Instances

FURTHEST_M = 75.0
CLEAR_AHEAD_M = 4.5         # nothing stands closer to the sensor than this


@dataclass(frozen=True)
class Style:
    """A kind of street; pairs are ranges to draw from."""

    share: float
    half_width_m: tuple[float, float]
    pavement_m: tuple[float, float]
    parked: float                       # probability that a parking place is taken
    lane_gap_m: float                   # mean distance between moving vehicles
    walkers: float                      # mean number of people on foot
    riders: float                       # mean number of cyclists
    border: str                         # what closes the street off: houses, gardens, fields
    junction: float                     # probability of a street crossing ahead, closed by houses


STYLES: tuple[Style, ...] = (
    Style(0.42, (2.7, 4.2), (0.7, 1.8), 0.50, 34.0, 3.8, 3.2, "houses", 0.36),
    Style(0.30, (3.3, 5.0), (1.2, 2.2), 0.50, 30.0, 3.6, 3.2, "gardens", 0.25),
    Style(0.28, (5.0, 8.0), (1.0, 2.5), 0.06, 24.0, 2.4, 2.8, "fields", 0.0),
)
COLOURS = np.array([0.25, 0.5, 0.8, 1.1, 1.4, 1.7])     # car paint, from black to white


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

    def furnish(self, name: str, u: float, v: float, size_m: tuple[float, float, float] | None = None,
                turn_rad: float = 0.0, *, blocks: float = 0.0) -> None:
        """Put furniture at (u, v); ``blocks`` is the radius that traffic must keep away."""
        template = self.library.index[name]
        size = tuple(self.library.shapes.sizes_m[template]) if size_m is None else size_m
        x, y = map(float, self.ground.street_to_sensor(u, v))
        sink = 0.15 if name in ("wall", "house", "hedge") else 0.02          # long things must not hover over a bend
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
        if abs(np.arctan2(y, x)) > SECTOR_RAD + 0.1 or np.hypot(x, y) > FURTHEST_M or self._collides(circles):
            return False
        shade = self.rng.choice(COLOURS) if label in ("Car", "Van", "Truck") else self.rng.uniform(0.5, 1.3)
        self._add(template, (x, y, float(self.ground.height(x, y)), yaw), tuple(size), float(shade), label)
        self.taken.extend(circles)
        return True

    def _collides(self, circles: list[tuple[float, float, float]]) -> bool:
        return any((x - a) ** 2 + (y - b) ** 2 < (radius + other) ** 2
                   for x, y, radius in circles for a, b, other in self.taken)

    def _add(self, template: int, pose: tuple, size: tuple, shade: float, label: str | None) -> None:
        self.rows.append((template, pose, size, shade))
        self.labels.append(label)

    def build(self) -> Scene:
        """The finished scene."""
        template, poses, sizes, shade = zip(*self.rows)
        instances = Instances(np.array(template, dtype=np.int64), np.array(poses, dtype=float),
                              np.array(sizes, dtype=float), np.array(shade, dtype=float),
                              np.array([label is not None for label in self.labels]))
        return Scene(self.ground, instances, self.labels)


def _circles(x: float, y: float, yaw: float, size: np.ndarray) -> list[tuple[float, float, float]]:
    """A footprint as a row of circles."""
    length, width = float(size[0]), float(size[1])
    number = max(1, round(length / max(width, 0.6)))
    steps = [((k + 0.5) / number - 0.5) * length for k in range(number)]
    radius = float(np.hypot(length / number, width)) / 2 + 0.05
    return [(x + np.cos(yaw) * step, y + np.sin(yaw) * step, radius) for step in steps]


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random street with everything in it."""
    style = STYLES[rng.choice(len(STYLES), p=[style.share for style in STYLES])]
    builder = SceneBuilder(_draw_ground(style, rng), rng)
    {"houses": _houses, "gardens": _gardens, "fields": _fields}[style.border](builder)
    _street_furniture(builder)
    _close_junction(builder)
    _moving_traffic(builder, style)
    _parked_cars(builder, style)
    _riders(builder, rng.poisson(style.riders))
    _walkers(builder, rng.poisson(style.walkers))
    return builder.build()


def _draw_ground(style: Style, rng: np.random.Generator) -> Ground:
    half_width = rng.uniform(*style.half_width_m)
    crossing = rng.random() < style.junction
    return Ground(
        sensor_height_m=SENSOR_HEIGHT_M + rng.normal(0.0, 0.02),
        slope=(rng.normal(0.0, 0.006), rng.normal(0.0, 0.010)),
        bend_per_m=(rng.normal(0.0, 1.0e-4), rng.normal(0.0, 1.0e-4)),
        heading_rad=rng.normal(0.0, 0.09) if rng.random() < 0.85 else rng.uniform(-0.6, 0.6),
        offset_m=-half_width / 2 + rng.uniform(-0.5, 0.8),
        half_width_m=half_width,
        pavement_m=rng.uniform(*style.pavement_m),
        kerb_m=rng.uniform(0.06, 0.15),
        cross_u_m=rng.uniform(6.0, 16.0) if crossing else np.inf,
        cross_half_width_m=rng.uniform(3.5, 5.0),
    )


def _edge(ground: Ground) -> float:
    return ground.half_width_m + ground.pavement_m


def _in_junction(ground: Ground, u: float, margin_m: float) -> bool:
    return abs(u - ground.cross_u_m) < ground.cross_half_width_m + margin_m


def _houses(builder: SceneBuilder) -> None:
    """House after house along both pavements, with gaps, walls and a few doors standing back."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length, depth, back = rng.uniform(6.0, 13.0), rng.uniform(4.0, 8.0), rng.choice([0.0, 0.0, 0.4, 1.5])
            middle = u + length / 2
            if not _in_junction(ground, middle, length / 2):
                turn = 0.0 if side < 0 else np.pi
                kind = rng.random()
                v = side * (_edge(ground) + back + depth / 2)
                if kind < 0.72:
                    builder.furnish("house", middle, v, (length, depth, rng.uniform(5.0, 9.0)), turn)
                elif kind < 0.86:
                    builder.furnish("wall", middle, side * (_edge(ground) + 0.3), (length, 0.3, rng.uniform(1.2, 2.5)))
                    builder.furnish("tree", middle, v + side)
                else:
                    builder.furnish("hedge", middle, side * (_edge(ground) + 0.6), (length, 0.9, rng.uniform(1.0, 2.2)))
            u += length + rng.choice([0.0, 0.0, 1.0, 4.0])


def _gardens(builder: SceneBuilder) -> None:
    """Hedges, fences and low walls, with bushes, trees and houses behind them."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length = rng.uniform(4.0, 12.0)
            middle, edge = u + length / 2, _edge(ground)
            if not _in_junction(ground, middle, length / 2):
                kind = rng.choice(4, p=[0.35, 0.2, 0.2, 0.25])
                if kind == 0:
                    builder.furnish("hedge", middle, side * (edge + 0.6), (length, 1.0, rng.uniform(1.1, 2.6)))
                elif kind == 1:
                    builder.furnish("fence", middle, side * (edge + 0.2), (length, 0.1, rng.uniform(1.0, 1.5)))
                elif kind == 2:
                    builder.furnish("wall", middle, side * (edge + 0.2), (length, 0.3, rng.uniform(0.6, 1.8)))
                for _ in range(rng.poisson(1.6)):
                    _plant(builder, u + rng.uniform(0, length), side * (edge + rng.uniform(1.2, 6.0)))
                if rng.random() < 0.6:
                    depth = rng.uniform(6.0, 9.0)
                    builder.furnish("house", middle, side * (edge + rng.uniform(2.0, 7.0) + depth / 2),
                                    (length + 2.0, depth, 6.0), 0.0 if side < 0 else np.pi)
            u += length + rng.choice([0.0, 0.5, 3.0])


def _fields(builder: SceneBuilder) -> None:
    """An open road: guard rails, bushes and trees far off on either side, now and then a wall."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        if rng.random() < 0.5:
            distance = side * (_edge(ground) + rng.uniform(0.3, 6.0))
            for u in np.arange(rng.uniform(0, 4), FURTHEST_M, 4.0):
                builder.furnish("guard_rail", u, distance)
        far = _edge(ground) + rng.uniform(1.5, 18.0)
        for u in np.arange(2.0, FURTHEST_M, 2.0):
            if rng.random() < 0.8:
                _plant(builder, u + rng.uniform(-2, 2), side * (far + rng.gamma(2.0, 2.5)))
        if rng.random() < 0.25:
            builder.furnish("wall", 40.0, side * (far + 6.0), (70.0, 0.3, rng.uniform(1.5, 4.0)))


def _plant(builder: SceneBuilder, u: float, v: float) -> None:
    rng = builder.rng
    if rng.random() < 0.3:
        builder.furnish("tree", u, v, turn_rad=rng.uniform(0, 6.28))
    else:
        size = (rng.uniform(1.2, 5.0), rng.uniform(1.2, 4.0), rng.uniform(0.8, 5.5))
        builder.furnish("bush", u, v, size, rng.uniform(0, 6.28))


def _street_furniture(builder: SceneBuilder) -> None:
    """Lamp posts, signs, bins, parked bicycles and young trees along the kerb."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        for u in np.arange(rng.uniform(3, 12), FURTHEST_M, rng.uniform(12.0, 28.0)):
            name = rng.choice(["pole", "sign", "litter_bin", "bicycle", "tree"], p=[0.4, 0.2, 0.15, 0.15, 0.1])
            v = side * (ground.half_width_m + rng.uniform(0.3, 0.6))
            turn = np.pi if name == "sign" else rng.normal(0.0, 0.3)
            builder.furnish(name, u + rng.uniform(-2, 2), v, turn_rad=turn, blocks=0.4)


def _close_junction(builder: SceneBuilder) -> None:
    """Behind a crossing street the view often ends at a house (a T junction)."""
    rng, ground = builder.rng, builder.ground
    if not np.isfinite(ground.cross_u_m) or rng.random() < 0.2:
        return
    u = ground.cross_u_m + ground.cross_half_width_m + ground.pavement_m
    for v in (-16.0, 0.0, 16.0):
        depth = rng.uniform(5.0, 8.0)
        size, back = (15.5, depth, 7.0), depth / 2 + rng.uniform(0, 1.0)
        builder.furnish("house", u + back, v + rng.uniform(-1, 1), size, np.pi / 2)


def _moving_traffic(builder: SceneBuilder, style: Style) -> None:
    """Vehicles in the right lane going with the sensor, in the left lane against it, and some in a crossing street."""
    rng, ground = builder.rng, builder.ground
    for side, turn in ((-1.0, 0.0), (1.0, np.pi)):
        u = rng.exponential(style.lane_gap_m) + (6.0 if side < 0 else 2.0)
        while u < FURTHEST_M:
            v = side * ground.half_width_m / 2 + rng.normal(0, 0.3)
            builder.place(_vehicle(rng), u, v, turn + rng.normal(0, 0.04))
            u += 7.0 + rng.exponential(style.lane_gap_m)
    if np.isfinite(ground.cross_u_m):
        for _ in range(rng.poisson(1.0)):
            side = rng.choice([-1.0, 1.0])
            builder.place(_vehicle(rng), ground.cross_u_m + side * 1.8, rng.uniform(-15, 15), side * np.pi / 2)


def _vehicle(rng: np.random.Generator) -> str:
    return rng.choice(["Car", "Van", "Truck"], p=[0.88, 0.09, 0.03])


def _parked_cars(builder: SceneBuilder, style: Style) -> None:
    """Parking places along both kerbs, half on the pavement where the street is narrow; some rows stand crosswise."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        if rng.random() < 0.25:
            continue
        crosswise = style.border == "gardens" and rng.random() < 0.15
        v = side * (ground.half_width_m + (1.6 if crosswise else rng.uniform(-0.9, 0.4)))
        step = 2.7 if crosswise else 6.0
        for u in np.arange(rng.uniform(2.0, 6.0), FURTHEST_M * 0.8, step):
            if rng.random() < style.parked and not _in_junction(ground, u, 3.0):
                turn = side * np.pi / 2 if crosswise else (0.0 if side < 0 or rng.random() < 0.3 else np.pi)
                label = "Van" if rng.random() < 0.1 else "Car"
                builder.place(label, u + rng.normal(0, 0.3), v + rng.normal(0, 0.12), turn + rng.normal(0, 0.04))


def _riders(builder: SceneBuilder, number: int) -> None:
    """Cyclists near the kerb in either direction, a few crossing."""
    rng, ground = builder.rng, builder.ground
    for _ in range(number):
        side = rng.choice([-1.0, 1.0])
        u = rng.uniform(5.0, 36.0)
        if rng.random() < 0.15:
            builder.place("Cyclist", u, rng.uniform(-1, 1) * ground.half_width_m, side * np.pi / 2 + rng.normal(0, 0.3))
            continue
        v = side * (ground.half_width_m - rng.uniform(-0.8, 1.8))
        builder.place("Cyclist", u, v, (0.0 if side < 0 else np.pi) + rng.normal(0, 0.12))


def _walkers(builder: SceneBuilder, number: int) -> None:
    """People on the pavements, alone or in pairs, some crossing the street, a few sitting."""
    rng, ground = builder.rng, builder.ground
    for _ in range(number):
        side, u = rng.choice([-1.0, 1.0]), rng.uniform(5.0, 34.0)
        turn = rng.choice([0.0, np.pi]) + rng.normal(0, 0.25)
        v = side * (ground.half_width_m + rng.uniform(0.3, ground.pavement_m - 0.3))
        if rng.random() < 0.2:
            v, turn = rng.uniform(-1, 1) * ground.half_width_m, side * np.pi / 2 + rng.normal(0, 0.4)
        label = "Person_sitting" if rng.random() < 0.04 else "Pedestrian"
        if builder.place(label, u, v, turn) and rng.random() < 0.25:
            builder.place("Pedestrian", u + rng.normal(0, 0.15), v - side * 0.75, turn + rng.normal(0, 0.1))
