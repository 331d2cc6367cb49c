"""Black and polished vehicles, which send few pulses back."""

from __future__ import annotations

import numpy as np

from ..sensors.lidar import Sweep
from ..sensors.weather import kept_points
from ..streams import Streams
from .builder import VEHICLES, SceneBuilder
from .options import SurfaceOptions

BLACK_SHADE = (0.03, 0.10)  # range of the factor on every albedo
POLISHED_LOSS = (0.5, 0.9)  # range of the share of pulses that are mirrored away


def paint_black(builder: SceneBuilder, share: float) -> None:
    """Give some vehicles a paint that sends nearly nothing back; ``builder.rng`` is its own."""
    rng = builder.rng
    for number, placed in enumerate(builder.objects):
        if placed.label not in VEHICLES:
            continue
        is_black = rng.random() < share
        shade = float(rng.uniform(*BLACK_SHADE))
        if is_black:
            builder.objects[number] = placed.with_shade(shade)


def polish(
    sweep: Sweep, labels: list[str | None], options: SurfaceOptions, streams: Streams
) -> Sweep:
    """Take away the pulses that polished vehicles mirror away."""
    if options.polished_cars == 0.0:
        return sweep
    rng = streams.of("polish")
    loss = np.zeros(len(labels))
    for number, label in enumerate(labels):
        is_polished = rng.random() < options.polished_cars
        share = rng.uniform(*POLISHED_LOSS)
        if label in VEHICLES and is_polished:
            loss[number] = share
    # Points of no object have a negative owner.
    is_of_object = sweep.owner >= 0
    loss_of_point = np.where(is_of_object, loss[np.maximum(sweep.owner, 0)], 0.0)
    return kept_points(sweep, rng.random(len(loss_of_point)) >= loss_of_point)
