"""Steps of DATA_PROCESSOR that select the points that a model sees, out of the common cloud.

They read columns that the model itself need not use, so they run first: before the point features
are chosen, and in the list before every other step. Each keeps or drops whole points and draws no
random number. So a teacher and its student can select different points of the same item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...config import nearest, option, read_options
from ...config.cloud_options import AGE_COLUMN, BEAM_COLUMN, SENSOR_COLUMN
from ...errors import ConfigError
from ...types import ConfigDict
from ..beams import beam_numbers

AGE_TOLERANCE_S = 1e-3  # ages are float32 sums


@dataclass(frozen=True)
class CloudColumns:
    """What the columns of the common cloud mean.

    Attributes:
        features: names of the columns.
        folders: the sensors; the one at place k has the bit 2**k in the column ``sensor``.
    """

    features: Sequence[str] = ()
    folders: Sequence[str] = ()

    def place(self, name: str, where: str) -> int:
        """Index of a column; a cloud without it is a ConfigError."""
        if name not in self.features:
            raise ConfigError(
                f"{where}: the points have no column '{name}'; expected a COMMON_CLOUD that adds "
                f"it (they have {', '.join(self.features) or 'none'})"
            )
        return list(self.features).index(name)


class Selection:
    """One entry of DATA_PROCESSOR that selects points.

    Args:
        config: the entry.
        where: its key path.
        columns: of the stored points.
    """

    def __init__(self, config: ConfigDict, where: str, columns: CloudColumns) -> None:
        self.where = where

    def keep(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool, which of the stored points (N, C) are kept."""
        raise NotImplementedError


@dataclass(frozen=True)
class SensorChoice:
    """The keys of select_sensor."""

    sensors: tuple[str, ...] = option(
        (), help="folders of COMMON_CLOUD.FOLDERS whose points are kept"
    )


class SelectSensor(Selection):
    """Keep the points of some sensors."""

    def __init__(self, config: ConfigDict, where: str, columns: CloudColumns) -> None:
        super().__init__(config, where, columns)
        options = read_options(SensorChoice, config, where, also_known=("NAME",))
        if not options.sensors:
            raise ConfigError(f"{where}.SENSORS is missing: expected folders of COMMON_CLOUD")
        self.mask = 0
        for name in options.sensors:
            if name not in columns.folders:
                raise ConfigError(
                    f"{where}.SENSORS: '{name}' is not in COMMON_CLOUD.FOLDERS"
                    f"{nearest(name, columns.folders)}"
                )
            self.mask |= 1 << list(columns.folders).index(name)
        has_one = len(columns.folders) == 1
        self.column = None if has_one else columns.place(SENSOR_COLUMN, where)

    def keep(self, points: np.ndarray) -> np.ndarray:
        """Points whose bit is among the chosen ones."""
        if self.column is None:
            return np.ones(len(points), dtype=bool)
        return (points[:, self.column].astype(np.int64) & self.mask) > 0


@dataclass(frozen=True)
class SweepChoice:
    """The keys of select_sweeps."""

    max_age_s: float = option(
        0.0, at_least=0.0, help="oldest points that are kept, in seconds; 0 for the last sweep"
    )


class SelectSweeps(Selection):
    """Keep the newest points."""

    def __init__(self, config: ConfigDict, where: str, columns: CloudColumns) -> None:
        super().__init__(config, where, columns)
        options = read_options(SweepChoice, config, where, also_known=("NAME",))
        self.max_age_s = options.max_age_s
        self.column = columns.place(AGE_COLUMN, where)

    def keep(self, points: np.ndarray) -> np.ndarray:
        """Points that are not older than the limit."""
        return points[:, self.column] <= self.max_age_s + AGE_TOLERANCE_S


@dataclass(frozen=True)
class BeamChoice:
    """The keys of thin_beams."""

    keep_every: int | None = option(None, at_least=1, help="keep one beam of so many")
    offset: int = option(0, at_least=0, help="with KEEP_EVERY, the first beam that is kept")
    keep_beams: int | None = option(
        None, at_least=1, help="instead of KEEP_EVERY: keep so many of OF_BEAMS, evenly spread"
    )
    of_beams: int = option(64, at_least=1, help="beams of the sensor")


class ThinBeams(Selection):
    """Keep some of the sensor's beams.

    The column ``beam`` says which beam a point is from. Without it the elevation does, by the beams
    of an HDL-64E. Flips, rotations and scalings of the scene keep elevations; shifts, such as those
    of USE_ROAD_PLANE, do not.
    """

    def __init__(self, config: ConfigDict, where: str, columns: CloudColumns) -> None:
        super().__init__(config, where, columns)
        options = read_options(BeamChoice, config, where, also_known=("NAME",))
        self.is_kept = kept_beams(options, where)
        has_column = BEAM_COLUMN in columns.features
        self.column = columns.place(BEAM_COLUMN, where) if has_column else None

    def keep(self, points: np.ndarray) -> np.ndarray:
        """Points of the kept beams."""
        return self.is_kept[beams_of(points, self.column) % len(self.is_kept)]


def beams_of(points: np.ndarray, column: int | None) -> np.ndarray:
    """(N,) number of each point's beam, from its column or else from its elevation."""
    if column is None:
        return beam_numbers(points, "elevation")
    return points[:, column].astype(np.int64)


def kept_beams(options: BeamChoice, where: str) -> np.ndarray:
    """(B,) bool, which beams are kept; beams beyond B start again."""
    if (options.keep_every is None) == (options.keep_beams is None):
        raise ConfigError(f"{where}: expected either KEEP_EVERY or KEEP_BEAMS")
    if options.keep_every is not None:
        if options.offset >= options.keep_every:
            raise ConfigError(
                f"{where}.OFFSET: {options.offset} is not below KEEP_EVERY {options.keep_every}"
            )
        return np.arange(options.keep_every) == options.offset
    assert options.keep_beams is not None
    if options.keep_beams > options.of_beams:
        raise ConfigError(
            f"{where}.KEEP_BEAMS: {options.keep_beams} is more than OF_BEAMS {options.of_beams}"
        )
    # A beam is kept where the count of kept ones rises: evenly spread, and exactly so many.
    counts = np.arange(options.of_beams + 1) * options.keep_beams // options.of_beams
    return np.diff(counts) > 0


SELECTIONS: dict[str, type[Selection]] = {
    "select_sensor": SelectSensor,
    "select_sweeps": SelectSweeps,
    "thin_beams": ThinBeams,
}
