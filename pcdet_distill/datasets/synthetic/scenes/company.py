"""Who stands beside whom: groups of people, parked bicycles, vans and trucks beside cars.

Objects are added to a finished easy scene, where there is room.
"""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .options import TrafficOptions

# Labelled objects a frame: KITTI's training set, and easy scenes.
KITTI_PER_FRAME = {
    "Car": 3.84,
    "Van": 0.39,
    "Truck": 0.15,
    "Pedestrian": 0.60,
    "Person_sitting": 0.03,
    "Cyclist": 0.22,
}
EASY_PER_FRAME = {
    "Car": 4.52,
    "Van": 0.49,
    "Truck": 0.11,
    "Pedestrian": 1.86,
    "Person_sitting": 0.08,
    "Cyclist": 1.83,
}
MOST_COMPANIONS = 4
TRUCK_SHARE = 0.35
# Half a car, half of the larger vehicle, and a gap.
GAP_TO_CAR_M = {"Van": (5.2, 6.5), "Truck": (7.8, 9.5)}
BICYCLE_TURN_RAD = 0.5


def add_groups(builder: SceneBuilder, chance: float) -> None:
    """People who walk close to a pedestrian, in the same direction."""
    rng = builder.rng
    for u, v, turn_rad in builder.places_of("Pedestrian"):
        if rng.random() >= chance:
            continue
        for _ in range(rng.integers(1, MOST_COMPANIONS + 1)):
            along_m, across_m = rng.normal(0.0, [0.6, 0.7])
            companion_turn = turn_rad + rng.normal(0.0, 0.3)
            builder.place("Pedestrian", u + along_m, v + across_m, companion_turn)


def add_parked_bicycles(builder: SceneBuilder, mean_count: float) -> None:
    """Bicycles without riders near each cyclist."""
    rng = builder.rng
    template = builder.library.index["bicycle"]
    length, width, height = map(float, builder.library.shapes.sizes_m[template])
    size_m = (length, width, height)
    for u, v, turn_rad in builder.places_of("Cyclist"):
        for _ in range(rng.poisson(mean_count)):
            bicycle_u = u + rng.normal(0.0, 2.0)
            bicycle_v = v + rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 2.0)
            turn = turn_rad + rng.normal(0.0, BICYCLE_TURN_RAD)
            if builder.is_free(bicycle_u, bicycle_v, turn, size_m):
                builder.furnish("bicycle", bicycle_u, bicycle_v, turn_rad=turn)


def add_large_neighbours(builder: SceneBuilder, chance: float) -> None:
    """A van or a truck in the row of a car, before or behind it."""
    rng = builder.rng
    for u, v, turn_rad in builder.places_of("Car"):
        if rng.random() >= chance:
            continue
        label = "Truck" if rng.random() < TRUCK_SHARE else "Van"
        gap_m = rng.uniform(*GAP_TO_CAR_M[label]) * rng.choice([-1.0, 1.0])
        neighbour_u = u + gap_m * np.cos(turn_rad)
        neighbour_v = v + gap_m * np.sin(turn_rad)
        builder.place(label, neighbour_u, neighbour_v, turn_rad + rng.normal(0.0, 0.03))


def thin_out(builder: SceneBuilder, options: TrafficOptions) -> None:
    """Remove objects until each class is as frequent as the options say."""
    rng = builder.rng
    share = shares_that_stay(options)
    kept = []
    for placed in builder.objects:
        chance = rng.random()
        if placed.label is None or chance < share.get(placed.label, 1.0):
            kept.append(placed)
    builder.objects[:] = kept


def shares_that_stay(options: TrafficOptions) -> dict[str, float]:
    """The share of the objects of a class that stay in the scene."""
    share = {}
    if options.frequencies == "kitti":
        share = {name: KITTI_PER_FRAME[name] / EASY_PER_FRAME[name] for name in KITTI_PER_FRAME}
    share["Pedestrian"] = share.get("Pedestrian", 1.0) * options.pedestrians
    share["Cyclist"] = share.get("Cyclist", 1.0) * options.cyclists
    return share
