"""Templates without a label: walls, houses, plants, fences, poles, bins. Lengths in metres."""

from __future__ import annotations

from .shapes import ShapeBuilder, Template


def plain_box(name: str, material: str) -> Template:
    """A cube of one metre, to be stretched to a wall or a hedge."""
    return ShapeBuilder(name).box((-0.5, -0.5, 0.0), (0.5, 0.5, 1.0), material).build()


def house() -> Template:
    """A front of eight metres with a plinth, four windows and a recessed door; it looks along y."""
    builder = ShapeBuilder("house")
    builder.box((-4.0, -2.0, 0.0), (4.0, 1.75, 6.0), "masonry")
    # The front wall is 0.25 m thick: below the windows, above them, and between them.
    builder.box((-4.0, 1.75, 0.0), (1.2, 2.0, 0.95), "masonry")
    builder.box((2.3, 1.75, 0.0), (4.0, 2.0, 0.95), "masonry")
    builder.box((-4.0, 1.75, 2.25), (4.0, 2.0, 6.0), "masonry")
    between_windows = (
        (-4.0, -3.2),
        (-2.1, -1.4),
        (-0.3, 0.1),
        (0.9, 1.2),
        (2.3, 2.8),
        (3.6, 4.0),
    )
    for start, end in between_windows:
        builder.box((start, 1.75, 0.95), (end, 2.0, 2.25), "masonry")
    return builder.build()


def tree() -> Template:
    """A trunk under three clouds of leaves."""
    builder = ShapeBuilder("tree").cylinder((0.0, 0.0, 0.0), (0.1, 0.0, 2.6), 0.17, "bark")
    clouds = (
        ((0.4, 0.2, 3.4), 1.3),
        ((-0.5, -0.4, 3.3), 1.2),
        ((0.0, 0.3, 4.4), 1.4),
    )
    for centre, radius in clouds:
        builder.ellipsoid(centre, (radius, radius, 0.9 * radius), "foliage")
    return builder.build()


def bush() -> Template:
    """Four clouds of leaves that overlap and touch the ground."""
    builder = ShapeBuilder("bush")
    clouds = (
        ((0.0, 0.0, 0.6), (0.9, 0.8, 0.7)),
        ((0.8, 0.3, 0.5), (0.7, 0.6, 0.5)),
        ((-0.7, -0.2, 0.7), (0.6, 0.7, 0.7)),
        ((0.1, 0.2, 1.2), (0.6, 0.6, 0.6)),
    )
    for centre, radii in clouds:
        builder.ellipsoid(centre, radii, "foliage")
    return builder.build()


def fence() -> Template:
    """Four metres of posts, two rails and a mesh that lets most rays through."""
    builder = ShapeBuilder("fence").box((-2.0, -0.02, 0.1), (2.0, 0.02, 1.2), "mesh")
    for x in (-1.96, 0.0, 1.96):
        builder.box((x - 0.04, -0.05, 0.0), (x + 0.04, 0.05, 1.3), "bark")
    return builder.box((-2.0, -0.04, 1.1), (2.0, 0.04, 1.2), "bark").build()


def guard_rail() -> Template:
    """Four metres of steel band on two posts."""
    builder = ShapeBuilder("guard_rail").box((-2.0, -0.06, 0.45), (2.0, 0.06, 0.78), "metal")
    for x in (-1.0, 1.0):
        builder.box((x - 0.06, -0.06, 0.0), (x + 0.06, 0.06, 0.7), "metal")
    return builder.build()


def pole() -> Template:
    """A lamp post."""
    return ShapeBuilder("pole").cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 6.0), 0.08, "metal").build()


def sign() -> Template:
    """A traffic sign that reflects the pulse strongly; its face looks along x."""
    builder = ShapeBuilder("sign").cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 2.9), 0.035, "metal")
    return builder.box((-0.03, -0.32, 2.1), (-0.01, 0.32, 2.75), "reflector").build()


def litter_bin() -> Template:
    """A bin as wide as a pedestrian and two thirds as high."""
    builder = ShapeBuilder("litter_bin").cylinder((0.0, 0.0, 0.05), (0.0, 0.0, 1.0), 0.28, "metal")
    return builder.cylinder((0.0, 0.0, 1.0), (0.0, 0.0, 1.12), 0.2, "metal").build()
