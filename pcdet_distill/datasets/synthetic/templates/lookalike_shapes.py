"""Templates without a label that look like road users. Lengths in metres."""

from __future__ import annotations

from .road_users import LEFT_AND_RIGHT, figure
from .shapes import ShapeBuilder, Template

# Like a pedestrian


def mannequin() -> Template:
    """A figure of a shop on a foot plate: a standing person, but for its legs."""
    builder = figure("mannequin", 0.02, 0.04)
    return builder.cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 0.05), 0.22, "metal").build()


def cut_out() -> Template:
    """An advertising figure: the outline of a person, cut from a board."""
    builder = ShapeBuilder("cut_out").box((-0.02, -0.24, 0.0), (0.02, 0.24, 0.85), "cloth")
    builder.box((-0.02, -0.27, 0.85), (0.02, 0.27, 1.45), "cloth")
    builder.cylinder((-0.02, 0.0, 1.60), (0.02, 0.0, 1.60), 0.13, "skin")
    return builder.box((-0.25, -0.05, 0.0), (0.25, 0.05, 0.03), "metal").build()


def post() -> Template:
    """A thick post of human height."""
    builder = ShapeBuilder("post").cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 1.6), 0.14, "metal")
    return builder.ellipsoid((0.0, 0.0, 1.6), (0.15, 0.15, 0.12), "metal").build()


def meter() -> Template:
    """A parking meter: a box on a thin post."""
    builder = ShapeBuilder("meter").cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 1.1), 0.06, "metal")
    return builder.box((-0.14, -0.18, 1.0), (0.14, 0.18, 1.65), "metal").build()


def low_sign() -> Template:
    """A sign whose lower edge is at breast height."""
    builder = ShapeBuilder("low_sign").cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 1.75), 0.04, "metal")
    return builder.box((-0.02, -0.25, 1.0), (0.02, 0.25, 1.7), "masonry").build()


def column_bush() -> Template:
    """A clipped bush, as high and as wide as a person."""
    builder = ShapeBuilder("column_bush")
    builder.ellipsoid((0.0, 0.0, 0.55), (0.28, 0.28, 0.55), "hedge")
    return builder.ellipsoid((0.02, 0.02, 1.2), (0.24, 0.25, 0.5), "hedge").build()


def wheeled_bin() -> Template:
    """A household bin with a lid."""
    builder = ShapeBuilder("wheeled_bin")
    body = [(0.30, 0.06), (0.36, 1.0), (-0.34, 1.0), (-0.24, 0.06)]
    builder.prism(body, ["rubber", "rubber", "rubber", "rubber"], 0.28, "cloth")
    return builder.box((-0.38, -0.29, 1.0), (0.38, 0.29, 1.08), "cloth").build()


# Like a cyclist


def motorcycle() -> Template:
    """A motorcycle on its stand."""
    builder = ShapeBuilder("motorcycle")
    for x in (0.72, -0.72):
        builder.cylinder((x, -0.07, 0.32), (x, 0.07, 0.32), 0.32, "rubber")
    builder.box((-0.40, -0.18, 0.25), (0.42, 0.18, 0.62), "metal")
    builder.ellipsoid((0.15, 0.0, 0.82), (0.35, 0.16, 0.18), "paint")
    builder.ellipsoid((-0.50, 0.0, 0.82), (0.45, 0.14, 0.10), "cloth")
    builder.cylinder((0.72, 0.0, 0.34), (0.45, 0.0, 1.0), 0.05, "metal")
    return builder.cylinder((0.42, -0.36, 1.05), (0.42, 0.36, 1.05), 0.03, "metal").build()


def scooter() -> Template:
    """A motor scooter with a windshield and a top case: nearly as high as a cyclist."""
    builder = ShapeBuilder("scooter")
    for x in (0.62, -0.55):
        builder.cylinder((x, -0.06, 0.24), (x, 0.06, 0.24), 0.24, "rubber")
    builder.box((-0.70, -0.18, 0.30), (0.0, 0.18, 0.78), "paint")
    builder.box((0.0, -0.17, 0.22), (0.35, 0.17, 0.32), "rubber")
    builder.box((0.35, -0.22, 0.30), (0.48, 0.22, 1.0), "paint")
    builder.box((0.44, -0.20, 1.0), (0.47, 0.20, 1.45), "window")
    return builder.box((-0.85, -0.2, 0.85), (-0.45, 0.2, 1.2), "cloth").build()


def bicycle_rack() -> Template:
    """Three bicycles side by side, seen as one block of tubes."""
    builder = ShapeBuilder("bicycle_rack")
    for y in (-0.4, 0.0, 0.4):
        for x in (0.53, -0.53):
            builder.cylinder((x, y - 0.025, 0.34), (x, y + 0.025, 0.34), 0.34, "spokes")
        builder.cylinder((-0.2, y, 0.9), (0.4, y, 0.85), 0.03, "metal")
        builder.cylinder((0.38, y - 0.25, 1.0), (0.38, y + 0.25, 1.0), 0.03, "metal")
    return builder.build()


