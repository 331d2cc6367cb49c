"""Templates of what is labelled: cars, vans, trucks, pedestrians, sitting persons and cyclists."""

from __future__ import annotations

import numpy as np

from .shapes import ShapeBuilder, Template

# name: x of the cowl, of the roof's front and rear end and of the cabin's tail, as shares of half the length
# (the front bumper is +1); then the height of the belt line as a share of the car's height
CAR_STYLES: dict[str, tuple[float, float, float, float, float]] = {
    "hatchback": (0.48, 0.12, -0.72, -0.93, 0.61),
    "small": (0.58, 0.25, -0.78, -0.95, 0.60),
    "saloon": (0.42, 0.05, -0.42, -0.72, 0.63),
    "estate": (0.44, 0.08, -0.84, -0.95, 0.62),
    "suv": (0.46, 0.14, -0.80, -0.94, 0.64),
    "coupe": (0.38, 0.00, -0.30, -0.80, 0.62),
    "mpv": (0.66, 0.26, -0.82, -0.95, 0.58),
}


def car(style: str, size_m: tuple[float, float, float] = (3.9, 1.6, 1.56)) -> Template:
    """A hull with a bonnet, a cabin with leaning windows, four wheels that stand free below, and number plates."""
    length, width, height = size_m
    half, half_width = length / 2, width / 2
    cowl, roof_front, roof_rear, tail, belt = CAR_STYLES[style]
    belt_m = belt * height
    hull = [
        (half - 0.12, 0.22),
        (half, 0.46),
        (half - 0.10, 0.74),
        (cowl * half, belt_m),
        (-half + 0.10, belt_m),
        (-half, 0.52),
        (-half + 0.14, 0.26),
    ]
    cabin = [
        (cowl * half, belt_m - 0.03),
        (roof_front * half, height - 0.04),
        ((roof_front + roof_rear) / 2 * half, height),
        (roof_rear * half, height - 0.05),
        (tail * half, belt_m - 0.03),
    ]
    builder = ShapeBuilder(style).prism(
        hull,
        ["paint"] * 7,
        half_width - 0.02,
        "paint",
        top_half_width=half_width - 0.07,
        corner_m=0.14,
    )
    builder.prism(
        cabin,
        ["glass", "paint", "paint", "glass", "paint"],
        half_width - 0.09,
        "glass",
        top_half_width=half_width - 0.24,
    )
    _pillars(builder, cabin, half_width)
    for x in (0.62 * half, -0.64 * half):
        for side in (1.0, -1.0):
            builder.cylinder(
                (x, side * half_width, 0.30), (x, side * (half_width - 0.19), 0.30), 0.30, "rubber"
            )
    for x in (half - 0.04, -half):
        builder.box((x, -0.26, 0.42), (x + 0.04, 0.26, 0.53), "reflector")
    return builder.build()


def _pillars(builder: ShapeBuilder, cabin: list[tuple[float, float]], half_width: float) -> None:
    """Painted posts between the side windows: what of a window one sees from far."""
    bottom, top = cabin[0][1], cabin[1][1]
    for x in (0.55 * (cabin[1][0] + cabin[3][0]), cabin[3][0] + 0.1):
        for side in (1.0, -1.0):
            foot, head = (
                (x, side * (half_width - 0.11), bottom),
                (x, side * (half_width - 0.25), top),
            )
            builder.cylinder(foot, head, 0.05, "paint")


def van() -> Template:
    """A delivery van or minibus: no bonnet, a leaning windscreen, a tall closed body."""
    half, half_width, height = 2.45, 0.95, 2.15
    body = [
        (half - 0.08, 0.28),
        (half, 0.55),
        (half - 0.07, 1.05),
        (half - 1.0, height - 0.06),
        (half - 1.7, height),
        (-half + 0.15, height - 0.02),
        (-half, 1.1),
        (-half + 0.05, 0.30),
    ]
    edges = ["paint", "paint", "glass", "paint", "paint", "paint", "paint", "paint"]
    builder = ShapeBuilder("van").prism(
        body, edges, half_width - 0.02, "paint", top_half_width=0.82, corner_m=0.08
    )
    for x in (1.5, -1.4):
        for side in (1.0, -1.0):
            builder.cylinder(
                (x, side * half_width, 0.34), (x, side * (half_width - 0.22), 0.34), 0.34, "rubber"
            )
    return builder.box((-half, -0.26, 0.5), (-half + 0.06, 0.26, 0.62), "reflector").build()


def truck() -> Template:
    """A cab, a gap, a cargo box and three axles."""
    builder = ShapeBuilder("truck")
    cab = [(4.5, 0.45), (4.55, 1.3), (4.30, 2.7), (2.9, 2.75), (2.9, 0.45)]
    builder.prism(cab, ["paint", "glass", "paint", "paint", "paint"], 1.2, "paint", corner_m=0.05)
    builder.box((-4.55, -1.25, 1.0), (2.6, 1.25, 3.25), "paint")
    builder.box((-4.4, -0.5, 0.6), (3.0, 0.5, 1.0), "metal")
    for x in (3.6, -2.2, -3.4):
        for side in (1.0, -1.0):
            builder.cylinder((x, side * 1.22, 0.48), (x, side * 0.9, 0.48), 0.48, "rubber")
    return builder.build()


