"""Random scenes: three styles of street, and the numbers behind them.

The sensor drives in the right lane and looks roughly along the street.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import roadside, traffic
from .builder import Scene, SceneBuilder
from .ground import Ground
from .sensor_options import SENSOR_HEIGHT_M

BORDERS = {"houses": roadside.houses, "gardens": roadside.gardens, "fields": roadside.fields}


@dataclass(frozen=True)
class Style:
    """A style of street.

    Attributes:
        share: of the scenes.
        half_width_m: range of half the width of the street.
        pavement_m: range of the width of a pavement.
        parked: probability that a parking place is taken.
        lane_gap_m: mean gap between moving vehicles.
        pedestrians: mean number of them.
        cyclists: mean number of them.
        border: what stands beside the street, a key of BORDERS.
        junction: probability of a crossing street.
    """

    share: float
    half_width_m: tuple[float, float]
    pavement_m: tuple[float, float]
    parked: float
    lane_gap_m: float
    pedestrians: float
    cyclists: float
    border: str
    junction: float


NARROW_STREET = Style(
    share=0.42,
    half_width_m=(2.7, 4.2),
    pavement_m=(0.7, 1.8),
    parked=0.50,
    lane_gap_m=34.0,
    pedestrians=3.8,
    cyclists=3.2,
    border="houses",
    junction=0.36,
)
RESIDENTIAL_STREET = Style(
    share=0.30,
    half_width_m=(3.3, 5.0),
    pavement_m=(1.2, 2.2),
    parked=0.50,
    lane_gap_m=30.0,
    pedestrians=3.6,
    cyclists=3.2,
    border="gardens",
    junction=0.25,
)
OPEN_ROAD = Style(
    share=0.28,
    half_width_m=(5.0, 8.0),
    pavement_m=(1.0, 2.5),
    parked=0.06,
    lane_gap_m=24.0,
    pedestrians=2.4,
    cyclists=2.8,
    border="fields",
    junction=0.0,
)
STYLES = (NARROW_STREET, RESIDENTIAL_STREET, OPEN_ROAD)


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random street with all its objects."""
    shares = [style.share for style in STYLES]
    style = STYLES[rng.choice(len(STYLES), p=shares)]
    builder = SceneBuilder(_draw_ground(style, rng), rng)
    BORDERS[style.border](builder)
    roadside.street_furniture(builder)
    roadside.close_junction(builder)
    traffic.moving_traffic(builder, style.lane_gap_m)
    traffic.parked_cars(builder, style.parked, may_stand_crosswise=style.border == "gardens")
    traffic.cyclists(builder, rng.poisson(style.cyclists))
    traffic.pedestrians(builder, rng.poisson(style.pedestrians))
    return builder.build()


def _draw_ground(style: Style, rng: np.random.Generator) -> Ground:
    half_width = rng.uniform(*style.half_width_m)
    has_junction = rng.random() < style.junction
    return Ground(
        sensor_height_m=SENSOR_HEIGHT_M + rng.normal(0.0, 0.02),
        slope=(rng.normal(0.0, 0.006), rng.normal(0.0, 0.010)),
        bend_per_m=(rng.normal(0.0, 1.0e-4), rng.normal(0.0, 1.0e-4)),
        heading_rad=_draw_heading_rad(rng),
        offset_m=-half_width / 2 + rng.uniform(-0.5, 0.8),
        half_width_m=half_width,
        pavement_m=rng.uniform(*style.pavement_m),
        kerb_m=rng.uniform(0.06, 0.15),
        cross_u_m=rng.uniform(6.0, 16.0) if has_junction else np.inf,
        cross_half_width_m=rng.uniform(3.5, 5.0),
    )


def _draw_heading_rad(rng: np.random.Generator) -> float:
    """Nearly straight ahead, or on a turn."""
    drives_straight = rng.random() < 0.85
    return rng.normal(0.0, 0.09) if drives_straight else rng.uniform(-0.6, 0.6)
