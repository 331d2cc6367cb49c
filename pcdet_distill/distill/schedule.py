"""WEIGHT of a term: a number, or a block whose value changes during the training.

    WEIGHT: {START: 1.0, END: 0.0, SCHEDULE: cosine, UNTIL: 0.5}

Such a weight depends on the progress of the training alone, so that a resumed training continues
with the same weights. A term is not computed while its weight is 0, and the teacher does not run
while all weights are: a weight that has reached 0 costs no more time.

    WEIGHT: {SHARE: 0.2, EVERY: 50}

This one keeps the term's gradient at a share of that of the detection loss. The schedule is then
that of the share, and ``gradient_share.py`` measures the factor that it needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import cos, pi

from ..config import WeightOptions, read_options
from ..errors import ConfigError
from ..types import ConfigDict

# Keys that say how a SHARE is measured.
SHARE_KEYS = ("EVERY", "OF", "SMOOTHING", "LIMIT")


@dataclasses.dataclass(frozen=True)
class ShareOptions:
    """How the factor is measured that gives a term its share of the gradient.

    Attributes:
        every: steps between two measurements.
        of: ``features``, gradients at the student's taps; ``student``, those of its parameters.
        smoothing: how much of the old factor stays.
        limit: how far the factor may go from its first value, as a ratio.
    """

    every: int = 50
    of: str = "features"
    smoothing: float = 0.5
    limit: float = 10.0


@dataclasses.dataclass(frozen=True)
class WeightSchedule:
    """A weight over the progress of a training, which goes from 0 to 1.

    Attributes:
        start: weight at progress 0.
        end: weight from progress ``until`` on.
        shape: ``constant``, ``linear`` or ``cosine``.
        until: progress at which ``end`` is reached.
        share: how the factor is measured, if start and end are shares of the gradient of the
            detection loss; None if they are the weight itself.
    """

    start: float
    end: float
    shape: str = "constant"
    until: float = 1.0
    share: ShareOptions | None = None

    @classmethod
    def from_config(cls, value: object, where: str) -> WeightSchedule:
        """From a number or a block; ``where`` is its key path."""
        if not isinstance(value, Mapping):
            weight = _number(value, where)
            return cls(weight, weight)
        options = read_options(WeightOptions, value, where)
        start, share = _start_of(options, value, where)
        if options.schedule == "constant":
            _refuse_keys_without_effect(value, ("END", "UNTIL"), "with SCHEDULE: constant", where)
            return cls(start, start, share=share)
        if options.end is None and share is not None:
            _refuse_keys_without_effect(value, ("SCHEDULE", "UNTIL"), "without END", where)
            return cls(start, start, share=share)
        if options.end is None:
            raise ConfigError(
                f"{where}.END is missing; SCHEDULE: {options.schedule} goes from START to END"
            )
        return cls(start, options.end, options.schedule, options.until, share)

    @property
    def changes(self) -> bool:
        """Whether the weight changes during the training."""
        return self.start != self.end or self.share is not None

    def at(self, progress: float) -> float:
        """The weight at a progress between 0 and 1."""
        done = min(max(progress / self.until, 0.0), 1.0)
        if self.shape == "cosine":
            done = (1 - cos(pi * done)) / 2
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        measured = "" if self.share is None else " of the detection loss' gradient"
        if self.start == self.end:
            return f"{self.start:g}{measured}"
        until = "" if self.until == 1 else f" until {self.until:.0%} of the training"
        return f"{self.start:g} to {self.end:g}{measured} ({self.shape}{until})"


def _start_of(
    options: WeightOptions, block: ConfigDict, where: str
) -> tuple[float, ShareOptions | None]:
    """The first weight, or the first share and how it is measured."""
    if options.share is None:
        _refuse_keys_without_effect(block, SHARE_KEYS, "without SHARE", where)
        if options.start is None:
            raise ConfigError(f"{where}.START is missing; expected it, or SHARE in its place")
        return options.start, None
    if options.start is not None:
        raise ConfigError(f"{where}: both START and SHARE are given; expected one of them")
    share = ShareOptions(options.every, options.of, options.smoothing, options.limit)
    return options.share, share


def _refuse_keys_without_effect(
    block: ConfigDict, keys: Sequence[str], reason: str, where: str
) -> None:
    """Keys that the others make useless."""
    for key in keys:
        if block.get(key) is not None:
            raise ConfigError(f"{where}.{key}: has no effect {reason}; remove it")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigError(f"{where}: expected a number from 0 up, found {value!r}")
    return float(value)