def pedestrian(stride_m: float, arm_swing_m: float, hunch_rad: float = 0.05) -> Template:
    """A walking figure: feet ``stride_m`` before and behind the hip, arms swinging against the legs."""
    builder = ShapeBuilder("pedestrian")
    for side in (1.0, -1.0):
        foot = side * stride_m
        builder.cylinder(
            (0.0, side * 0.09, 0.92), (foot * 0.55 + 0.04, side * 0.10, 0.50), 0.080, "cloth"
        )
        builder.cylinder(
            (foot * 0.55 + 0.04, side * 0.10, 0.50), (foot, side * 0.10, 0.06), 0.058, "cloth"
        )
        builder.ellipsoid((foot + 0.06, side * 0.10, 0.05), (0.14, 0.05, 0.05), "rubber")
        hand = -side * arm_swing_m
        builder.cylinder(
            (0.0, side * 0.21, 1.42), (hand * 0.4 - 0.03, side * 0.25, 1.15), 0.050, "cloth"
        )
        builder.cylinder(
            (hand * 0.4 - 0.03, side * 0.25, 1.15), (hand + 0.05, side * 0.24, 0.88), 0.042, "skin"
        )
    builder.ellipsoid((0.0, 0.0, 0.98), (0.13, 0.18, 0.17), "cloth")
    builder.ellipsoid((0.02, 0.0, 1.22), (0.135, 0.22, 0.30), "cloth", pitch_rad=hunch_rad)
    return builder.ellipsoid((0.05, 0.0, 1.63), (0.105, 0.085, 0.13), "skin").build()


def person_sitting() -> Template:
    """A person on a chair."""
    builder = ShapeBuilder("person_sitting")
    for side in (1.0, -1.0):
        builder.cylinder((-0.15, side * 0.1, 0.5), (0.3, side * 0.12, 0.5), 0.08, "cloth")
        builder.cylinder((0.3, side * 0.12, 0.5), (0.33, side * 0.12, 0.05), 0.06, "cloth")
        builder.cylinder((-0.15, side * 0.22, 1.0), (0.15, side * 0.2, 0.65), 0.05, "cloth")
    builder.ellipsoid((-0.17, 0.0, 0.8), (0.14, 0.21, 0.33), "cloth")
    builder.ellipsoid((-0.12, 0.0, 1.2), (0.1, 0.085, 0.13), "skin")
    return builder.box((-0.38, -0.22, 0.0), (-0.33, 0.22, 0.85), "mesh").build()


def cyclist(knee_lift: float, lean_rad: float) -> Template:
    """A rider on a bicycle; ``knee_lift`` in [-1, 1] turns the pedals, ``lean_rad`` bends the back."""
    builder = _bicycle(ShapeBuilder("cyclist"))
    hip, reach = np.array([-0.22, 0.0, 0.96]), 0.52
    shoulder = hip + reach * np.array([np.sin(lean_rad), 0.0, np.cos(lean_rad)])
    middle = (hip + shoulder) / 2
    builder.ellipsoid(middle, (0.13, 0.19, 0.34), "cloth", pitch_rad=lean_rad)
    builder.ellipsoid(shoulder + np.array([0.08, 0.0, 0.23]), (0.11, 0.09, 0.13), "skin")
    for side in (1.0, -1.0):
        lift = side * knee_lift
        knee = (0.12, side * 0.13, 0.68 + 0.1 * lift)
        builder.cylinder((hip[0], side * 0.1, hip[2]), knee, 0.08, "cloth")
        builder.cylinder(knee, (0.02 + 0.1 * lift, side * 0.12, 0.27 + 0.15 * lift), 0.055, "cloth")
        builder.cylinder(
            (shoulder[0], side * 0.19, shoulder[2] - 0.05), (0.38, side * 0.27, 1.0), 0.045, "cloth"
        )
    return builder.build()


def bicycle() -> Template:
    """A parked bicycle: no label, but easily taken for one."""
    return _bicycle(ShapeBuilder("bicycle")).build()


def _bicycle(builder: ShapeBuilder) -> ShapeBuilder:
    crank, head, seat = (0.0, 0.0, 0.3), (0.40, 0.0, 0.88), (-0.2, 0.0, 0.92)
    for x in (0.53, -0.53):
        builder.cylinder((x, -0.025, 0.34), (x, 0.025, 0.34), 0.34, "spokes")
    hub_back, hub_front = (-0.53, 0.0, 0.34), (0.53, 0.0, 0.34)
    tubes = (
        (crank, head),
        (crank, seat),
        (head, seat),
        (hub_back, seat),
        (hub_back, crank),
        (hub_front, head),
    )
    for start, end in tubes:
        builder.cylinder(start, end, 0.03, "metal")
    return builder.cylinder((0.38, -0.28, 1.0), (0.38, 0.28, 1.0), 0.03, "metal")
