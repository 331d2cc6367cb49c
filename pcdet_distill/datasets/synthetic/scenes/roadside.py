"""What stands along a street: houses, gardens, fields, street furniture."""

from __future__ import annotations

import numpy as np

from .builder import FURTHEST_M, SceneBuilder, in_junction, pavement_end_m

LEFT, RIGHT = 1.0, -1.0  # signs of v
HOUSE_TURN_RAD = {LEFT: np.pi, RIGHT: 0.0}  # the front of a house looks at the street


def houses(builder: SceneBuilder) -> None:
    """House after house along both pavements, with gaps, garden walls and hedges between them."""
    rng = builder.rng
    for side in (LEFT, RIGHT):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length = rng.uniform(6.0, 13.0)
            depth = rng.uniform(4.0, 8.0)
            setback = rng.choice([0.0, 0.0, 0.4, 1.5])
            middle = u + length / 2
            if not in_junction(builder.ground, middle, length / 2):
                _house_or_garden(builder, side, middle, length=length, depth=depth, setback=setback)
            u += length + rng.choice([0.0, 0.0, 1.0, 4.0])


def _house_or_garden(
    builder: SceneBuilder, side: float, u: float, *, length: float, depth: float, setback: float
) -> None:
    """One plot of a closed row: a house, a wall with a tree behind it, or a hedge."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    v = side * (edge + setback + depth / 2)
    kind = rng.random()
    if kind < 0.72:
        height = rng.uniform(5.0, 9.0)
        builder.furnish("house", u, v, (length, depth, height), HOUSE_TURN_RAD[side])
    elif kind < 0.86:
        height = rng.uniform(1.2, 2.5)
        wall_v = side * (edge + 0.3)
        builder.furnish("wall", u, wall_v, (length, 0.3, height))
        builder.furnish("tree", u, v + side)
    else:
        height = rng.uniform(1.0, 2.2)
        hedge_v = side * (edge + 0.6)
        builder.furnish("hedge", u, hedge_v, (length, 0.9, height))


def gardens(builder: SceneBuilder) -> None:
    """Hedges, fences and low walls, with bushes, trees and houses behind them."""
    rng = builder.rng
    for side in (LEFT, RIGHT):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length = rng.uniform(4.0, 12.0)
            middle = u + length / 2
            if not in_junction(builder.ground, middle, length / 2):
                _garden_border(builder, side, middle, length)
                _garden_plants(builder, side, u, length)
                if rng.random() < 0.6:
                    _house_behind(builder, side, middle, length)
            u += length + rng.choice([0.0, 0.5, 3.0])


def _garden_border(builder: SceneBuilder, side: float, u: float, length: float) -> None:
    """A hedge, a fence, a wall, or an open garden."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    kind = rng.choice(["hedge", "fence", "wall", "open"], p=[0.35, 0.2, 0.2, 0.25])
    v = side * (edge + 0.2)
    if kind == "hedge":
        height = rng.uniform(1.1, 2.6)
        hedge_v = side * (edge + 0.6)
        builder.furnish("hedge", u, hedge_v, (length, 1.0, height))
    elif kind == "fence":
        height = rng.uniform(1.0, 1.5)
        builder.furnish("fence", u, v, (length, 0.1, height))
    elif kind == "wall":
        height = rng.uniform(0.6, 1.8)
        builder.furnish("wall", u, v, (length, 0.3, height))


def _garden_plants(builder: SceneBuilder, side: float, start_u: float, length: float) -> None:
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    for _ in range(rng.poisson(1.6)):
        u = start_u + rng.uniform(0, length)
        v = side * (edge + rng.uniform(1.2, 6.0))
        _plant(builder, u, v)


def _house_behind(builder: SceneBuilder, side: float, u: float, length: float) -> None:
    """A house behind its garden."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    depth = rng.uniform(6.0, 9.0)
    setback = rng.uniform(2.0, 7.0)
    v = side * (edge + setback + depth / 2)
    size = (length + 2.0, depth, 6.0)
    builder.furnish("house", u, v, size, HOUSE_TURN_RAD[side])


def fields(builder: SceneBuilder) -> None:
    """An open road: guard rails, bushes and trees far away on both sides, and sometimes a wall."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    for side in (LEFT, RIGHT):
        if rng.random() < 0.5:
            v = side * (edge + rng.uniform(0.3, 6.0))
            start_u = rng.uniform(0, 4)
            for u in np.arange(start_u, FURTHEST_M, 4.0):
                builder.furnish("guard_rail", u, v)
        first_row = edge + rng.uniform(1.5, 18.0)
        for u in np.arange(2.0, FURTHEST_M, 2.0):
            if rng.random() < 0.8:
                plant_u = u + rng.uniform(-2, 2)
                plant_v = side * (first_row + rng.gamma(2.0, 2.5))
                _plant(builder, plant_u, plant_v)
        if rng.random() < 0.25:
            height = rng.uniform(1.5, 4.0)
            wall_v = side * (first_row + 6.0)
            builder.furnish("wall", 40.0, wall_v, (70.0, 0.3, height))