def covered_motorcycle() -> Template:
    """A motorcycle under a tarpaulin: as long, wide and high as a cyclist."""
    builder = ShapeBuilder("covered_motorcycle")
    builder.ellipsoid((0.0, 0.0, 0.55), (0.95, 0.30, 0.60), "cloth")
    return builder.ellipsoid((0.25, 0.0, 1.05), (0.35, 0.28, 0.55), "cloth").build()


def notice_board() -> Template:
    """A board on two posts."""
    builder = ShapeBuilder("notice_board")
    for x in (-0.8, 0.8):
        builder.cylinder((x, 0.0, 0.0), (x, 0.0, 1.75), 0.05, "bark")
    return builder.box((-0.85, -0.04, 0.8), (0.85, 0.04, 1.7), "bark").build()


# Like a car


def covered_car() -> Template:
    """A car under a tarpaulin, which hides its windows and wheels."""
    hull = [(1.9, 0.12), (1.95, 0.75), (0.8, 0.95), (-1.75, 1.0), (-1.95, 0.7), (-1.9, 0.12)]
    cabin = [(0.95, 0.9), (0.25, 1.5), (-0.9, 1.52), (-1.6, 0.95)]
    builder = ShapeBuilder("covered_car")
    builder.prism(hull, ["cloth"] * 6, 0.84, "cloth", top_half_width=0.78, corner_m=0.15)
    return builder.prism(cabin, ["cloth"] * 4, 0.78, "cloth", top_half_width=0.6).build()


def trailer() -> Template:
    """A box trailer with a drawbar."""
    builder = ShapeBuilder("trailer").box((-1.6, -0.80, 0.45), (1.2, 0.80, 1.65), "paint")
    builder.box((1.2, -0.05, 0.42), (2.3, 0.05, 0.52), "metal")
    for side in LEFT_AND_RIGHT:
        builder.cylinder((-0.2, side * 0.95, 0.3), (-0.2, side * 0.75, 0.3), 0.3, "rubber")
    return builder.build()


def skip() -> Template:
    """A container for rubble: sloping ends, open at the top."""
    builder = ShapeBuilder("skip")
    profile = [(1.2, 0.1), (1.9, 1.35), (-1.9, 1.35), (-1.2, 0.1)]
    return builder.prism(profile, ["metal"] * 4, 0.85, "metal").build()


def box_hedge() -> Template:
    """A clipped hedge of a car's size."""
    builder = ShapeBuilder("box_hedge").box((-1.9, -0.75, 0.0), (1.9, 0.75, 1.25), "hedge")
    return builder.ellipsoid((0.0, 0.0, 1.2), (1.5, 0.7, 0.35), "hedge").build()


def stall() -> Template:
    """A market stall: a table, goods, and a roof on four posts."""
    builder = ShapeBuilder("stall").box((-1.7, -0.7, 0.0), (1.7, 0.5, 0.85), "cloth")
    builder.box((-1.5, -0.6, 0.85), (1.4, 0.3, 1.15), "bark")
    for x in (-1.75, 1.75):
        for y in (-0.8, 0.8):
            builder.cylinder((x, y, 0.0), (x, y, 2.2), 0.03, "metal")
    return builder.box((-1.8, -0.9, 2.2), (1.8, 0.9, 2.25), "cloth").build()


def wreck() -> Template:
    """Half a car: what a workshop leaves beside the street, without wheels and bonnet."""
    builder = ShapeBuilder("wreck")
    hull = [(1.1, 0.0), (1.1, 0.75), (-1.7, 0.8), (-1.75, 0.1)]
    builder.prism(hull, ["paint"] * 4, 0.8, "paint")
    cabin = [(0.9, 0.75), (0.3, 1.3), (-1.2, 1.3), (-1.6, 0.78)]
    return builder.prism(cabin, ["paint"] * 4, 0.72, "paint", top_half_width=0.6).build()


TEMPLATES = {
    "mannequin": mannequin,
    "cut_out": cut_out,
    "post": post,
    "meter": meter,
    "low_sign": low_sign,
    "column_bush": column_bush,
    "wheeled_bin": wheeled_bin,
    "motorcycle": motorcycle,
    "scooter": scooter,
    "bicycle_rack": bicycle_rack,
    "covered_motorcycle": covered_motorcycle,
    "notice_board": notice_board,
    "covered_car": covered_car,
    "trailer": trailer,
    "skip": skip,
    "box_hedge": box_hedge,
    "stall": stall,
    "wreck": wreck,
}


def templates() -> dict[str, Template]:
    """The templates of all look-alikes by name."""
    return {name: build() for name, build in TEMPLATES.items()}
