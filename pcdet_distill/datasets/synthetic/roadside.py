"""What closes a street off and stands along it: houses, gardens, open fields, furniture, the end of a junction."""

from __future__ import annotations

import numpy as np

from .builder import FURTHEST_M, SceneBuilder, in_junction, pavement_end_m


def houses(builder: SceneBuilder) -> None:
    """House after house along both pavements, with gaps, walls and a few doors standing back."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length, depth, back = (
                rng.uniform(6.0, 13.0),
                rng.uniform(4.0, 8.0),
                rng.choice([0.0, 0.0, 0.4, 1.5]),
            )
            middle, edge = u + length / 2, pavement_end_m(ground)
            if not in_junction(ground, middle, length / 2):
                turn = 0.0 if side < 0 else np.pi
                kind = rng.random()
                v = side * (edge + back + depth / 2)
                if kind < 0.72:
                    builder.furnish(
                        "house", middle, v, (length, depth, rng.uniform(5.0, 9.0)), turn
                    )
                elif kind < 0.86:
                    builder.furnish(
                        "wall", middle, side * (edge + 0.3), (length, 0.3, rng.uniform(1.2, 2.5))
                    )
                    builder.furnish("tree", middle, v + side)
                else:
                    builder.furnish(
                        "hedge", middle, side * (edge + 0.6), (length, 0.9, rng.uniform(1.0, 2.2))
                    )
            u += length + rng.choice([0.0, 0.0, 1.0, 4.0])


def gardens(builder: SceneBuilder) -> None:
    """Hedges, fences and low walls, with bushes, trees and houses behind them."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        u = rng.uniform(-6.0, 0.0)
        while u < FURTHEST_M:
            length = rng.uniform(4.0, 12.0)
            middle, edge = u + length / 2, pavement_end_m(ground)
            if not in_junction(ground, middle, length / 2):
                kind = rng.choice(4, p=[0.35, 0.2, 0.2, 0.25])
                if kind == 0:
                    builder.furnish(
                        "hedge", middle, side * (edge + 0.6), (length, 1.0, rng.uniform(1.1, 2.6))
                    )
                elif kind == 1:
                    builder.furnish(
                        "fence", middle, side * (edge + 0.2), (length, 0.1, rng.uniform(1.0, 1.5))
                    )
                elif kind == 2:
                    builder.furnish(
                        "wall", middle, side * (edge + 0.2), (length, 0.3, rng.uniform(0.6, 1.8))
                    )
                for _ in range(rng.poisson(1.6)):
                    _plant(
                        builder, u + rng.uniform(0, length), side * (edge + rng.uniform(1.2, 6.0))
                    )
                if rng.random() < 0.6:
                    depth = rng.uniform(6.0, 9.0)
                    builder.furnish(
                        "house",
                        middle,
                        side * (edge + rng.uniform(2.0, 7.0) + depth / 2),
                        (length + 2.0, depth, 6.0),
                        0.0 if side < 0 else np.pi,
                    )
            u += length + rng.choice([0.0, 0.5, 3.0])


def fields(builder: SceneBuilder) -> None:
    """An open road: guard rails, bushes and trees far off on either side, now and then a wall."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        if rng.random() < 0.5:
            distance = side * (pavement_end_m(ground) + rng.uniform(0.3, 6.0))
            for u in np.arange(rng.uniform(0, 4), FURTHEST_M, 4.0):
                builder.furnish("guard_rail", u, distance)
        far = pavement_end_m(ground) + rng.uniform(1.5, 18.0)
        for u in np.arange(2.0, FURTHEST_M, 2.0):
            if rng.random() < 0.8:
                _plant(builder, u + rng.uniform(-2, 2), side * (far + rng.gamma(2.0, 2.5)))
        if rng.random() < 0.25:
            builder.furnish("wall", 40.0, side * (far + 6.0), (70.0, 0.3, rng.uniform(1.5, 4.0)))


def _plant(builder: SceneBuilder, u: float, v: float) -> None:
    rng = builder.rng
    if rng.random() < 0.3:
        builder.furnish("tree", u, v, turn_rad=rng.uniform(0, 6.28))
    else:
        size = (rng.uniform(1.2, 5.0), rng.uniform(1.2, 4.0), rng.uniform(0.8, 5.5))
        builder.furnish("bush", u, v, size, rng.uniform(0, 6.28))


def street_furniture(builder: SceneBuilder) -> None:
    """Lamp posts, signs, bins, parked bicycles and young trees along the kerb."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        for u in np.arange(rng.uniform(3, 12), FURTHEST_M, rng.uniform(12.0, 28.0)):
            name = rng.choice(
                ["pole", "sign", "litter_bin", "bicycle", "tree"], p=[0.4, 0.2, 0.15, 0.15, 0.1]
            )
            v = side * (ground.half_width_m + rng.uniform(0.3, 0.6))
            turn = np.pi if name == "sign" else rng.normal(0.0, 0.3)
            builder.furnish(name, u + rng.uniform(-2, 2), v, turn_rad=turn, blocks=0.4)


def close_junction(builder: SceneBuilder) -> None:
    """Behind a crossing street the view often ends at a house (a T junction)."""
    rng, ground = builder.rng, builder.ground
    if not np.isfinite(ground.cross_u_m) or rng.random() < 0.2:
        return
    u = ground.cross_u_m + ground.cross_half_width_m + ground.pavement_m
    for v in (-16.0, 0.0, 16.0):
        depth = rng.uniform(5.0, 8.0)
        size, back = (15.5, depth, 7.0), depth / 2 + rng.uniform(0, 1.0)
        builder.furnish("house", u + back, v + rng.uniform(-1, 1), size, np.pi / 2)
