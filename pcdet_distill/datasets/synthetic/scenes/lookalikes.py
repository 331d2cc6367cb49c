"""Unlabelled objects that look like a class: what a detector must learn not to report.

The kinds of a class are equally frequent. Each has a size that varies, and a place: on the
pavement, at the kerb, or in the row of parked cars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .builder import SceneBuilder, in_junction
from .options import LookalikeOptions

Size = tuple[float, float, float]
NEAREST_U_M = 5.0
# As far along the street as the class itself stands.
FURTHEST_U_M = {"people": 36.0, "cyclists": 38.0, "cars": 55.0}
SPREAD = 0.08  # of a size
TRIES = 4  # places that are tried before an object is left out


@dataclass(frozen=True)
class Lookalike:
    """A kind of unlabelled object.

    Attributes:
        name: of the template.
        from_kerb_m: range of the distance of its middle from the kerb; negative on the street.
        may_turn: whether it stands in any direction; else along the street.
    """

    name: str
    from_kerb_m: tuple[float, float] = (0.2, 2.4)
    may_turn: bool = True


AT_THE_KERB = (-0.7, 0.8)
IN_THE_ROW = (-0.9, 2.0)
LOOKALIKES: dict[str, tuple[Lookalike, ...]] = {
    "people": (
        Lookalike("mannequin"),
        Lookalike("cut_out"),
        Lookalike("post"),
        Lookalike("meter"),
        Lookalike("low_sign"),
        Lookalike("column_bush"),
        Lookalike("wheeled_bin"),
    ),
    "cyclists": (
        Lookalike("motorcycle", AT_THE_KERB),
        Lookalike("scooter", AT_THE_KERB),
        Lookalike("bicycle_rack", AT_THE_KERB),
        Lookalike("covered_motorcycle", AT_THE_KERB),
        Lookalike("notice_board", (0.3, 1.5), may_turn=False),
    ),
    "cars": (
        Lookalike("covered_car", IN_THE_ROW, may_turn=False),
        Lookalike("trailer", IN_THE_ROW, may_turn=False),
        Lookalike("skip", IN_THE_ROW, may_turn=False),
        Lookalike("box_hedge", (1.0, 3.5), may_turn=False),
        Lookalike("stall", (0.8, 3.0), may_turn=False),
        Lookalike("wreck", IN_THE_ROW, may_turn=False),
    ),
}


def add_lookalikes(builder: SceneBuilder, options: LookalikeOptions) -> None:
    """Put look-alikes where no road user stands; ``builder.rng`` is its own."""
    rng = builder.rng
    for group, kinds in LOOKALIKES.items():
        for _ in range(rng.poisson(getattr(options, group))):
            kind = kinds[rng.integers(len(kinds))]
            for _ in range(TRIES):
                u = rng.uniform(NEAREST_U_M, FURTHEST_U_M[group])
                if _place(builder, kind, u):
                    break


def _place(builder: SceneBuilder, kind: Lookalike, u: float) -> bool:
    """Put one at a distance ``u`` along the street, if there is room."""
    rng = builder.rng
    side = rng.choice([-1.0, 1.0])
    v = side * (builder.ground.half_width_m + rng.uniform(*kind.from_kerb_m))
    turn_rad = rng.uniform(-np.pi, np.pi) if kind.may_turn else rng.normal(0.0, 0.06)
    template = builder.library.index[kind.name]
    length, width, height = builder.library.shapes.sizes_m[template] * rng.normal(1.0, SPREAD, 3)
    size_m: Size = (length, width, height)
    if in_junction(builder.ground, u, length / 2):
        return False
    if not builder.is_free(u, v, turn_rad, size_m):
        return False
    builder.furnish(kind.name, u, v, size_m, turn_rad, blocked_radius_m=width / 2)
    return True
