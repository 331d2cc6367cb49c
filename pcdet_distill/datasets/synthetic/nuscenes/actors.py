"""Labelled objects and the recording vehicle, with their places over the time of a scene.

Coordinates are those of the street: x along it, y to the left of its middle, z up from the street
at the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..scenes.ground import Ground
from .kinds import KINDS, Size

EGO_SIZE_M: Size = (4.7, 1.9, 1.6)
CLEARANCE_M = 0.1
CIRCLES_PER_SQUARE = 2  # more of them reach less far beyond the sides of a long box
CHECK_STEP_S = 0.5  # places are compared at these steps


@dataclass(frozen=True)
class Actor:
    """A labelled object that stands, or goes straight along its yaw at constant speed.

    Attributes:
        kind: key of KINDS.
        template: row in the library.
        size_m: length, width, height.
        shade: factor on every albedo.
        x_m: place at the start of the scene.
        y_m: likewise.
        yaw_rad: direction.
        speed_m_s: along the yaw.
        attribute: nuScenes' attribute; empty for a kind without.
    """

    kind: str
    template: int
    size_m: Size
    shade: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_m_s: float
    attribute: str

    @property
    def category(self) -> str:
        """nuScenes' category."""
        return KINDS[self.kind].category

    def places(self, times_s: np.ndarray) -> np.ndarray:
        """x, y (T, 2) at some times."""
        way = self.speed_m_s * np.asarray(times_s, dtype=float)
        return np.stack(
            [self.x_m + way * np.cos(self.yaw_rad), self.y_m + way * np.sin(self.yaw_rad)], axis=-1
        )


@dataclass(frozen=True)
class EgoDrive:
    """The recording vehicle: at constant speed along its lane, weaving a little.

    Attributes:
        speed_m_s: along the street.
        lane_y_m: middle of its lane.
        weave_m: how far it strays from there.
        weave_rad_s: angular frequency of the straying.
        phase_rad: of the straying at the start.
    """

    speed_m_s: float
    lane_y_m: float
    weave_m: float = 0.0
    weave_rad_s: float = 0.7
    phase_rad: float = 0.0

    def poses(self, times_s: np.ndarray) -> np.ndarray:
        """x, y and yaw (T, 3) at some times."""
        times = np.asarray(times_s, dtype=float)
        if self.speed_m_s == 0.0:
            still = np.zeros_like(times)
            return np.stack([still, still + self.lane_y_m, still], axis=-1)
        angle = self.weave_rad_s * times + self.phase_rad
        x = self.speed_m_s * times
        y = self.lane_y_m + self.weave_m * np.sin(angle)
        sideways = self.weave_m * self.weave_rad_s * np.cos(angle)
        return np.stack([x, y, np.arctan2(sideways, self.speed_m_s)], axis=-1)


def footprint(places: np.ndarray, yaws_rad: np.ndarray, size_m: Size) -> tuple[np.ndarray, float]:
    """A box on its way as a row of K circles: their centres (T, K, 2), and their radius."""
    length, width, _ = size_m
    if width > length:  # a barrier is wider than long
        length, width = width, length
        yaws_rad = yaws_rad + np.pi / 2
    count = max(1, round(CIRCLES_PER_SQUARE * length / max(width, 0.6)))
    radius = float(np.hypot(length / count, width)) / 2 + CLEARANCE_M / 2
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    direction = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=-1)
    return places[:, None] + along[None, :, None] * direction[:, None], radius


@dataclass
class Occupied:
    """Where something stands or goes during a scene.

    Attributes:
        times_s: (T,) at which places are compared.
    """

    times_s: np.ndarray
    _centres: list[np.ndarray] = field(default_factory=list)
    _radii: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def during(cls, seconds: float) -> Occupied:
        """An empty street for a scene of some seconds."""
        return cls(np.arange(0.0, seconds + CHECK_STEP_S, CHECK_STEP_S))

    def add(self, centres: np.ndarray, radius: float) -> None:
        """Take the circles (T, K, 2)."""
        self._centres.append(centres)
        self._radii.append(np.full(centres.shape[1], radius))

    def is_free(self, centres: np.ndarray, radius: float) -> bool:
        """Whether circles (T, K, 2) meet nothing at any time."""
        if not self._centres:
            return True
        others = np.concatenate(self._centres, axis=1)
        radii = np.concatenate(self._radii)
        for column in range(centres.shape[1]):
            distance = np.linalg.norm(others - centres[:, column : column + 1], axis=-1)
            if np.any(distance < radii + radius):
                return False
        return True


def poses_at(actors: Sequence[Actor], ground: Ground, time_s: float) -> np.ndarray:
    """x, y, z of the bottom centre, and yaw (N, 4) of all actors."""
    poses = np.zeros((len(actors), 4))
    for row, actor in enumerate(actors):
        poses[row, :2] = actor.places(np.array([time_s]))[0]
        poses[row, 3] = actor.yaw_rad
    poses[:, 2] = ground.height(poses[:, 0], poses[:, 1])
    return poses