def tree_rows(builder: SceneBuilder) -> None:
    """An avenue: trees in a row on both pavements, and blocks of houses far behind them."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    for side in (LEFT, RIGHT):
        tree_v = side * (edge - 0.4)
        for tree_u in np.arange(rng.uniform(2.0, 8.0), FURTHEST_M, rng.uniform(7.0, 12.0)):
            if in_junction(builder.ground, tree_u, 0.5):
                continue
            turn_rad = rng.uniform(0, 6.28)
            u = tree_u + rng.normal(0, 0.3)
            builder.furnish("tree", u, tree_v, turn_rad=turn_rad, blocked_radius_m=0.4)
        for house_u in np.arange(rng.uniform(-8.0, 0.0), FURTHEST_M, 16.0):
            if in_junction(builder.ground, house_u, 7.5):
                continue
            depth = rng.uniform(6.0, 10.0)
            v = side * (edge + rng.uniform(0.5, 5.0) + depth / 2)
            size = (15.0, depth, rng.uniform(6.0, 11.0))
            builder.furnish("house", house_u, v, size, HOUSE_TURN_RAD[side])


def halls(builder: SceneBuilder) -> None:
    """A business park: long blank walls of halls, fences, and lawns with bushes between them."""
    rng = builder.rng
    edge = pavement_end_m(builder.ground)
    for side in (LEFT, RIGHT):
        u = rng.uniform(-10.0, 0.0)
        while u < FURTHEST_M:
            length = rng.uniform(12.0, 30.0)
            middle = u + length / 2
            if not in_junction(builder.ground, middle, length / 2):
                _hall_or_lawn(builder, side, middle, length, edge)
            u += length + rng.uniform(2.0, 8.0)


def _hall_or_lawn(builder: SceneBuilder, side: float, u: float, length: float, edge: float) -> None:
    """One plot of a business park."""
    rng = builder.rng
    if rng.random() < 0.55:
        v = side * (edge + rng.uniform(2.0, 9.0) + 5.0)
        builder.furnish("wall", u, v, (length, 10.0, rng.uniform(4.0, 8.0)))
    else:
        for _ in range(rng.poisson(2.5)):
            plant_u = u + rng.uniform(-0.5, 0.5) * length
            _plant(builder, plant_u, side * (edge + rng.uniform(1.0, 10.0)))
    if rng.random() < 0.4:
        size = (length, 0.1, rng.uniform(1.4, 2.0))
        builder.furnish("fence", u, side * (edge + 0.4), size)


def _plant(builder: SceneBuilder, u: float, v: float) -> None:
    """A tree or a bush."""
    rng = builder.rng
    if rng.random() < 0.3:
        builder.furnish("tree", u, v, turn_rad=rng.uniform(0, 6.28))
    else:
        length = rng.uniform(1.2, 5.0)
        width = rng.uniform(1.2, 4.0)
        height = rng.uniform(0.8, 5.5)
        turn_rad = rng.uniform(0, 6.28)
        builder.furnish("bush", u, v, (length, width, height), turn_rad)


def street_furniture(builder: SceneBuilder) -> None:
    """Lamp posts, signs, bins, parked bicycles and young trees along the kerb.

    They are distractors: some have the size of a pedestrian or a cyclist, and no label.
    """
    rng = builder.rng
    names = ["pole", "sign", "litter_bin", "bicycle", "tree"]
    shares = [0.4, 0.2, 0.15, 0.15, 0.1]
    for side in (LEFT, RIGHT):
        start_u = rng.uniform(3, 12)
        step_m = rng.uniform(12.0, 28.0)
        for step_u in np.arange(start_u, FURTHEST_M, step_m):
            name = rng.choice(names, p=shares)
            from_kerb_m = rng.uniform(0.3, 0.6)
            v = side * (builder.ground.half_width_m + from_kerb_m)
            # A sign's face looks along x of its template: turn it to the sensor.
            turn_rad = np.pi if name == "sign" else rng.normal(0.0, 0.3)
            u = step_u + rng.uniform(-2, 2)
            builder.furnish(name, u, v, turn_rad=turn_rad, blocked_radius_m=0.4)


def close_junction(builder: SceneBuilder) -> None:
    """Behind a crossing street the view often ends at a row of houses: a T junction."""
    rng = builder.rng
    ground = builder.ground
    if not np.isfinite(ground.cross_u_m) or rng.random() < 0.2:
        return
    front_u = ground.cross_u_m + ground.cross_half_width_m + ground.pavement_m
    for row_v in (-16.0, 0.0, 16.0):
        depth = rng.uniform(5.0, 8.0)
        setback = depth / 2 + rng.uniform(0, 1.0)
        v = row_v + rng.uniform(-1, 1)
        size = (15.5, depth, 7.0)
        builder.furnish("house", front_u + setback, v, size, np.pi / 2)
