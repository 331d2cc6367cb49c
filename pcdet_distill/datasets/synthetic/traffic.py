"""Who uses a street: moving and parked vehicles, cyclists, people on foot. Places that are taken are left alone."""

from __future__ import annotations

import numpy as np

from .builder import FURTHEST_M, SceneBuilder, in_junction


def moving_traffic(builder: SceneBuilder, lane_gap_m: float) -> None:
    """Vehicles in the right lane going with the sensor, in the left lane against it, and some in a crossing street."""
    rng, ground = builder.rng, builder.ground
    for side, turn in ((-1.0, 0.0), (1.0, np.pi)):
        u = rng.exponential(lane_gap_m) + (6.0 if side < 0 else 2.0)
        while u < FURTHEST_M:
            v = side * ground.half_width_m / 2 + rng.normal(0, 0.3)
            builder.place(_vehicle(rng), u, v, turn + rng.normal(0, 0.04))
            u += 7.0 + rng.exponential(lane_gap_m)
    if np.isfinite(ground.cross_u_m):
        for _ in range(rng.poisson(1.0)):
            side = rng.choice([-1.0, 1.0])
            builder.place(
                _vehicle(rng), ground.cross_u_m + side * 1.8, rng.uniform(-15, 15), side * np.pi / 2
            )


def _vehicle(rng: np.random.Generator) -> str:
    return rng.choice(["Car", "Van", "Truck"], p=[0.88, 0.09, 0.03])


def parked_cars(builder: SceneBuilder, share: float, may_stand_crosswise: bool) -> None:
    """Parking places along both kerbs, half on the pavement where the street is narrow; some rows stand crosswise."""
    rng, ground = builder.rng, builder.ground
    for side in (1.0, -1.0):
        if rng.random() < 0.25:
            continue
        crosswise = may_stand_crosswise and rng.random() < 0.15
        v = side * (ground.half_width_m + (1.6 if crosswise else rng.uniform(-0.9, 0.4)))
        step = 2.7 if crosswise else 6.0
        for u in np.arange(rng.uniform(2.0, 6.0), FURTHEST_M * 0.8, step):
            if rng.random() < share and not in_junction(ground, u, 3.0):
                turn = (
                    side * np.pi / 2
                    if crosswise
                    else (0.0 if side < 0 or rng.random() < 0.3 else np.pi)
                )
                label = "Van" if rng.random() < 0.1 else "Car"
                builder.place(
                    label,
                    u + rng.normal(0, 0.3),
                    v + rng.normal(0, 0.12),
                    turn + rng.normal(0, 0.04),
                )


def riders(builder: SceneBuilder, number: int) -> None:
    """Cyclists near the kerb in either direction, a few crossing."""
    rng, ground = builder.rng, builder.ground
    for _ in range(number):
        side = rng.choice([-1.0, 1.0])
        u = rng.uniform(5.0, 36.0)
        if rng.random() < 0.15:
            builder.place(
                "Cyclist",
                u,
                rng.uniform(-1, 1) * ground.half_width_m,
                side * np.pi / 2 + rng.normal(0, 0.3),
            )
            continue
        v = side * (ground.half_width_m - rng.uniform(-0.8, 1.8))
        builder.place("Cyclist", u, v, (0.0 if side < 0 else np.pi) + rng.normal(0, 0.12))


def walkers(builder: SceneBuilder, number: int) -> None:
    """People on the pavements, alone or in pairs, some crossing the street, a few sitting."""
    rng, ground = builder.rng, builder.ground
    for _ in range(number):
        side, u = rng.choice([-1.0, 1.0]), rng.uniform(5.0, 34.0)
        turn = rng.choice([0.0, np.pi]) + rng.normal(0, 0.25)
        v = side * (ground.half_width_m + rng.uniform(0.3, ground.pavement_m - 0.3))
        if rng.random() < 0.2:
            v, turn = (
                rng.uniform(-1, 1) * ground.half_width_m,
                side * np.pi / 2 + rng.normal(0, 0.4),
            )
        label = "Person_sitting" if rng.random() < 0.04 else "Pedestrian"
        if builder.place(label, u, v, turn) and rng.random() < 0.25:
            builder.place(
                "Pedestrian", u + rng.normal(0, 0.15), v - side * 0.75, turn + rng.normal(0, 0.1)
            )
