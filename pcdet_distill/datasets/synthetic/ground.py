"""The ground: a gently curved street with kerbs, pavements and lawn, met by rays without iteration over points.

Street coordinates: u along the street, v to its left, measured from the middle of the street beside the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .materials import MATERIAL_INDEX

Place = np.ndarray | float


@dataclass(frozen=True)
class Ground:
    """height = -sensor_height + slope.(x, y) + bend_x x^2 + bend_y y^2, and a kerb higher off the carriageways.

    A second carriageway crosses the first at ``cross_u_m`` (inf for none).
    """

    sensor_height_m: float = 1.73
    slope: tuple[float, float] = (0.0, 0.0)
    bend_per_m: tuple[float, float] = (0.0, 0.0)
    heading_rad: float = 0.0
    offset_m: float = 0.0  # v of the sensor
    half_width_m: float = 4.0
    pavement_m: float = 2.0
    kerb_m: float = 0.12
    cross_u_m: float = np.inf
    cross_half_width_m: float = 4.0

    def street_to_sensor(self, u: Place, v: Place) -> tuple[np.ndarray, np.ndarray]:
        """Street coordinates as x, y of the sensor's frame."""
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        return cos * u - sin * (v - self.offset_m), sin * u + cos * (v - self.offset_m)

    def sensor_to_street(self, x: Place, y: Place) -> tuple[np.ndarray, np.ndarray]:
        """x, y of the sensor's frame as street coordinates."""
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        return cos * x + sin * y, cos * y - sin * x + self.offset_m

    def raised(self, x: Place, y: Place) -> np.ndarray:
        """Whether a place lies off the carriageways, ``(...)`` bool."""
        u, v = self.sensor_to_street(x, y)
        return (np.abs(v) > self.half_width_m) & (
            np.abs(u - self.cross_u_m) > self.cross_half_width_m
        )

    def height(self, x: Place, y: Place) -> np.ndarray:
        """z of the ground, kerb included."""
        smooth = -self.sensor_height_m + self.slope[0] * x + self.slope[1] * y
        smooth = smooth + self.bend_per_m[0] * x**2 + self.bend_per_m[1] * y**2
        return smooth + self.kerb_m * self.raised(x, y)

    def cast(
        self, directions: np.ndarray, max_range_m: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rays ``(..., 3)`` from the sensor: range (inf for none), cosine of incidence and material, ``(...)`` each."""
        upper, lower = self._reach(directions, self.kerb_m), self._reach(directions, 0.0)
        x, y = directions[..., 0], directions[..., 1]
        on_upper = np.isfinite(upper) & self.raised(*self._at(upper, x, y))
        on_kerb = np.isfinite(lower) & ~on_upper & self.raised(*self._at(lower, x, y))
        range_m = np.where(on_upper, upper, lower)
        range_m[on_kerb] = self._kerb_range(upper[on_kerb], lower[on_kerb], x[on_kerb], y[on_kerb])
        range_m[range_m > max_range_m] = np.inf
        hit_x, hit_y = self._at(range_m, x, y)
        normal = np.stack(
            [
                -(self.slope[0] + 2 * self.bend_per_m[0] * hit_x),
                -(self.slope[1] + 2 * self.bend_per_m[1] * hit_y),
                np.ones_like(hit_x),
            ]
        )
        cosine = np.abs(normal[0] * x + normal[1] * y + directions[..., 2]) / np.linalg.norm(
            normal, axis=0
        )
        cosine[on_kerb] = 0.8
        return range_m, cosine, self._material(hit_x, hit_y, on_upper, on_kerb)

    @staticmethod
    def _at(range_m: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays are at a range; rays that never arrive are kept at the sensor."""
        known = np.where(np.isfinite(range_m), range_m, 0.0)
        return known * x, known * y

    def _reach(self, directions: np.ndarray, lift_m: float) -> np.ndarray:
        """Range to the smooth surface raised by ``lift_m``: the nearer positive root of a quadratic, inf for none."""
        x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
        a = self.bend_per_m[0] * x**2 + self.bend_per_m[1] * y**2
        b = self.slope[0] * x + self.slope[1] * y - z
        c = lift_m - self.sensor_height_m
        root = b * b - 4.0 * a * c
        with np.errstate(divide="ignore", invalid="ignore"):
            near = -2.0 * c / (b + np.sqrt(root))
        return np.where((root >= 0.0) & (near > 0.0), near, np.inf)

    def _kerb_range(
        self, upper: np.ndarray, lower: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> np.ndarray:
        """Between a ray's points at kerb height and at street height: where it leaves the carriageway, by bisection."""
        street, raised = np.where(np.isfinite(upper), upper, 0.0), lower.copy()
        for _ in range(8):
            middle = (street + raised) / 2
            above = self.raised(middle * x, middle * y)
            street, raised = np.where(above, street, middle), np.where(above, middle, raised)
        return raised

    def _material(
        self, x: np.ndarray, y: np.ndarray, on_upper: np.ndarray, on_kerb: np.ndarray
    ) -> np.ndarray:
        beside = np.abs(self.sensor_to_street(x, y)[1]) - self.half_width_m
        off_street = np.where(
            beside > self.pavement_m, MATERIAL_INDEX["grass"], MATERIAL_INDEX["pavement"]
        )
        return np.where(on_upper | on_kerb, off_street, MATERIAL_INDEX["asphalt"])
