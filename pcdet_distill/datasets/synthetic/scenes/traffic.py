"""Road users: moving and parked vehicles, cyclists, pedestrians.

``SceneBuilder.place`` skips those whose place is taken.
"""

from __future__ import annotations

import numpy as np

from .builder import FURTHEST_M, SceneBuilder, in_junction
from .roadside import LEFT, RIGHT

# Yaw of traffic, relative to the street. The sensor drives on the right.
WITH_SENSOR, AGAINST_SENSOR = 0.0, np.pi
LANE_TURN_RAD = {LEFT: AGAINST_SENSOR, RIGHT: WITH_SENSOR}


def moving_traffic(builder: SceneBuilder, lane_gap_m: float) -> None:
    """Vehicles in both lanes, and some in a crossing street.

    Args:
        builder: places them.
        lane_gap_m: mean gap between two vehicles of a lane.
    """
    rng = builder.rng
    ground = builder.ground
    for side in (RIGHT, LEFT):
        # The vehicle ahead in the sensor's own lane keeps a distance.
        first_gap_m = 6.0 if side == RIGHT else 2.0
        u = rng.exponential(lane_gap_m) + first_gap_m
        while u < FURTHEST_M:
            v = side * ground.half_width_m / 2 + rng.normal(0, 0.3)
            label = _draw_vehicle(rng)
            turn_rad = LANE_TURN_RAD[side] + rng.normal(0, 0.04)
            builder.place(label, u, v, turn_rad, moves=True)
            u += 7.0 + rng.exponential(lane_gap_m)
    if np.isfinite(ground.cross_u_m):
        for _ in range(rng.poisson(1.0)):
            direction = rng.choice([-1.0, 1.0])
            label = _draw_vehicle(rng)
            v = rng.uniform(-15, 15)
            u = ground.cross_u_m + direction * 1.8
            builder.place(label, u, v, direction * np.pi / 2, moves=True)


def _draw_vehicle(rng: np.random.Generator) -> str:
    return rng.choice(["Car", "Van", "Truck"], p=[0.88, 0.09, 0.03])


def parked_cars(builder: SceneBuilder, share: float, may_stand_crosswise: bool) -> None:
    """Parked cars along both kerbs, partly on the pavement.

    Args:
        builder: places them.
        share: probability that a parking place is taken.
        may_stand_crosswise: a row may also stand at right angles to the street.
    """
    rng = builder.rng
    ground = builder.ground
    for side in (LEFT, RIGHT):
        if rng.random() < 0.25:  # no parking on this side
            continue
        crosswise = may_stand_crosswise and rng.random() < 0.15
        from_kerb_m = 1.6 if crosswise else rng.uniform(-0.9, 0.4)
        row_v = side * (ground.half_width_m + from_kerb_m)
        step_m = 2.7 if crosswise else 6.0
        for place_u in np.arange(rng.uniform(2.0, 6.0), FURTHEST_M * 0.8, step_m):
            if rng.random() >= share or in_junction(ground, place_u, 3.0):
                continue
            turn_rad = _parked_turn_rad(rng, side, crosswise)
            label = "Van" if rng.random() < 0.1 else "Car"
            u = place_u + rng.normal(0, 0.3)
            v = row_v + rng.normal(0, 0.12)
            builder.place(label, u, v, turn_rad + rng.normal(0, 0.04))


def _parked_turn_rad(rng: np.random.Generator, side: float, crosswise: bool) -> float:
    """Yaw of a parked car. On the left kerb three in ten face the wrong way."""
    if crosswise:
        return side * np.pi / 2
    if side == RIGHT:
        return WITH_SENSOR
    return WITH_SENSOR if rng.random() < 0.3 else AGAINST_SENSOR


def cyclists(builder: SceneBuilder, count: int) -> None:
    """Cyclists near the kerb in either direction; some cross the street."""
    rng = builder.rng
    half_width = builder.ground.half_width_m
    for _ in range(count):
        side = rng.choice([RIGHT, LEFT])
        u = rng.uniform(5.0, 36.0)
        if rng.random() < 0.15:
            v = rng.uniform(-1, 1) * half_width
            turn_rad = side * np.pi / 2 + rng.normal(0, 0.3)
        else:
            v = side * (half_width - rng.uniform(-0.8, 1.8))
            turn_rad = LANE_TURN_RAD[side] + rng.normal(0, 0.12)
        builder.place("Cyclist", u, v, turn_rad, moves=True)


def pedestrians(builder: SceneBuilder, count: int) -> None:
    """People on the pavements, alone or in pairs; some cross the street, a few sit."""
    rng = builder.rng
    ground = builder.ground
    for _ in range(count):
        side = rng.choice([RIGHT, LEFT])
        u = rng.uniform(5.0, 34.0)
        turn_rad = rng.choice([0.0, np.pi]) + rng.normal(0, 0.25)
        v = side * (ground.half_width_m + rng.uniform(0.3, ground.pavement_m - 0.3))
        if rng.random() < 0.2:  # crosses the street
            v = rng.uniform(-1, 1) * ground.half_width_m
            turn_rad = side * np.pi / 2 + rng.normal(0, 0.4)
        label = "Person_sitting" if rng.random() < 0.04 else "Pedestrian"
        moves = label == "Pedestrian"
        if builder.place(label, u, v, turn_rad, moves=moves) and rng.random() < 0.25:
            companion_u = u + rng.normal(0, 0.15)
            companion_v = v - side * 0.75
            companion_turn_rad = turn_rad + rng.normal(0, 0.1)
            builder.place("Pedestrian", companion_u, companion_v, companion_turn_rad, moves=True)
