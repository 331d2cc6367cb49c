"""A random straight street for one scene: its borders, traffic, road works and people.

All vehicles of a lane drive at one speed, so none runs into another. Everything else is placed
where nothing stands or passes during the scene.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..scenes.builder import FURTHEST_M, PAINT_SHADES, PlacedObject, SceneBuilder
from ..scenes.ground import Ground
from ..scenes.roadside import LEFT, RIGHT, street_furniture
from ..scenes.styles import BORDERS
from ..streams import Streams
from ..templates.library import Library, library
from .actors import EGO_SIZE_M, Actor, EgoDrive, Occupied, footprint
from .kinds import KINDS

SEEN_M = 65.0  # the street goes on so far beyond both ends of the drive
STANDING_SHARE = 0.12  # of the scenes: the vehicle waits, with its lane
SPEEDS_M_S = (3.0, 12.0)
# Kinds in the lanes, and in the rows of parked vehicles.
LANE_KINDS = {
    "car": 0.60,
    "van": 0.06,
    "pickup": 0.05,
    "truck": 0.09,
    "bus": 0.09,
    "motorcyclist": 0.11,
}
PARKED_KINDS = {"car": 0.82, "van": 0.09, "pickup": 0.09}
LARGE_PARKED_KINDS = {"truck": 0.3, "trailer": 0.4, "bus": 0.15, "excavator": 0.15}
LARGE_GAP_M = 70.0  # mean distance of large parked vehicles
TRAILER_SHARE = 0.45  # of the trucks in a lane
BORDER_NAMES = ("houses", "gardens", "fields", "trees", "halls")
SITES = 1.0  # mean number of road works for each 100 m
PEOPLE = 12.0  # mean numbers for each 100 m
CYCLISTS = 2.2
PARKED_TWO_WHEELERS = 4.0
RACKS = 0.6
TRIES = 4
TRUNK_M = 0.5


@dataclass
class StreetPlan:
    """A street that is being filled.

    Attributes:
        ground: in street coordinates.
        ego: the recording vehicle.
        seconds: duration of the scene.
        rng: draws everything.
        library: the shapes.
        furniture: unlabelled objects, in street coordinates.
        actors: labelled objects.
        occupied: where both are.
    """

    ground: Ground
    ego: EgoDrive
    seconds: float
    rng: np.random.Generator
    library: Library = field(default_factory=library)
    furniture: list[PlacedObject] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    occupied: Occupied = field(init=False)

    def __post_init__(self) -> None:
        self.occupied = Occupied.during(self.seconds)
        poses = self.ego.poses(self.occupied.times_s)
        self.occupied.add(*footprint(poses[:, :2], poses[:, 2], EGO_SIZE_M))

    @property
    def span_m(self) -> tuple[float, float]:
        """Both ends of the street along x."""
        return -SEEN_M, self.ego.speed_m_s * self.seconds + SEEN_M

    @property
    def hundreds(self) -> float:
        """Length of the street in units of 100 m, for mean numbers."""
        start, end = self.span_m
        return (end - start) / 100.0

    def place(
        self,
        kind: str,
        x_m: float,
        y_m: float,
        yaw_rad: float,
        *,
        speed_m_s: float = 0.0,
        standing: str | None = None,
    ) -> Actor | None:
        """Put an object there unless it would ever meet another one.

        Args:
            kind: key of KINDS.
            x_m: along the street.
            y_m: to the left.
            yaw_rad: direction; 0 is that of the recording vehicle.
            speed_m_s: along the yaw.
            standing: attribute of one that stands, in place of that of the kind.
        """
        rng = self.rng
        template, size_m = KINDS[kind].draw(self.library, rng)
        is_vehicle = KINDS[kind].category.startswith("vehicle")
        shade = float(rng.choice(PAINT_SHADES) if is_vehicle else rng.uniform(0.5, 1.3))
        attribute = KINDS[kind].moving if speed_m_s > 0 else standing or KINDS[kind].standing
        actor = Actor(
            kind=kind,
            template=template,
            size_m=size_m,
            shade=shade,
            x_m=float(x_m),
            y_m=float(y_m),
            yaw_rad=float(yaw_rad),
            speed_m_s=float(speed_m_s),
            attribute=attribute,
        )
        times = self.occupied.times_s
        circles = footprint(actor.places(times), np.full(len(times), actor.yaw_rad), size_m)
        if not self.occupied.is_free(*circles):
            return None
        self.occupied.add(*circles)
        self.actors.append(actor)
        return actor

    def draw_x(self) -> float:
        """A place along the street."""
        return float(self.rng.uniform(*self.span_m))


def draw_street(streams: Streams, seconds: float) -> StreetPlan:
    """A random street for a scene of ``seconds``."""
    rng = streams.of("street")
    half_width = rng.uniform(4.4, 6.5)
    bend = rng.normal(0.0, 2e-5)
    ground = Ground(
        sensor_height_m=0.0,
        slope=(rng.normal(0.0, 0.006), rng.normal(0.0, 0.008)),
        bend_per_m=(bend, bend),
        half_width_m=half_width,
        pavement_m=rng.uniform(1.8, 3.2),
        kerb_m=rng.uniform(0.06, 0.15),
    )
    is_standing = rng.random() < STANDING_SHARE
    ego = EgoDrive(
        speed_m_s=0.0 if is_standing else float(rng.uniform(*SPEEDS_M_S)),
        lane_y_m=-half_width / 2,
        weave_m=float(rng.uniform(0.0, 0.4)),
        weave_rad_s=float(rng.uniform(0.4, 0.9)),
        phase_rad=float(rng.uniform(0.0, 2 * np.pi)),
    )
    plan = StreetPlan(ground, ego, seconds, rng)
    _furnish(plan)
    _fill_lanes(plan)
    _road_works(plan)
    _park_vehicles(plan, share=rng.uniform(0.1, 0.6))
    _park_two_wheelers(plan)
    _cyclists(plan)
    _people(plan)
    return plan


def _furnish(plan: StreetPlan) -> None:
    """Houses, gardens, trees and street furniture, piece by piece along the street."""
    border = BORDERS[str(plan.rng.choice(BORDER_NAMES))]
    start, end = plan.span_m
    for x in np.arange(start, end, FURTHEST_M):
        piece = SceneBuilder(plan.ground.seen_from(np.array([x, 0.0, 0.0])), plan.rng)
        border(piece)
        street_furniture(piece)
        for placed in piece.objects:
            _take_over(plan, placed, float(x))


def _take_over(plan: StreetPlan, placed: PlacedObject, shift_m: float) -> None:
    """Move an object of a piece into the street; bicycles without riders are labelled later."""
    if placed.template == plan.library.index["bicycle"]:
        return
    x, y, z, yaw = placed.pose
    moved = PlacedObject(
        placed.template, (x + shift_m, y, z, yaw), placed.size_m, placed.shade, label=None
    )
    plan.furniture.append(moved)
    length, width = (float(value) for value in placed.size_m[:2])
    if placed.template == plan.library.index["tree"]:  # one may stand below the leaves
        length, width = TRUNK_M, TRUNK_M
    if max(length, width) < 1.0:  # road users stay clear of posts, signs and bins
        times = plan.occupied.times_s
        place = np.tile([[moved.pose[0], y]], (len(times), 1))
        plan.occupied.add(*footprint(place, np.full(len(times), yaw), (length, width, 1.0)))


def _fill_lanes(plan: StreetPlan) -> None:
    """Vehicles in both lanes: those of a lane have one speed."""
    rng = plan.rng
    gap_m = rng.uniform(12.0, 35.0)
    _fill_lane(plan, RIGHT, plan.ego.speed_m_s, gap_m)
    _fill_lane(plan, LEFT, float(rng.uniform(*SPEEDS_M_S)), gap_m)


def _fill_lane(plan: StreetPlan, side: float, speed_m_s: float, gap_m: float) -> None:
    rng = plan.rng
    start, end = plan.span_m
    yaw = 0.0 if side == RIGHT else np.pi
    reach = speed_m_s * plan.seconds
    # Vehicles come from beyond the ends of the street during the scene.
    x = start - reach + rng.exponential(gap_m)
    while x < end + reach:
        kind = _draw(LANE_KINDS, rng)
        y = side * plan.ground.half_width_m / 2 + rng.normal(0.0, 0.2)
        turn = yaw + rng.normal(0.0, 0.004)
        placed = plan.place(kind, x, y, turn, speed_m_s=speed_m_s, standing="vehicle.stopped")
        if placed is not None and kind == "truck" and rng.random() < TRAILER_SHARE:
            _add_trailer(plan, placed)
        x += 9.0 + rng.exponential(gap_m)


def _add_trailer(plan: StreetPlan, truck: Actor) -> None:
    """A trailer behind a truck."""
    mean_length = KINDS["trailer"].mean_m[0]
    behind_m = truck.size_m[0] / 2 + mean_length / 2 + 1.6
    plan.place(
        "trailer",
        truck.x_m - behind_m * np.cos(truck.yaw_rad),
        truck.y_m - behind_m * np.sin(truck.yaw_rad),
        truck.yaw_rad,
        speed_m_s=truck.speed_m_s,
        standing="vehicle.stopped",
    )


def _park_vehicles(plan: StreetPlan, share: float) -> None:
    """Parked vehicles along both kerbs, partly on the pavement; large ones take their place first.

    Args:
        plan: receives them.
        share: probability that a parking place is taken.
    """
    rng = plan.rng
    start, end = plan.span_m
    for side in (RIGHT, LEFT):
        row_y = side * (plan.ground.half_width_m + rng.uniform(-0.6, 0.9))
        x = start + rng.exponential(LARGE_GAP_M)
        while x < end:
            _park(plan, LARGE_PARKED_KINDS, x, row_y + side * 0.8, side)
            x += 14.0 + rng.exponential(LARGE_GAP_M)
        for x in np.arange(start + rng.uniform(0.0, 6.0), end, 6.5):
            if rng.random() < share:
                _park(plan, PARKED_KINDS, x + rng.normal(0.0, 0.3), row_y, side)


def _park(plan: StreetPlan, kinds: dict[str, float], x: float, y: float, side: float) -> None:
    """One parked vehicle. On the left three in ten face the wrong way."""
    rng = plan.rng
    faces_wrong_way = side == LEFT and rng.random() < 0.3
    along = np.pi if side == LEFT and not faces_wrong_way else 0.0
    plan.place(_draw(kinds, rng), x, y + rng.normal(0.0, 0.1), along + rng.normal(0.0, 0.04))


def _road_works(plan: StreetPlan) -> None:
    """Sites at the kerb: a row of barriers, cones before and behind it, often an excavator."""
    rng = plan.rng
    for _ in range(max(1, rng.poisson(SITES * plan.hundreds))):
        side = float(rng.choice([LEFT, RIGHT]))
        x = plan.draw_x()
        y = side * (plan.ground.half_width_m - rng.uniform(0.1, 0.7))
        count = int(rng.integers(2, 6))
        for number in range(count):
            # Its long side, the width, lies along the street.
            yaw = np.pi / 2 + rng.normal(0.0, 0.05)
            plan.place("barrier", x + 2.75 * number, y, yaw)
        for number in range(int(rng.integers(2, 6))):
            end = x - 3.0 if number % 2 else x + 2.75 * count + 1.0
            plan.place("cone", end + rng.normal(0.0, 1.2), y + rng.normal(0.0, 0.4), 0.0)
        if rng.random() < 0.8:
            _add_excavator(plan, x + 1.4 * count, y, side)


def _add_excavator(plan: StreetPlan, x: float, y: float, side: float) -> None:
    """An excavator behind the barriers of a site, where there is room."""
    rng = plan.rng
    for _ in range(TRIES):
        yaw = rng.normal(0.0, 0.3) + float(rng.choice([0.0, np.pi]))
        behind = rng.uniform(2.8, 4.5)
        if plan.place("excavator", x + rng.normal(0.0, 3.0), y + side * behind, yaw):
            return


def _park_two_wheelers(plan: StreetPlan) -> None:
    """Bicycles and motorcycles without riders on the pavements, and bicycle racks."""
    rng = plan.rng
    counts = {"bicycle": PARKED_TWO_WHEELERS, "motorcycle": PARKED_TWO_WHEELERS, "rack": RACKS}
    for kind, mean in counts.items():
        for _ in range(rng.poisson(mean * plan.hundreds)):
            y, _ = _pavement(plan)
            turn = rng.uniform(-np.pi, np.pi) if kind != "rack" else rng.normal(0.0, 0.1)
            plan.place(kind, plan.draw_x(), y, turn)


def _cyclists(plan: StreetPlan) -> None:
    """Riders near the kerb, in the direction of their lane."""
    rng = plan.rng
    for _ in range(rng.poisson(CYCLISTS * plan.hundreds)):
        side = float(rng.choice([LEFT, RIGHT]))
        y = side * (plan.ground.half_width_m - rng.uniform(0.4, 1.0))
        yaw = (0.0 if side == RIGHT else np.pi) + rng.normal(0.0, 0.02)
        speed = float(np.clip(rng.normal(4.5, 1.2), 1.5, 9.0))
        for _ in range(TRIES):
            if plan.place("cyclist", plan.draw_x(), y, yaw, speed_m_s=speed):
                break


def _people(plan: StreetPlan) -> None:
    """People on the pavements, alone or in groups, and some who cross the street."""
    rng = plan.rng
    for _ in range(rng.poisson(PEOPLE * plan.hundreds)):
        x = plan.draw_x()
        y, side = _pavement(plan)
        speed = 0.0 if rng.random() < 0.3 else float(np.clip(rng.normal(1.3, 0.3), 0.4, 2.5))
        yaw = float(rng.choice([0.0, np.pi])) + rng.normal(0.0, 0.03)
        if rng.random() < 0.2:  # crosses the street
            speed = max(speed, 1.0)
            yaw = -side * np.pi / 2 + rng.normal(0.0, 0.1)
        kind = "child" if rng.random() < 0.1 else "pedestrian"
        if rng.random() < 0.05:
            plan.place("sitting", x, y, rng.uniform(-np.pi, np.pi))
            continue
        if plan.place(kind, x, y, yaw, speed_m_s=speed) is None:
            continue
        for number in range(int(rng.choice([0, 0, 0, 1, 2]))):
            plan.place("pedestrian", x - 0.9 * (number + 1), y, yaw, speed_m_s=speed)


def _pavement(plan: StreetPlan) -> tuple[float, float]:
    """A place across the street on one of its pavements, and the side."""
    side = float(plan.rng.choice([LEFT, RIGHT]))
    from_kerb = plan.rng.uniform(0.4, plan.ground.pavement_m)
    return side * (plan.ground.half_width_m + from_kerb), side


def _draw(shares: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))
