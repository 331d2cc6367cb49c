"""Which streets there are: three styles and the numbers behind them, drawn at random.

The sensor drives in the right lane and looks roughly along the street.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import roadside, traffic
from .builder import Scene, SceneBuilder
from .ground import Ground
from .lidar import SENSOR_HEIGHT_M

BORDERS = {"houses": roadside.houses, "gardens": roadside.gardens, "fields": roadside.fields}


@dataclass(frozen=True)
class Style:
    """A kind of street; pairs are ranges to draw from."""

    share: float
    half_width_m: tuple[float, float]
    pavement_m: tuple[float, float]
    parked: float  # probability that a parking place is taken
    lane_gap_m: float  # mean distance between moving vehicles
    walkers: float  # mean number of people on foot
    riders: float  # mean number of cyclists
    border: str  # what closes the street off: houses, gardens, fields
    junction: float  # probability of a street crossing ahead, closed by houses


STYLES: tuple[Style, ...] = (
    Style(0.42, (2.7, 4.2), (0.7, 1.8), 0.50, 34.0, 3.8, 3.2, "houses", 0.36),
    Style(0.30, (3.3, 5.0), (1.2, 2.2), 0.50, 30.0, 3.6, 3.2, "gardens", 0.25),
    Style(0.28, (5.0, 8.0), (1.0, 2.5), 0.06, 24.0, 2.4, 2.8, "fields", 0.0),
)


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random street with everything in it."""
    style = STYLES[rng.choice(len(STYLES), p=[style.share for style in STYLES])]
    builder = SceneBuilder(_draw_ground(style, rng), rng)
    BORDERS[style.border](builder)
    roadside.street_furniture(builder)
    roadside.close_junction(builder)
    traffic.moving_traffic(builder, style.lane_gap_m)
    traffic.parked_cars(builder, style.parked, style.border == "gardens")
    traffic.riders(builder, rng.poisson(style.riders))
    traffic.walkers(builder, rng.poisson(style.walkers))
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
