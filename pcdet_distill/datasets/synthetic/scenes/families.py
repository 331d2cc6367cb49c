"""Gives road users of a finished scene another shape of their class, at the same place."""

from __future__ import annotations

import numpy as np

from ..templates.library import ROAD_USERS
from ..templates.more_road_users import FAMILIES, Family
from .builder import SceneBuilder
from .options import ShapeOptions

FREE_LENGTH = "Pedestrian"  # its length follows from the stride of the template


def reshape(builder: SceneBuilder, options: ShapeOptions, for_evaluation: bool) -> None:
    """Give some road users another shape of their class; ``builder.rng`` is its own.

    Args:
        builder: holds the road users.
        options: which shapes, and how many of those that training frames lack.
        for_evaluation: whether the frame is of val or holdout.
    """
    rng = builder.rng
    kept_share = options.kept_share if for_evaluation else 0.0
    for number, placed in enumerate(builder.objects):
        choices = [family for family in FAMILIES if family.label == placed.label]
        if not choices:
            continue
        # Always the same number of draws, so that an option leaves the other objects alone.
        chance, basic_chance, choice = rng.random(3)
        stretch = rng.uniform(0.92, 1.08)
        is_kept = chance < kept_share
        if not is_kept and not _takes_further(options, choices, basic_chance):
            continue
        suitable = [family for family in choices if family.is_kept == is_kept]
        family = suitable[int(choice * len(suitable))]
        template = builder.library.index[family.name]
        size_m = np.array(placed.size_m) * family.size_factor
        if family.label == FREE_LENGTH:
            own_length_m = builder.library.shapes.sizes_m[template, 0]
            size_m[0] = own_length_m * family.size_factor[0] * stretch
        builder.objects[number] = placed.with_shape(template, size_m)


def _takes_further(options: ShapeOptions, choices: list[Family], chance: float) -> bool:
    """Whether a road user leaves the basic shapes: all shapes of a class are equally frequent."""
    if options.families == "basic":
        return False
    num_basic = len(ROAD_USERS[choices[0].label].templates)
    num_further = sum(not family.is_kept for family in choices)
    return chance < num_further / (num_basic + num_further)
