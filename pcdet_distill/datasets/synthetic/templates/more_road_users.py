"""Further templates with a label: cars, people, cyclists. Lengths in metres.

Some are for all frames, some are kept for val and holdout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from .road_users import LEFT_AND_RIGHT, CarStyle, car, figure, rider
from .shapes import ShapeBuilder, Template

Factors = tuple[float, float, float]


@dataclass(frozen=True)
class Family:
    """A shape of a class.

    Attributes:
        name: of the template.
        label: KITTI's class.
        build: makes the template.
        size_factor: on length, width, height that were drawn for the class.
        is_kept: for val and holdout alone.
    """

    name: str
    label: str
    build: Callable[[], Template]
    size_factor: Factors = (1.0, 1.0, 1.0)
    is_kept: bool = False


# Cars


def _car_family(name: str, style: CarStyle, size_factor: Factors, is_kept: bool = False) -> Family:
    return Family(name, "Car", functools.partial(car, name, style=style), size_factor, is_kept)


def pickup() -> Template:
    """A bonnet, a short cabin and an open bed behind it."""
    builder = ShapeBuilder("pickup")
    hull = [(2.4, 0.35), (2.5, 0.6), (2.4, 0.95), (1.1, 1.05), (-0.6, 1.05), (-0.6, 0.35)]
    builder.prism(hull, ["paint"] * 6, 0.88, "paint", top_half_width=0.84)
    cabin = [(1.2, 1.02), (0.5, 1.72), (-0.45, 1.74), (-0.6, 1.02)]
    builder.prism(cabin, ["glass", "paint", "glass", "paint"], 0.82, "glass", top_half_width=0.68)
    builder.box((-2.5, -0.85, 0.4), (-0.55, 0.85, 0.62), "paint")
    for side in LEFT_AND_RIGHT:
        low, high = sorted((side * 0.86, side * 0.78))
        builder.box((-2.5, low, 0.6), (-0.55, high, 1.05), "paint")
        for x in (1.5, -1.6):
            builder.cylinder((x, side * 0.9, 0.36), (x, side * 0.66, 0.36), 0.36, "rubber")
    return builder.box((-2.5, -0.85, 0.6), (-2.42, 0.85, 1.05), "paint").build()


CARS = (
    _car_family("city_car", CarStyle(0.74, 0.34, -0.90, -0.98, 0.55), (0.90, 0.97, 1.00)),
    _car_family("limousine", CarStyle(0.40, 0.10, -0.46, -0.66, 0.64), (1.10, 1.05, 0.98)),
    _car_family("fastback", CarStyle(0.44, 0.04, -0.34, -0.95, 0.60), (1.06, 1.03, 0.96)),
    _car_family("crossover", CarStyle(0.50, 0.18, -0.70, -0.90, 0.62), (1.03, 1.04, 1.04)),
    _car_family("high_roof", CarStyle(0.60, 0.30, -0.94, -0.99, 0.56), (1.04, 1.03, 1.09)),
    _car_family("kei_car", CarStyle(0.82, 0.45, -0.96, -0.99, 0.52), (0.90, 0.94, 1.04), True),
    _car_family("roadster", CarStyle(0.30, 0.02, -0.18, -0.36, 0.70), (1.00, 1.02, 0.90), True),
    _car_family("offroader", CarStyle(0.40, 0.30, -0.96, -0.99, 0.58), (1.04, 1.06, 1.10), True),
    Family("pickup", "Car", pickup, (1.14, 1.05, 1.06), is_kept=True),
)


# People


def coat() -> Template:
    """A long coat hides the legs."""
    builder = figure("coat", 0.14, 0.08)
    return builder.cylinder((0.0, 0.0, 0.35), (0.0, 0.0, 1.05), 0.21, "cloth").build()


def backpack() -> Template:
    """A walker with a pack on the back."""
    builder = figure("backpack", 0.22, 0.14, 0.12)
    return builder.ellipsoid((-0.20, 0.0, 1.24), (0.15, 0.17, 0.27), "cloth").build()


def bags() -> Template:
    """Somebody with a shopping bag in each hand."""
    builder = figure("bags", 0.18, 0.03)
    for side in LEFT_AND_RIGHT:
        low, high = sorted((side * 0.20, side * 0.34))
        builder.box((-0.15, low, 0.35), (0.22, high, 0.80), "cloth")
    return builder.build()


def broad() -> Template:
    """A stout figure in a wide jacket."""
    builder = figure("broad", 0.12, 0.05)
    return builder.ellipsoid((0.02, 0.0, 1.15), (0.23, 0.30, 0.40), "cloth").build()


def jogger() -> Template:
    """A runner: a long stride, bent arms, a back that leans forward."""
    return figure("jogger", 0.42, 0.34, 0.25).build()


def on_the_phone() -> Template:
    """A standing figure with one hand at the ear."""
    builder = figure("on_the_phone", 0.03, 0.02)
    builder.cylinder((0.0, 0.24, 1.40), (0.14, 0.30, 1.22), 0.05, "cloth")
    return builder.cylinder((0.14, 0.30, 1.22), (0.08, 0.14, 1.62), 0.042, "cloth").build()


def with_stick() -> Template:
    """A bent figure that leans on a stick."""
    builder = figure("with_stick", 0.10, 0.04, 0.45)
    return builder.cylinder((0.42, -0.18, 0.0), (0.16, -0.22, 0.92), 0.02, "metal").build()


def cape() -> Template:
    """A rain cape from the head to the knees."""
    builder = figure("cape", 0.16, 0.03)
    builder.ellipsoid((0.0, 0.0, 1.05), (0.27, 0.36, 0.62), "cloth")
    return builder.ellipsoid((0.03, 0.0, 1.64), (0.16, 0.15, 0.17), "cloth").build()


def suitcase() -> Template:
    """A traveller with a suitcase at the side."""
    builder = figure("suitcase", 0.20, 0.06)
    return builder.box((-0.38, 0.22, 0.05), (0.02, 0.44, 0.72), "cloth").build()


def on_shoulders() -> Template:
    """A parent with a small child on the shoulders."""
    builder = figure("on_shoulders", 0.12, 0.02)
    builder.ellipsoid((0.0, 0.0, 1.86), (0.11, 0.15, 0.22), "cloth")
    return builder.ellipsoid((0.02, 0.0, 2.14), (0.09, 0.08, 0.11), "skin").build()


def child() -> Template:
    """A child: a walking figure with a large head."""
    builder = figure("child", 0.20, 0.14)
    return builder.ellipsoid((0.05, 0.0, 1.63), (0.15, 0.14, 0.19), "skin").build()


PEOPLE = (
    Family("coat", "Pedestrian", coat, (1.0, 0.92, 1.0)),
    Family("backpack", "Pedestrian", backpack),
    Family("bags", "Pedestrian", bags, (1.0, 1.15, 1.0)),
    Family("broad", "Pedestrian", broad, (1.0, 1.08, 0.98)),
    Family("jogger", "Pedestrian", jogger, (1.0, 0.95, 0.97)),
    Family("child", "Pedestrian", child, (0.75, 0.72, 0.70)),
    Family("on_the_phone", "Pedestrian", on_the_phone, is_kept=True),
    Family("with_stick", "Pedestrian", with_stick, (1.0, 0.95, 0.92), is_kept=True),
    Family("cape", "Pedestrian", cape, (1.0, 1.10, 1.0), is_kept=True),
    Family("suitcase", "Pedestrian", suitcase, (1.0, 1.20, 1.0), is_kept=True),
    Family("on_shoulders", "Pedestrian", on_shoulders, (1.0, 1.0, 1.22), is_kept=True),
)


# Cyclists


def basket() -> Template:
    """A basket on the handlebars, and an upright back."""
    builder = rider("basket", 0.4, 0.05)
    return builder.box((0.42, -0.20, 0.72), (0.75, 0.20, 1.0), "mesh").build()


def panniers() -> Template:
    """Two bags beside the rear wheel."""
    builder = rider("panniers", -0.7, 0.40)
    for side in LEFT_AND_RIGHT:
        low, high = sorted((side * 0.08, side * 0.26))
        builder.box((-0.85, low, 0.35), (-0.42, high, 0.78), "cloth")
    return builder.build()


def racer() -> Template:
    """A back that lies nearly flat."""
    return rider("racer", 0.8, 1.05).build()


def courier() -> Template:
    """A large box on the back."""
    builder = rider("courier", -0.2, 0.30)
    return builder.box((-0.52, -0.24, 1.05), (-0.16, 0.24, 1.58), "cloth").build()


def child_seat() -> Template:
    """A child behind the rider."""
    builder = rider("child_seat", 0.1, 0.20)
    builder.ellipsoid((-0.62, 0.0, 1.02), (0.15, 0.16, 0.27), "cloth")
    return builder.ellipsoid((-0.60, 0.0, 1.38), (0.11, 0.10, 0.13), "skin").build()


def cargo_bike() -> Template:
    """A box between the rider and a front wheel that stands far ahead."""
    builder = rider("cargo_bike", 0.5, 0.10)
    builder.box((0.50, -0.30, 0.30), (1.25, 0.30, 0.85), "bark")
    return builder.cylinder((1.35, -0.025, 0.25), (1.35, 0.025, 0.25), 0.25, "spokes").build()


def rain_cape() -> Template:
    """A cape over rider and handlebars."""
    builder = rider("rain_cape", -0.9, 0.30)
    return builder.ellipsoid((0.05, 0.0, 1.12), (0.52, 0.34, 0.34), "cloth").build()


CYCLISTS = (
    Family("basket", "Cyclist", basket),
    Family("panniers", "Cyclist", panniers, (1.03, 1.05, 1.0)),
    Family("racer", "Cyclist", racer, (0.98, 0.95, 0.90)),
    Family("courier", "Cyclist", courier),
    Family("child_seat", "Cyclist", child_seat, (1.02, 1.05, 1.0), is_kept=True),
    Family("cargo_bike", "Cyclist", cargo_bike, (1.28, 1.10, 0.97), is_kept=True),
    Family("rain_cape", "Cyclist", rain_cape, (1.0, 1.20, 1.0), is_kept=True),
)
FAMILIES = (*CARS, *PEOPLE, *CYCLISTS)


def templates() -> dict[str, Template]:
    """The templates of all families by name."""
    return {family.name: family.build() for family in FAMILIES}
