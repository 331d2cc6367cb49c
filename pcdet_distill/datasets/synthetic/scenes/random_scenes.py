"""Random scenes: a street in a style, its road users, and what makes a scene hard.

The sensor drives in the right lane and looks roughly along the street.
"""

from __future__ import annotations

import numpy as np

from ..sensors.sensor_options import SENSOR_HEIGHT_M
from ..streams import Streams
from . import roadside, traffic
from .builder import Scene, SceneBuilder
from .company import add_groups, add_large_neighbours, add_parked_bicycles, thin_out
from .families import reshape
from .ground import Ground
from .lookalikes import add_lookalikes
from .options import EASY, SceneOptions
from .styles import BORDERS, OTHER_STYLES, STYLES, Style
from .surfaces import paint_black
from .tilt import draw_tilt


def draw_scene(
    rng: np.random.Generator,
    streams: Streams,
    options: SceneOptions = EASY,
    for_evaluation: bool = False,
) -> Scene:
    """A random street with all its objects.

    Args:
        rng: draws the easy scene.
        streams: draw what the options add to it.
        options: how hard the scene is.
        for_evaluation: whether the frame is of val or holdout.
    """
    is_elsewhere = options.streets.other_in_evaluation and for_evaluation
    builder = _easy_street(OTHER_STYLES if is_elsewhere else STYLES, rng)
    _add_company(builder, options, streams)
    reshape(builder.with_rng(streams.of("shapes")), options.shapes, for_evaluation)
    add_lookalikes(builder.with_rng(streams.of("lookalikes")), options.lookalikes)
    paint_black(builder.with_rng(streams.of("paint")), options.surfaces.black_cars)
    return builder.build(draw_tilt(options.tilt, streams))


def _add_company(builder: SceneBuilder, options: SceneOptions, streams: Streams) -> None:
    """Neighbours of the road users; then those that KITTI would not have are removed."""
    traffic_options = options.traffic
    neighbours = builder.with_rng(streams.of("neighbours"))
    add_large_neighbours(neighbours, traffic_options.large_neighbours)
    add_groups(builder.with_rng(streams.of("groups")), traffic_options.groups)
    bicycles = builder.with_rng(streams.of("bicycles"))
    add_parked_bicycles(bicycles, traffic_options.parked_bicycles)
    thin_out(builder.with_rng(streams.of("frequencies")), traffic_options)


def _easy_street(styles: tuple[Style, ...], rng: np.random.Generator) -> SceneBuilder:
    """A street in one of the styles, with its furniture and its road users."""
    shares = [style.share for style in styles]
    style = styles[rng.choice(len(styles), p=shares)]
    builder = SceneBuilder(_draw_ground(style, rng), rng)
    BORDERS[style.border](builder)
    roadside.street_furniture(builder)
    roadside.close_junction(builder)
    traffic.moving_traffic(builder, style.lane_gap_m)
    traffic.parked_cars(builder, style.parked, may_stand_crosswise=style.border == "gardens")
    traffic.cyclists(builder, rng.poisson(style.cyclists))
    traffic.pedestrians(builder, rng.poisson(style.pedestrians))
    return builder


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
