"""Shapes made of convex pieces: the alphabet from which cars, people and streets are spelled.

A ``Template`` stands in its own frame: x forward, y left, z up from the ground, centred on its bounding box. An
instance in a scene is a template with a pose and a size; because rays are moved into the template's frame by an affine
map, the distance along a ray needs no correction and any size fits any template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .materials import MATERIAL_INDEX

POLYTOPE, ELLIPSOID, CYLINDER = range(3)
MAX_PLANES = 16
NUM_PARAMS = 4 * MAX_PLANES
Point = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Template:
    """Packed pieces of one shape.

    kinds ``(P,)``; counts ``(P,)`` planes of a polytope; params ``(P, NUM_PARAMS)``; materials ``(P, MAX_PLANES)``
    (one per plane, the first for all else); size_m ``(3,)`` of the bounding box, z from 0.
    A polytope holds rows (nx, ny, nz, d) with n.p <= d; an ellipsoid a centre and the matrix to the unit ball; a
    cylinder its middle, unit axis, half length and radius.
    """

    name: str
    kinds: np.ndarray
    counts: np.ndarray
    params: np.ndarray
    materials: np.ndarray
    size_m: np.ndarray


@dataclass
class ShapeBuilder:
    """Collects pieces in metres, then centres them on the bounding box they fill."""

    name: str
    _pieces: list[tuple[int, np.ndarray, list[int]]] = field(default_factory=list)
    _low: np.ndarray = field(default_factory=lambda: np.full(3, np.inf))
    _high: np.ndarray = field(default_factory=lambda: np.full(3, -np.inf))

    def box(self, low: Point, high: Point, material: str) -> ShapeBuilder:
        """An axis-aligned box from corner ``low`` to corner ``high``."""
        planes = [[*axis, high[i]] for i, axis in enumerate(np.eye(3))]
        planes += [[*-axis, -low[i]] for i, axis in enumerate(np.eye(3))]
        return self._polytope(planes, [material] * 6, low, high)

    def prism(
        self,
        profile: Sequence[Point],
        edges: Sequence[str],
        half_width: float,
        side: str,
        *,
        top_half_width: float | None = None,
        corner_m: float = 0.0,
    ) -> ShapeBuilder:
        """A convex side view, extruded across y.

        ``profile`` lists (x, z) around the convex outline (front bottom, front top, ..., back bottom), ``edges`` the
        material from each point to the next. The sides lean inwards to ``top_half_width``; ``corner_m`` cuts the four
        upright edges.
        """
        points = np.asarray(profile, dtype=float)
        inside = points.mean(axis=0)
        planes, names = [], list(edges)
        for start, end in zip(points, np.roll(points, -1, axis=0)):
            normal = np.array([end[1] - start[1], start[0] - end[0]])
            normal *= np.sign(normal @ (start - inside)) / np.linalg.norm(normal)
            assert (points @ normal <= normal @ start + 1e-9).all(), (
                f"{self.name}: the profile is not convex"
            )
            planes.append([normal[0], 0.0, normal[1], normal @ start])
        low_z, high_z = points[:, 1].min(), points[:, 1].max()
        lean = 0.0 if top_half_width is None else (half_width - top_half_width) / (high_z - low_z)
        length = np.hypot(1.0, lean)
        for sign in (1.0, -1.0):
            planes.append([0.0, sign / length, lean / length, (half_width + lean * low_z) / length])
            names.append(side)
        if corner_m:
            self._cut_corners(planes, names, points[:, 0], half_width, corner_m, side)
        low = [points[:, 0].min(), -half_width, low_z]
        return self._polytope(planes, names, low, [points[:, 0].max(), half_width, high_z])

    @staticmethod
    def _cut_corners(
        planes: list, names: list, x: np.ndarray, half_width: float, cut: float, side: str
    ) -> None:
        """Add four upright planes that take ``2 * cut`` off the length and ``cut`` off the width at each corner."""
        normal = np.array([1.0, 2.0]) / np.sqrt(5.0)
        for end, forward in ((x.max(), 1.0), (-x.min(), -1.0)):
            distance = normal @ np.array([end, half_width - cut])
            for left in (1.0, -1.0):
                planes.append([forward * normal[0], left * normal[1], 0.0, distance])
                names.append(side)

    def ellipsoid(
        self, centre: Point, radii: Point, material: str, pitch_rad: float = 0.0
    ) -> ShapeBuilder:
        """An ellipsoid, its nose lowered by ``pitch_rad`` about the y axis."""
        cos, sin = np.cos(pitch_rad), np.sin(pitch_rad)
        rotation = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        middle, axes = np.asarray(centre, dtype=float), rotation * np.asarray(radii, dtype=float)
        reach = np.linalg.norm(axes, axis=1)
        to_ball = rotation.T / np.asarray(radii, dtype=float)[:, None]
        params = np.concatenate([middle, to_ball.ravel()])
        return self._add(ELLIPSOID, params, [material], middle - reach, middle + reach)

    def cylinder(self, start: Point, end: Point, radius: float, material: str) -> ShapeBuilder:
        """A solid cylinder with flat ends."""
        first, last = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
        length = np.linalg.norm(last - first)
        axis = (last - first) / length
        reach = radius * np.sqrt(np.clip(1.0 - axis**2, 0.0, None))
        params = np.concatenate([(first + last) / 2, axis, [length / 2, radius]])
        return self._add(
            CYLINDER,
            params,
            [material],
            np.minimum(first, last) - reach,
            np.maximum(first, last) + reach,
        )

    def _polytope(self, planes: list, names: list[str], low: Point, high: Point) -> ShapeBuilder:
        return self._add(
            POLYTOPE,
            np.asarray(planes, dtype=float).ravel(),
            names,
            np.asarray(low),
            np.asarray(high),
        )

    def _add(
        self, kind: int, params: np.ndarray, names: list[str], low: np.ndarray, high: np.ndarray
    ) -> ShapeBuilder:
        self._pieces.append((kind, params, [MATERIAL_INDEX[name] for name in names]))
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        return self

    def build(self) -> Template:
        """The template, shifted so that its bounding box is centred in x and y and stands on z = 0."""
        shift = np.array(
            [
                -(self._low[0] + self._high[0]) / 2,
                -(self._low[1] + self._high[1]) / 2,
                -self._low[2],
            ]
        )
        number = len(self._pieces)
        params, materials = (
            np.zeros((number, NUM_PARAMS)),
            np.zeros((number, MAX_PLANES), dtype=np.int64),
        )
        counts = np.zeros(number, dtype=np.int64)
        for row, (kind, values, names) in enumerate(self._pieces):
            moved = values.copy()
            if kind == POLYTOPE:
                planes = moved.reshape(-1, 4)
                planes[:, 3] += planes[:, :3] @ shift
                counts[row] = len(planes)
            else:
                moved[:3] += shift
            params[row, : len(moved)], materials[row, : len(names)] = moved, names
        kinds = np.array([piece[0] for piece in self._pieces], dtype=np.int64)
        return Template(self.name, kinds, counts, params, materials, self._high - self._low)
