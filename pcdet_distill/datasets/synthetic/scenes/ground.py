"""The ground: a gently curved street with kerbs, pavements and grass, met by rays in closed form.

Street coordinates: u along the street, v to its left, measured from the middle of the street beside
the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..templates.materials import MATERIAL_INDEX

Coordinate = np.ndarray | float
KERB_COSINE = 0.8  # of incidence, for all rays that meet the kerb's face
KERB_STEPS = 8  # bisections: the kerb is met to 1/256 of the way between its height and the street


@dataclass(frozen=True)
class Ground:
    """A smooth street, with raised ground beside it.

    Its height is -sensor_height + slope . (x, y) + bend_x x^2 + bend_y y^2, and a kerb more where
    the ground is raised.

    Attributes:
        sensor_height_m: of the sensor above the street.
        slope: along x and y.
        bend_per_m: curvature along x and y.
        heading_rad: of the street, in the sensor's frame.
        offset_m: v of the sensor.
        half_width_m: of the street.
        pavement_m: width of the pavement.
        kerb_m: height of the kerb.
        cross_u_m: where a second street crosses the first; inf for none.
        cross_half_width_m: of the second street.
    """

    sensor_height_m: float = 1.73
    slope: tuple[float, float] = (0.0, 0.0)
    bend_per_m: tuple[float, float] = (0.0, 0.0)
    heading_rad: float = 0.0
    offset_m: float = 0.0
    half_width_m: float = 4.0
    pavement_m: float = 2.0
    kerb_m: float = 0.12
    cross_u_m: float = np.inf
    cross_half_width_m: float = 4.0

    def street_to_sensor(self, u: Coordinate, v: Coordinate) -> tuple[np.ndarray, np.ndarray]:
        """Street coordinates as x, y of the sensor's frame."""
        cos = np.cos(self.heading_rad)
        sin = np.sin(self.heading_rad)
        x = cos * u - sin * (v - self.offset_m)
        y = sin * u + cos * (v - self.offset_m)
        return x, y

    def sensor_to_street(self, x: Coordinate, y: Coordinate) -> tuple[np.ndarray, np.ndarray]:
        """x, y of the sensor's frame as street coordinates."""
        cos = np.cos(self.heading_rad)
        sin = np.sin(self.heading_rad)
        u = cos * x + sin * y
        v = cos * y - sin * x + self.offset_m
        return u, v

    def seen_from(self, origin_m: np.ndarray) -> Ground:
        """The same ground in a frame that is shifted, not turned, to ``origin_m`` (3,)."""
        x, y, z = (float(value) for value in origin_m)
        bend_x, bend_y = self.bend_per_m
        # The height is a polynomial of second degree: it stays one around another origin.
        street = -self.sensor_height_m + self.slope[0] * x + self.slope[1] * y
        street += bend_x * x**2 + bend_y * y**2
        u, v = self.sensor_to_street(x, y)
        return replace(
            self,
            sensor_height_m=z - street,
            slope=(self.slope[0] + 2 * bend_x * x, self.slope[1] + 2 * bend_y * y),
            offset_m=float(v),
            cross_u_m=self.cross_u_m - float(u),
        )

    def turned(self, angle_rad: float) -> Ground:
        """The same ground in a frame that is turned to the left about the sensor.

        It must be bent alike along x and y: else it would need a product of both.
        """
        if self.bend_per_m[0] != self.bend_per_m[1]:
            raise ValueError(f"a ground bent by {self.bend_per_m} cannot be turned")
        cos = np.cos(angle_rad)
        sin = np.sin(angle_rad)
        slope_x = cos * self.slope[0] + sin * self.slope[1]
        slope_y = cos * self.slope[1] - sin * self.slope[0]
        return replace(
            self,
            slope=(float(slope_x), float(slope_y)),
            heading_rad=self.heading_rad - angle_rad,
        )

    def is_raised(self, x: Coordinate, y: Coordinate) -> np.ndarray:
        """(...) bool, whether a place lies beside the streets, at kerb height."""
        u, v = self.sensor_to_street(x, y)
        beside_street = np.abs(v) > self.half_width_m
        beside_crossing = np.abs(u - self.cross_u_m) > self.cross_half_width_m
        return beside_street & beside_crossing

    def height(self, x: Coordinate, y: Coordinate) -> np.ndarray:
        """z of the ground, kerb included."""
        plane = -self.sensor_height_m + self.slope[0] * x + self.slope[1] * y
        street = plane + self.bend_per_m[0] * x**2 + self.bend_per_m[1] * y**2
        return street + self.kerb_m * self.is_raised(x, y)

    def cast(
        self, directions: np.ndarray, max_range_m: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range (inf for no ground), cosine of incidence and material of rays, (...) each.

        A ray meets one of three parts: the raised ground where it reaches it first, else the
        street; or the kerb's face, where it is below kerb height when it leaves the street.

        Args:
            directions: (..., 3) unit vectors.
            max_range_m: ground beyond counts as nothing.
        """
        x = directions[..., 0]
        y = directions[..., 1]
        upper = self._range_to_surface(directions, self.kerb_m)
        lower = self._range_to_surface(directions, 0.0)
        on_upper = np.isfinite(upper) & self.is_raised(*_point_at(upper, x, y))
        is_lower_raised = np.isfinite(lower) & self.is_raised(*_point_at(lower, x, y))
        on_kerb = is_lower_raised & ~on_upper
        range_m = np.where(on_upper, upper, lower)
        range_m[on_kerb] = self._range_to_kerb(
            upper[on_kerb], lower[on_kerb], x[on_kerb], y[on_kerb]
        )
        range_m[range_m > max_range_m] = np.inf
        hit_x, hit_y = _point_at(range_m, x, y)
        cosine = self._cosine(directions, hit_x, hit_y)
        cosine[on_kerb] = KERB_COSINE
        return range_m, cosine, self._material(hit_x, hit_y, on_upper | on_kerb)

    def _range_to_surface(self, directions: np.ndarray, lift_m: float) -> np.ndarray:
        """(...) range to the smooth surface raised by ``lift_m``; inf for rays that miss it."""
        x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
        # The nearer root of a t^2 + b t + c = 0 for the ray t (x, y, z).
        a = self.bend_per_m[0] * x**2 + self.bend_per_m[1] * y**2
        b = self.slope[0] * x + self.slope[1] * y - z
        c = lift_m - self.sensor_height_m
        discriminant = b * b - 4.0 * a * c
        with np.errstate(divide="ignore", invalid="ignore"):
            # This form of the root has no division by a, which is nearly zero.
            nearer = -2.0 * c / (b + np.sqrt(discriminant))
        return np.where((discriminant >= 0.0) & (nearer > 0.0), nearer, np.inf)

    def _range_to_kerb(
        self, upper: np.ndarray, lower: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> np.ndarray:
        """(K,) where rays leave the street, between their points at kerb and at street height."""
        on_street = np.where(np.isfinite(upper), upper, 0.0)
        beside = lower.copy()
        for _ in range(KERB_STEPS):
            middle = (on_street + beside) / 2
            is_raised = self.is_raised(middle * x, middle * y)
            on_street = np.where(is_raised, on_street, middle)
            beside = np.where(is_raised, middle, beside)
        return beside

    def _cosine(self, directions: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(...) cosine of incidence on the smooth surface at x, y."""
        # The gradient of z - height(x, y) points up from the surface.
        normal_x = -(self.slope[0] + 2 * self.bend_per_m[0] * x)
        normal_y = -(self.slope[1] + 2 * self.bend_per_m[1] * y)
        normal = np.stack([normal_x, normal_y, np.ones_like(x)])
        product = normal[0] * directions[..., 0] + normal[1] * directions[..., 1]
        product = product + directions[..., 2]
        return np.abs(product) / np.linalg.norm(normal, axis=0)

    def _material(self, x: np.ndarray, y: np.ndarray, is_raised: np.ndarray) -> np.ndarray:
        """(...) asphalt on the streets, beside them pavement, then grass."""
        _, v = self.sensor_to_street(x, y)
        is_grass = np.abs(v) - self.half_width_m > self.pavement_m
        beside = np.where(is_grass, MATERIAL_INDEX["grass"], MATERIAL_INDEX["pavement"])
        return np.where(is_raised, beside, MATERIAL_INDEX["asphalt"])


def _point_at(range_m: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x, y of rays at a range. Rays that meet nothing (inf) stay at the sensor."""
    finite_range = np.where(np.isfinite(range_m), range_m, 0.0)
    return finite_range * x, finite_range * y
