"""Templates of objects that nuScenes labels and KITTI does not. Lengths in metres."""

from __future__ import annotations

from ..templates.road_users import LEFT_AND_RIGHT
from ..templates.shapes import ShapeBuilder, Template


def bus() -> Template:
    """A city bus: a box with bands of windows, and a front that is mostly glass."""
    builder = ShapeBuilder("bus")
    low = [(5.4, 0.3), (5.5, 1.0), (-5.5, 1.0), (-5.45, 0.3)]
    builder.prism(low, ["paint"] * 4, 1.4, "paint", corner_m=0.08)
    windows = [(5.5, 1.0), (5.4, 2.5), (-5.45, 2.5), (-5.5, 1.0)]
    builder.prism(windows, ["glass", "paint", "paint", "paint"], 1.4, "glass")
    roof = [(5.4, 2.5), (5.3, 3.3), (-5.4, 3.3), (-5.45, 2.5)]
    builder.prism(roof, ["paint"] * 4, 1.4, "paint", top_half_width=1.3)
    for x in (3.4, 1.1, -1.2, -3.6):
        for side in LEFT_AND_RIGHT:
            low_y, high_y = sorted((side * 1.36, side * 1.42))
            builder.box((x - 0.1, low_y, 1.0), (x + 0.1, high_y, 2.5), "paint")
    for x in (3.0, -3.2):
        for side in LEFT_AND_RIGHT:
            builder.cylinder((x, side * 1.41, 0.48), (x, side * 1.1, 0.48), 0.48, "rubber")
    return builder.build()


def semi_trailer() -> Template:
    """A box trailer as behind a truck: three axles at the rear, a stand at the front."""
    builder = ShapeBuilder("semi_trailer")
    builder.box((-6.0, -1.3, 1.1), (6.0, 1.3, 3.9), "paint")
    builder.box((-5.8, -0.5, 0.8), (5.0, 0.5, 1.1), "metal")
    for x in (-2.6, -3.9, -5.2):
        for side in LEFT_AND_RIGHT:
            builder.cylinder((x, side * 1.28, 0.5), (x, side * 0.9, 0.5), 0.5, "rubber")
    for side in LEFT_AND_RIGHT:
        builder.box((3.4, side * 0.8 - 0.08, 0.0), (3.6, side * 0.8 + 0.08, 1.1), "metal")
    return builder.build()


def excavator() -> Template:
    """Two tracks, a cabin, an engine, and an arm with a bucket in front."""
    builder = ShapeBuilder("excavator")
    for side in LEFT_AND_RIGHT:
        low_y, high_y = sorted((side * 0.75, side * 1.35))
        builder.box((-2.4, low_y, 0.0), (1.4, high_y, 0.85), "rubber")
    builder.box((-2.5, -1.25, 0.95), (1.0, 1.25, 1.9), "paint")
    builder.box((-0.5, 0.2, 1.9), (1.0, 1.25, 3.0), "glass")
    builder.box((-0.5, 0.2, 3.0), (1.0, 1.25, 3.1), "paint")
    builder.cylinder((0.7, -0.2, 1.6), (2.6, -0.2, 3.2), 0.22, "paint")
    builder.cylinder((2.6, -0.2, 3.2), (3.6, -0.2, 1.2), 0.18, "paint")
    return builder.box((3.0, -0.7, 0.3), (3.9, 0.3, 1.2), "metal").build()


def motorcyclist() -> Template:
    """A rider on a motorcycle."""
    builder = ShapeBuilder("motorcyclist")
    for x in (0.74, -0.72):
        builder.cylinder((x, -0.08, 0.32), (x, 0.08, 0.32), 0.32, "rubber")
    builder.box((-0.45, -0.2, 0.28), (0.45, 0.2, 0.66), "metal")
    builder.ellipsoid((0.2, 0.0, 0.84), (0.36, 0.17, 0.18), "paint")
    builder.cylinder((0.74, 0.0, 0.34), (0.46, 0.0, 1.0), 0.06, "metal")
    builder.cylinder((0.44, -0.38, 1.05), (0.44, 0.38, 1.05), 0.03, "metal")
    builder.ellipsoid((-0.2, 0.0, 1.1), (0.16, 0.22, 0.36), "cloth", pitch_rad=0.3)
    builder.ellipsoid((0.0, 0.0, 1.52), (0.15, 0.13, 0.16), "paint")  # helmet
    for side in LEFT_AND_RIGHT:
        builder.cylinder((-0.15, side * 0.22, 1.3), (0.4, side * 0.33, 1.05), 0.06, "cloth")
        builder.cylinder((-0.25, side * 0.14, 0.85), (0.2, side * 0.22, 0.75), 0.09, "cloth")
        builder.cylinder((0.2, side * 0.22, 0.75), (0.0, side * 0.22, 0.3), 0.07, "cloth")
    return builder.build()


def barrier() -> Template:
    """A concrete barrier. nuScenes' boxes call its long side the width."""
    builder = ShapeBuilder("barrier")
    foot = [(0.25, 0.0), (0.25, 0.12), (-0.25, 0.12), (-0.25, 0.0)]
    builder.prism(foot, ["masonry"] * 4, 1.25, "masonry")
    wall = [(0.11, 0.1), (0.08, 0.98), (-0.08, 0.98), (-0.11, 0.1)]
    return builder.prism(wall, ["masonry"] * 4, 1.25, "masonry").build()


def traffic_cone() -> Template:
    """A base plate, a cone of three discs, and a white band."""
    builder = ShapeBuilder("traffic_cone").box((-0.2, -0.2, 0.0), (0.2, 0.2, 0.05), "rubber")
    builder.cylinder((0.0, 0.0, 0.05), (0.0, 0.0, 0.40), 0.14, "paint")
    builder.cylinder((0.0, 0.0, 0.40), (0.0, 0.0, 0.62), 0.11, "reflector")
    return builder.cylinder((0.0, 0.0, 0.62), (0.0, 0.0, 1.0), 0.06, "paint").build()


TEMPLATES = {
    "bus": bus,
    "semi_trailer": semi_trailer,
    "excavator": excavator,
    "motorcyclist": motorcyclist,
    "barrier": barrier,
    "traffic_cone": traffic_cone,
}


def templates() -> dict[str, Template]:
    """All templates of this file by name."""
    return {name: build() for name, build in TEMPLATES.items()}
