"""One scene: sweeps written while the vehicle drives, and the labels of its key frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..scenes.builder import PlacedObject
from ..sensors.raycast import Instances
from ..sensors.sensor_options import Sensor
from ..streams import Streams
from .actors import Actor, poses_at
from .street import StreetPlan, draw_street
from .turn import Turn, scan_turn

KEY_FRAME_S = 0.5  # nuScenes labels two frames a second
# Limits of nuScenes' four levels of visibility, as shares.
VISIBILITY_LIMITS = (0.4, 0.6, 0.8)


@dataclass(frozen=True)
class SweepTime:
    """When a sweep is recorded.

    Attributes:
        time_s: from the start of the scene.
        key_frame: number of the key frame that it is, or that comes next.
        is_key_frame: whether it is one.
    """

    time_s: float
    key_frame: int
    is_key_frame: bool


@dataclass(frozen=True)
class Sighting:
    """An object in a key frame.

    Attributes:
        actor: its number.
        key_frame: number of the key frame.
        pose: x, y, z of the bottom centre in the street, and yaw.
        num_points: returns of the LiDAR.
        visibility: 1 to 4, as in nuScenes' table.
    """

    actor: int
    key_frame: int
    pose: tuple[float, float, float, float]
    num_points: int
    visibility: int


@dataclass(frozen=True)
class Drive:
    """A scene whose sweeps are written.

    Attributes:
        plan: the street.
        sweeps: when they were recorded.
        ego_poses: x, y, z, yaw (S, 4) of the vehicle in the street at each sweep.
        sightings: labelled objects, by object and then by key frame.
    """

    plan: StreetPlan
    sweeps: list[SweepTime]
    ego_poses: np.ndarray
    sightings: list[Sighting]


def sweep_times(key_frames: int, sweeps: int, rate_hz: float) -> list[SweepTime]:
    """The sweeps of a scene: before each key frame ``sweeps`` - 1 others.

    In nuScenes nothing comes before the first key frame, so it shows no motion. That is one frame
    in forty there. Of short scenes it would be one in five, with velocities that nobody can learn.
    """
    times = []
    for key_frame in range(key_frames):
        for number in range(sweeps - 1, 0, -1):
            time_s = key_frame * KEY_FRAME_S - number / rate_hz
            times.append(SweepTime(time_s, key_frame, is_key_frame=False))
        times.append(SweepTime(key_frame * KEY_FRAME_S, key_frame, is_key_frame=True))
    return times


def simulate_drive(
    streams: Streams,
    sensor: Sensor,
    times: list[SweepTime],
    write: Callable[[int, np.ndarray], None],
) -> Drive:
    """Record a scene.

    Args:
        streams: random numbers of the scene.
        sensor: the LiDAR.
        times: of its sweeps.
        write: receives the number of each sweep and its points (N, 5).
    """
    plan = draw_street(streams, times[-1].time_s)
    ego = plan.ego.poses(np.array([sweep.time_s for sweep in times]))
    labelled = [Sightings(number) for number in range(len(plan.actors))]
    for number, sweep in enumerate(times):
        instances, poses = instances_at(plan, sweep.time_s)
        rng = streams.of("sweep", number)
        turn = scan_turn(plan.ground, instances, ego[number], sensor, rng)
        write(number, turn.points)
        if sweep.is_key_frame:
            for actor in labelled:
                actor.see(turn, poses, sweep.key_frame)
    heights = plan.ground.height(ego[:, 0], ego[:, 1])
    ego_poses = np.column_stack([ego[:, :2], heights, ego[:, 2]])
    sightings = []
    for actor in labelled:
        sightings += actor.kept()
    return Drive(plan, times, ego_poses, sightings)


def instances_at(plan: StreetPlan, time_s: float) -> tuple[Instances, np.ndarray]:
    """All objects at a time, labelled ones first, and the poses (N, 4) of the labelled ones."""
    actors = plan.actors
    furniture = plan.furniture
    actor_poses = poses_at(actors, plan.ground, time_s)
    fixed_poses = np.array([placed.pose for placed in furniture], dtype=float).reshape(-1, 4)
    everything: list[Actor | PlacedObject] = [*actors, *furniture]
    is_labelled = np.arange(len(everything)) < len(actors)
    instances = Instances(
        template=np.array([item.template for item in everything], dtype=np.int64),
        poses=np.concatenate([actor_poses, fixed_poses]),
        sizes_m=np.array([item.size_m for item in everything], dtype=float).reshape(-1, 3),
        shade=np.array([item.shade for item in everything], dtype=float),
        counted=is_labelled,
    )
    return instances, actor_poses


class Sightings:
    """The labels of one object.

    nuScenes' annotators follow an object from the first to the last key frame in which it is seen,
    also through frames in which nothing of it is.
    """

    def __init__(self, actor: int) -> None:
        self.actor = actor
        self.all: list[Sighting] = []

    def see(self, turn: Turn, poses: np.ndarray, key_frame: int) -> None:
        """Add the label of a key frame."""
        alone = turn.alone[self.actor]
        share = turn.visible[self.actor] / alone if alone else 0.0
        x, y, z, yaw = (float(value) for value in poses[self.actor])
        self.all.append(
            Sighting(
                actor=self.actor,
                key_frame=key_frame,
                pose=(x, y, z, yaw),
                num_points=int(turn.num_points[self.actor]),
                visibility=1 + int(np.searchsorted(VISIBILITY_LIMITS, share, side="right")),
            )
        )

    def kept(self) -> list[Sighting]:
        """From the first to the last label with a point; none for an object that is never seen."""
        seen = [number for number, sighting in enumerate(self.all) if sighting.num_points]
        return self.all[seen[0] : seen[-1] + 1] if seen else []
