"""WEIGHT of a term: a number, or a block whose value changes during the training.

    WEIGHT: {START: 1.0, END: 0.0, SCHEDULE: cosine, UNTIL: 0.5}

A weight depends on the progress of the training alone, so that a resumed training continues with
the same weights. A term is not computed while its weight is 0, and the teacher does not run while
all weights are: a weight that has reached 0 costs no more time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import cos, pi

from ..config import WeightOptions, read_options
from ..errors import ConfigError
from ..types import ConfigDict


@dataclasses.dataclass(frozen=True)
class WeightSchedule:
    """A weight over the progress of a training, which goes from 0 to 1.

    Attributes:
        start: weight at progress 0.
        end: weight from progress ``until`` on.
        shape: ``constant``, ``linear`` or ``cosine``.
        until: progress at which ``end`` is reached.
    """

    start: float
    end: float
    shape: str = "constant"
    until: float = 1.0

    @classmethod
    def from_config(cls, value: object, where: str) -> WeightSchedule:
        """From a number or a block; ``where`` is its key path."""
        if not isinstance(value, Mapping):
            weight = _number(value, where)
            return cls(weight, weight)
        options = read_options(WeightOptions, value, where)
        if options.start is None:
            raise ConfigError(f"{where}.START is missing")
        if options.schedule == "constant":
            _refuse_keys_without_effect(value, where)
            return cls(options.start, options.start)
        if options.end is None:
            raise ConfigError(
                f"{where}.END is missing; SCHEDULE: {options.schedule} goes from START to END"
            )
        return cls(options.start, options.end, options.schedule, options.until)

    @property
    def changes(self) -> bool:
        """Whether the weight changes during the training."""
        return self.start != self.end

    def at(self, progress: float) -> float:
        """The weight at a progress between 0 and 1."""
        done = min(max(progress / self.until, 0.0), 1.0)
        if self.shape == "cosine":
            done = (1 - cos(pi * done)) / 2
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.start:g}"
        until = "" if self.until == 1 else f" until {self.until:.0%} of the training"
        return f"{self.start:g} to {self.end:g} ({self.shape}{until})"


def _refuse_keys_without_effect(block: ConfigDict, where: str) -> None:
    """A constant weight has no end."""
    for key in ("END", "UNTIL"):
        if key in block:
            raise ConfigError(f"{where}.{key}: has no effect with SCHEDULE: constant; remove it")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigError(f"{where}: expected a number from 0 up, found {value!r}")
    return float(value)
