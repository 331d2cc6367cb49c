"""Shapes made of convex pieces: cars, people and street furniture are put together from them.

A ``Template`` stands in its own frame: x forward, y left, z up from the ground, centred on its
bounding box. An object of a scene is a template with a pose and a size. Rays are moved into the
template's frame by an affine map, so any size fits any template, and the distance along a ray stays
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .materials import MATERIAL_INDEX

POLYTOPE, ELLIPSOID, CYLINDER = range(3)
MAX_PLANES = 16
NUM_PARAMS = 4 * MAX_PLANES
Point = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Template:
    """The P pieces of one shape.

    A polytope has planes (nx, ny, nz, d) and keeps the points p with n . p <= d. An ellipsoid has
    its centre and the 3 x 3 matrix to the unit ball. A cylinder has its middle, unit axis, half
    length and radius.

    Attributes:
        name: of the shape.
        kinds: (P,) POLYTOPE, ELLIPSOID or CYLINDER.
        num_planes: (P,) of a polytope, else 0.
        params: (P, NUM_PARAMS) the numbers of a piece, as above, filled up with zeros.
        materials: (P, MAX_PLANES) of each plane; the first holds for all of an ellipsoid or
            cylinder.
        size_m: (3,) length, width, height of the bounding box.
    """

    name: str
    kinds: np.ndarray
    num_planes: np.ndarray
    params: np.ndarray
    materials: np.ndarray
    size_m: np.ndarray


class Shapes(NamedTuple):
    """All templates in one table, for the compiled ray caster.

    Attributes:
        kinds, num_planes, params, materials: of the pieces of all templates, as in ``Template``.
        starts: (T + 1,) pieces ``starts[k] : starts[k + 1]`` belong to template k.
        sizes_m: (T, 3) bounding boxes.
    """

    kinds: np.ndarray
    num_planes: np.ndarray
    params: np.ndarray
    materials: np.ndarray
    starts: np.ndarray
    sizes_m: np.ndarray

    @classmethod
    def pack(cls, templates: Sequence[Template]) -> Shapes:
        """Join the pieces of ``templates``."""
        num_pieces = [len(template.kinds) for template in templates]
        return cls(
            kinds=np.concatenate([template.kinds for template in templates]),
            num_planes=np.concatenate([template.num_planes for template in templates]),
            params=np.concatenate([template.params for template in templates]),
            materials=np.concatenate([template.materials for template in templates]),
            starts=np.cumsum([0, *num_pieces]),
            sizes_m=np.stack([template.size_m for template in templates]),
        )


@dataclass(frozen=True)
class _Piece:
    """One piece in the builder's frame; ``materials`` as in ``Template``."""

    kind: int
    params: np.ndarray
    materials: list[int]


