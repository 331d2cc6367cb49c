"""Templates with a label: cars, vans, trucks, pedestrians, cyclists. Lengths in metres."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .shapes import ShapeBuilder, Template

LEFT_AND_RIGHT = (1.0, -1.0)  # signs of y


class CarStyle(NamedTuple):
    """The side view of a car. x runs from -1 at the rear bumper to 1 at the front bumper.

    Attributes:
        cowl: x where the bonnet meets the windscreen.
        roof_front: x of the front end of the roof.
        roof_rear: x of its rear end.
        tail: x where the rear window meets the body.
        belt: height of the lower edge of the windows, as a share of the car's height.
    """

    cowl: float
    roof_front: float
    roof_rear: float
    tail: float
    belt: float


CAR_STYLES: dict[str, CarStyle] = {
    "hatchback": CarStyle(0.48, 0.12, -0.72, -0.93, 0.61),
    "small": CarStyle(0.58, 0.25, -0.78, -0.95, 0.60),
    "saloon": CarStyle(0.42, 0.05, -0.42, -0.72, 0.63),
    "estate": CarStyle(0.44, 0.08, -0.84, -0.95, 0.62),
    "suv": CarStyle(0.46, 0.14, -0.80, -0.94, 0.64),
    "coupe": CarStyle(0.38, 0.00, -0.30, -0.80, 0.62),
    "mpv": CarStyle(0.66, 0.26, -0.82, -0.95, 0.58),
}


def car(
    name: str,
    size_m: tuple[float, float, float] = (3.9, 1.6, 1.56),
    style: CarStyle | None = None,
) -> Template:
    """A hull with a bonnet, a cabin with leaning windows, four wheels and number plates.

    Args:
        name: of the template, and of its style in ``CAR_STYLES``.
        size_m: length, width, height.
        style: its side view, if it is not one of ``CAR_STYLES``.
    """
    length, width, height = size_m
    half = length / 2
    half_width = width / 2
    shape = CAR_STYLES[name] if style is None else style
    belt_m = shape.belt * height
    hull = [
        (half - 0.12, 0.22),
        (half, 0.46),
        (half - 0.10, 0.74),
        (shape.cowl * half, belt_m),
        (-half + 0.10, belt_m),
        (-half, 0.52),
        (-half + 0.14, 0.26),
    ]
    # From the windscreen over the roof, which is highest in its middle, to the rear window.
    roof_middle = (shape.roof_front + shape.roof_rear) / 2
    cabin = [
        (shape.cowl * half, belt_m - 0.03),
        (shape.roof_front * half, height - 0.04),
        (roof_middle * half, height),
        (shape.roof_rear * half, height - 0.05),
        (shape.tail * half, belt_m - 0.03),
    ]
    builder = ShapeBuilder(name)
    builder.prism(
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
    _window_posts(builder, cabin, half_width)
    axles = (0.62 * half, -0.64 * half)
    _wheels(builder, axles, half_width, width=0.19, radius=0.30)
    for x in (half - 0.04, -half):
        builder.box((x, -0.26, 0.42), (x + 0.04, 0.26, 0.53), "reflector")
    return builder.build()


def _window_posts(
    builder: ShapeBuilder, cabin: list[tuple[float, float]], half_width: float
) -> None:
    """Painted posts between the side windows: from far away, the visible part of a window."""
    bottom = cabin[0][1]
    top = cabin[1][1]
    roof_front = cabin[1][0]
    roof_rear = cabin[3][0]
    for x in (0.55 * (roof_front + roof_rear), roof_rear + 0.1):
        for side in LEFT_AND_RIGHT:
            foot = (x, side * (half_width - 0.11), bottom)
            head = (x, side * (half_width - 0.25), top)
            builder.cylinder(foot, head, 0.05, "paint")


def _wheels(
    builder: ShapeBuilder,
    axles: tuple[float, ...],
    half_width: float,
    *,
    width: float,
    radius: float,
) -> None:
    """Two wheels at the x of each axle; their outer faces are ``half_width`` from the middle."""
    for x in axles:
        for side in LEFT_AND_RIGHT:
            outer = (x, side * half_width, radius)
            inner = (x, side * (half_width - width), radius)
            builder.cylinder(outer, inner, radius, "rubber")


def van() -> Template:
    """A delivery van or minibus: no bonnet, a leaning windscreen, a tall closed body."""
    half = 2.45
    half_width = 0.95
    height = 2.15
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
    builder = ShapeBuilder("van")
    builder.prism(body, edges, half_width - 0.02, "paint", top_half_width=0.82, corner_m=0.08)
    _wheels(builder, (1.5, -1.4), half_width, width=0.22, radius=0.34)
    return builder.box((-half, -0.26, 0.5), (-half + 0.06, 0.26, 0.62), "reflector").build()


def truck() -> Template:
    """A cab, a gap, a cargo box and three axles."""
    builder = ShapeBuilder("truck")
    cab = [(4.5, 0.45), (4.55, 1.3), (4.30, 2.7), (2.9, 2.75), (2.9, 0.45)]
    builder.prism(cab, ["paint", "glass", "paint", "paint", "paint"], 1.2, "paint", corner_m=0.05)
    builder.box((-4.55, -1.25, 1.0), (2.6, 1.25, 3.25), "paint")
    builder.box((-4.4, -0.5, 0.6), (3.0, 0.5, 1.0), "metal")
    for x in (3.6, -2.2, -3.4):
        for side in LEFT_AND_RIGHT:
            builder.cylinder((x, side * 1.22, 0.48), (x, side * 0.9, 0.48), 0.48, "rubber")
    return builder.build()


def pedestrian(stride_m: float, arm_swing_m: float, hunch_rad: float = 0.05) -> Template:
    """A walking figure; the arms swing against the legs.

    Args:
        stride_m: distance of each foot before and behind the hip.
        arm_swing_m: distance of each hand before and behind it.
        hunch_rad: by which the back is bent.
    """
    return figure("pedestrian", stride_m, arm_swing_m, hunch_rad).build()


def figure(name: str, stride_m: float, arm_swing_m: float, hunch_rad: float = 0.05) -> ShapeBuilder:
    """The pieces of ``pedestrian``, to which clothes and bags may be added."""
    builder = ShapeBuilder(name)
    for side in LEFT_AND_RIGHT:
        foot_x = side * stride_m
        hip = (0.0, side * 0.09, 0.92)
        knee = (foot_x * 0.55 + 0.04, side * 0.10, 0.50)
        ankle = (foot_x, side * 0.10, 0.06)
        builder.cylinder(hip, knee, 0.080, "cloth")
        builder.cylinder(knee, ankle, 0.058, "cloth")
        builder.ellipsoid((foot_x + 0.06, side * 0.10, 0.05), (0.14, 0.05, 0.05), "rubber")
        hand_x = -side * arm_swing_m
        shoulder = (0.0, side * 0.21, 1.42)
        elbow = (hand_x * 0.4 - 0.03, side * 0.25, 1.15)
        hand = (hand_x + 0.05, side * 0.24, 0.88)
        builder.cylinder(shoulder, elbow, 0.050, "cloth")
        builder.cylinder(elbow, hand, 0.042, "skin")
    builder.ellipsoid((0.0, 0.0, 0.98), (0.13, 0.18, 0.17), "cloth")  # hips
    builder.ellipsoid((0.02, 0.0, 1.22), (0.135, 0.22, 0.30), "cloth", pitch_rad=hunch_rad)
    return builder.ellipsoid((0.05, 0.0, 1.63), (0.105, 0.085, 0.13), "skin")


def person_sitting() -> Template:
    """A person on a chair."""
    builder = ShapeBuilder("person_sitting")
    for side in LEFT_AND_RIGHT:
        knee = (0.3, side * 0.12, 0.5)
        builder.cylinder((-0.15, side * 0.1, 0.5), knee, 0.08, "cloth")
        builder.cylinder(knee, (0.33, side * 0.12, 0.05), 0.06, "cloth")
        builder.cylinder((-0.15, side * 0.22, 1.0), (0.15, side * 0.2, 0.65), 0.05, "cloth")
    builder.ellipsoid((-0.17, 0.0, 0.8), (0.14, 0.21, 0.33), "cloth")
    builder.ellipsoid((-0.12, 0.0, 1.2), (0.1, 0.085, 0.13), "skin")
    return builder.box((-0.38, -0.22, 0.0), (-0.33, 0.22, 0.85), "mesh").build()


def cyclist(knee_lift: float, lean_rad: float) -> Template:
    """A rider on a bicycle.

    Args:
        knee_lift: position of the pedals, from -1 to 1.
        lean_rad: by which the back is bent.
    """
    return rider("cyclist", knee_lift, lean_rad).build()


def rider(name: str, knee_lift: float, lean_rad: float) -> ShapeBuilder:
    """The pieces of ``cyclist``, to which bags and baskets may be added."""
    builder = _add_bicycle(ShapeBuilder(name))
    hip = np.array([-0.22, 0.0, 0.96])
    back_length = 0.52
    back = np.array([np.sin(lean_rad), 0.0, np.cos(lean_rad)])
    shoulder = hip + back_length * back
    head = shoulder + np.array([0.08, 0.0, 0.23])
    builder.ellipsoid((hip + shoulder) / 2, (0.13, 0.19, 0.34), "cloth", pitch_rad=lean_rad)
    builder.ellipsoid(head, (0.11, 0.09, 0.13), "skin")
    for side in LEFT_AND_RIGHT:
        lift = side * knee_lift
        knee = (0.12, side * 0.13, 0.68 + 0.1 * lift)
        foot = (0.02 + 0.1 * lift, side * 0.12, 0.27 + 0.15 * lift)
        builder.cylinder((hip[0], side * 0.1, hip[2]), knee, 0.08, "cloth")
        builder.cylinder(knee, foot, 0.055, "cloth")
        upper_arm = (shoulder[0], side * 0.19, shoulder[2] - 0.05)
        builder.cylinder(upper_arm, (0.38, side * 0.27, 1.0), 0.045, "cloth")
    return builder


def bicycle() -> Template:
    """A parked bicycle: a distractor without a label."""
    return _add_bicycle(ShapeBuilder("bicycle")).build()


def _add_bicycle(builder: ShapeBuilder) -> ShapeBuilder:
    """Two wheels, a frame of six tubes, and handlebars."""
    crank = (0.0, 0.0, 0.3)
    head = (0.40, 0.0, 0.88)
    seat = (-0.2, 0.0, 0.92)
    rear_hub = (-0.53, 0.0, 0.34)
    front_hub = (0.53, 0.0, 0.34)
    for x in (0.53, -0.53):
        builder.cylinder((x, -0.025, 0.34), (x, 0.025, 0.34), 0.34, "spokes")
    tubes = (
        (crank, head),
        (crank, seat),
        (head, seat),
        (rear_hub, seat),
        (rear_hub, crank),
        (front_hub, head),
    )
    for start, end in tubes:
        builder.cylinder(start, end, 0.03, "metal")
    return builder.cylinder((0.38, -0.28, 1.0), (0.38, 0.28, 1.0), 0.03, "metal")
