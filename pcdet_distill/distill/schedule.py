"""Weights that change while a training goes on: WEIGHT as a number, or as a block.

    WEIGHT: {START: 1.0, END: 0.0, SCHEDULE: cosine, UNTIL: 0.5}

``constant`` stays at START; ``linear`` and ``cosine`` go from START to END, which is reached when the share UNTIL of
the training is done (1.0 where nothing is said). A weight is a function of progress alone, so a resumed training goes
on exactly. While a weight is 0 its term is not computed, and when no term is left the teacher does not run: a weight
that has faded costs nothing more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import cos, pi
from typing import Any

from ..config import nearest, refuse_unknown_keys
from ..errors import ConfigError

SHAPES = ("constant", "linear", "cosine")
KEYS = ("START", "END", "SCHEDULE", "UNTIL")


@dataclasses.dataclass(frozen=True)
class WeightSchedule:
    """A weight over the progress 0..1 of a training."""

    start: float
    end: float
    shape: str = "constant"
    until: float = 1.0

    @classmethod
    def from_config(cls, value: Any, where: str) -> WeightSchedule:
        """From a number or a block; ``where`` is its key path."""
        if not isinstance(value, Mapping):
            weight = _number(value, where)
            return cls(weight, weight)
        refuse_unknown_keys(value, KEYS, where)
        shape = str(value.get("SCHEDULE", "linear"))
        if shape not in SHAPES:
            raise ConfigError(f"{where}.SCHEDULE: unknown value '{shape}'{nearest(shape, SHAPES)}")
        if shape == "constant":
            return cls._constant(value, where)
        for key in ("START", "END"):
            if key not in value:
                raise ConfigError(
                    f"{where}.{key} is missing; SCHEDULE: {shape} goes from START to END"
                )
        until = _number(value.get("UNTIL", 1.0), f"{where}.UNTIL")
        if not 0 < until <= 1:
            raise ConfigError(
                f"{where}.UNTIL: expected a share of the training above 0 and up to 1, found {until:g}"
            )
        return cls(
            _number(value["START"], f"{where}.START"),
            _number(value["END"], f"{where}.END"),
            shape,
            until,
        )

    @classmethod
    def _constant(cls, value: Mapping[str, Any], where: str) -> WeightSchedule:
        for key in ("END", "UNTIL"):
            if key in value:
                raise ConfigError(
                    f"{where}.{key}: has no effect with SCHEDULE: constant; remove it"
                )
        if "START" not in value:
            raise ConfigError(f"{where}.START is missing")
        start = _number(value["START"], f"{where}.START")
        return cls(start, start)

    @property
    def changes(self) -> bool:
        """Whether the weight is not the same all the time."""
        return self.start != self.end

    def at(self, progress: float) -> float:
        """The weight when the share ``progress`` of the training is done."""
        done = min(max(progress / self.until, 0.0), 1.0)
        if self.shape == "cosine":
            done = (1 - cos(pi * done)) / 2
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.start:g}"
        until = "" if self.until == 1 else f" until {self.until:.0%} of the training"
        return f"{self.start:g} to {self.end:g} ({self.shape}{until})"


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigError(f"{where}: expected a number from 0 up, found {value!r}")
    return float(value)
