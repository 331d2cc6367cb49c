"""Styles of street, and the numbers behind them: those of training, and others for evaluation.

The other styles are wider or narrower, busier or emptier than every style of training, and have
another border. So a detector is evaluated on streets that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import roadside

BORDERS = {
    "houses": roadside.houses,
    "gardens": roadside.gardens,
    "fields": roadside.fields,
    "trees": roadside.tree_rows,
    "halls": roadside.halls,
}


@dataclass(frozen=True)
class Style:
    """A style of street.

    Attributes:
        share: of the scenes.
        half_width_m: range of half the width of the street.
        pavement_m: range of the width of a pavement.
        parked: probability that a parking place is taken.
        lane_gap_m: mean gap between moving vehicles.
        pedestrians: mean number of them.
        cyclists: mean number of them.
        border: what stands beside the street, a key of BORDERS.
        junction: probability of a crossing street.
    """

    share: float
    half_width_m: tuple[float, float]
    pavement_m: tuple[float, float]
    parked: float
    lane_gap_m: float
    pedestrians: float
    cyclists: float
    border: str
    junction: float


NARROW_STREET = Style(
    share=0.42,
    half_width_m=(2.7, 4.2),
    pavement_m=(0.7, 1.8),
    parked=0.50,
    lane_gap_m=34.0,
    pedestrians=3.8,
    cyclists=3.2,
    border="houses",
    junction=0.36,
)
RESIDENTIAL_STREET = Style(
    share=0.30,
    half_width_m=(3.3, 5.0),
    pavement_m=(1.2, 2.2),
    parked=0.50,
    lane_gap_m=30.0,
    pedestrians=3.6,
    cyclists=3.2,
    border="gardens",
    junction=0.25,
)
OPEN_ROAD = Style(
    share=0.28,
    half_width_m=(5.0, 8.0),
    pavement_m=(1.0, 2.5),
    parked=0.06,
    lane_gap_m=24.0,
    pedestrians=2.4,
    cyclists=2.8,
    border="fields",
    junction=0.0,
)
STYLES = (NARROW_STREET, RESIDENTIAL_STREET, OPEN_ROAD)

OLD_TOWN_LANE = Style(
    share=0.40,
    half_width_m=(2.2, 2.8),
    pavement_m=(1.8, 3.2),
    parked=0.30,
    lane_gap_m=45.0,
    pedestrians=5.0,
    cyclists=3.4,
    border="houses",
    junction=0.50,
)
AVENUE = Style(
    share=0.35,
    half_width_m=(5.0, 6.8),
    pavement_m=(2.4, 4.0),
    parked=0.62,
    lane_gap_m=26.0,
    pedestrians=3.8,
    cyclists=3.2,
    border="trees",
    junction=0.30,
)
BUSINESS_PARK = Style(
    share=0.25,
    half_width_m=(3.6, 5.2),
    pavement_m=(2.4, 3.5),
    parked=0.25,
    lane_gap_m=36.0,
    pedestrians=3.0,
    cyclists=3.4,
    border="halls",
    junction=0.15,
)
OTHER_STYLES = (OLD_TOWN_LANE, AVENUE, BUSINESS_PARK)