@dataclass
class ShapeBuilder:
    """Collects pieces in metres. ``build`` centres them on the bounding box that they fill."""

    name: str
    _pieces: list[_Piece] = field(default_factory=list)
    _low: np.ndarray = field(default_factory=lambda: np.full(3, np.inf))
    _high: np.ndarray = field(default_factory=lambda: np.full(3, -np.inf))

    def box(self, low: Point, high: Point, material: str) -> ShapeBuilder:
        """An axis-aligned box from corner ``low`` to corner ``high``."""
        planes = []
        for axis, normal in enumerate(np.eye(3)):
            planes.append([*normal, high[axis]])
        for axis, normal in enumerate(np.eye(3)):
            planes.append([*-normal, -low[axis]])
        return self._add_polytope(planes, [material] * 6, low, high)

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

        Args:
            profile: (x, z) around the convex outline: front bottom, front top, ..., back bottom.
            edges: material from each point of the profile to the next.
            half_width: half the width at the bottom.
            side: material of the two sides.
            top_half_width: half the width at the top, where the sides lean inwards.
            corner_m: width that is cut off each of the four upright edges.
        """
        points = np.asarray(profile, dtype=float)
        planes = self._profile_planes(points)
        materials = list(edges)
        low_z = points[:, 1].min()
        high_z = points[:, 1].max()
        lean = 0.0
        if top_half_width is not None:
            lean = (half_width - top_half_width) / (high_z - low_z)
        length = np.hypot(1.0, lean)  # of the normal (1, lean)
        for sign in (1.0, -1.0):
            distance = (half_width + lean * low_z) / length
            planes.append([0.0, sign / length, lean / length, distance])
            materials.append(side)
        if corner_m:
            corner_planes = _corner_planes(points[:, 0], half_width, corner_m)
            planes += corner_planes
            materials += [side] * len(corner_planes)
        low = [points[:, 0].min(), -half_width, low_z]
        high = [points[:, 0].max(), half_width, high_z]
        return self._add_polytope(planes, materials, low, high)

    def _profile_planes(self, points: np.ndarray) -> list[list[float]]:
        """The planes through the edges of a convex outline (K, 2) in x, z."""
        planes = []
        inside = points.mean(axis=0)
        for start, end in zip(points, np.roll(points, -1, axis=0)):
            normal = np.array([end[1] - start[1], start[0] - end[0]])
            normal *= np.sign(normal @ (start - inside)) / np.linalg.norm(normal)
            is_convex = (points @ normal <= normal @ start + 1e-9).all()
            assert is_convex, f"{self.name}: the profile is not convex"
            planes.append([normal[0], 0.0, normal[1], normal @ start])
        return planes

    def ellipsoid(
        self, centre: Point, radii: Point, material: str, pitch_rad: float = 0.0
    ) -> ShapeBuilder:
        """An ellipsoid, with its front lowered by ``pitch_rad`` about the y axis."""
        cos = np.cos(pitch_rad)
        sin = np.sin(pitch_rad)
        rotation = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        middle = np.asarray(centre, dtype=float)
        radius = np.asarray(radii, dtype=float)
        # The bounding box reaches as far along x as the first row of (rotation * radii) is long.
        reach = np.linalg.norm(rotation * radius, axis=1)
        to_unit_ball = rotation.T / radius[:, None]
        params = np.concatenate([middle, to_unit_ball.ravel()])
        return self._add(ELLIPSOID, params, [material], middle - reach, middle + reach)

    def cylinder(self, start: Point, end: Point, radius: float, material: str) -> ShapeBuilder:
        """A solid cylinder with flat ends."""
        first = np.asarray(start, dtype=float)
        last = np.asarray(end, dtype=float)
        length = np.linalg.norm(last - first)
        axis = (last - first) / length
        # Each end is a disc; along x it reaches radius * sin(angle between axis and x).
        reach = radius * np.sqrt(np.clip(1.0 - axis**2, 0.0, None))
        params = np.concatenate([(first + last) / 2, axis, [length / 2, radius]])
        low = np.minimum(first, last) - reach
        high = np.maximum(first, last) + reach
        return self._add(CYLINDER, params, [material], low, high)

    def _add_polytope(
        self, planes: list[list[float]], materials: list[str], low: Point, high: Point
    ) -> ShapeBuilder:
        params = np.asarray(planes, dtype=float).ravel()
        return self._add(POLYTOPE, params, materials, np.asarray(low), np.asarray(high))

    def _add(
        self, kind: int, params: np.ndarray, materials: list[str], low: np.ndarray, high: np.ndarray
    ) -> ShapeBuilder:
        """Add a piece with its bounding box."""
        indices = [MATERIAL_INDEX[material] for material in materials]
        self._pieces.append(_Piece(kind, params, indices))
        self._low = np.minimum(self._low, low)
        self._high = np.maximum(self._high, high)
        return self

    def build(self) -> Template:
        """The template, with its bounding box centred in x and y and standing on z = 0."""
        centre_x = (self._low[0] + self._high[0]) / 2
        centre_y = (self._low[1] + self._high[1]) / 2
        shift = np.array([-centre_x, -centre_y, -self._low[2]])
        count = len(self._pieces)
        params = np.zeros((count, NUM_PARAMS))
        materials = np.zeros((count, MAX_PLANES), dtype=np.int64)
        num_planes = np.zeros(count, dtype=np.int64)
        for row, piece in enumerate(self._pieces):
            moved = piece.params.copy()
            if piece.kind == POLYTOPE:
                planes = moved.reshape(-1, 4)
                planes[:, 3] += planes[:, :3] @ shift
                num_planes[row] = len(planes)
            else:
                moved[:3] += shift  # the centre or middle
            params[row, : len(moved)] = moved
            materials[row, : len(piece.materials)] = piece.materials
        kinds = np.array([piece.kind for piece in self._pieces], dtype=np.int64)
        return Template(self.name, kinds, num_planes, params, materials, self._high - self._low)


def _corner_planes(x: np.ndarray, half_width: float, cut: float) -> list[list[float]]:
    """Four planes that cut ``2 * cut`` off the length and ``cut`` off the width at each corner."""
    planes = []
    normal = np.array([1.0, 2.0]) / np.sqrt(5.0)
    for end, forward in ((x.max(), 1.0), (-x.min(), -1.0)):
        distance = normal @ np.array([end, half_width - cut])
        for left in (1.0, -1.0):
            planes.append([forward * normal[0], left * normal[1], 0.0, distance])
    return planes
