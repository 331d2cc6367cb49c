"""Sensors of the simulator: the yaml files under ``cfgs/synthetic/sensors``.

A sensor is a table of beams, a mount on the car, and what its receiver does. All sensors write
their points in the frame of KITTI's LiDAR, 1.73 m above the street, where the mount is measured
from. So boxes and calibration are the same for all.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ....config import find_file, nearest, option, project_folder, read_options, read_yaml
from ....errors import ConfigError
from ....types import ConfigDict

STANDARD = "hdl64e"
FOLDER = "synthetic/sensors"
SENSOR_HEIGHT_M = 1.73  # of KITTI's LiDAR above the street
# The sensor amplifies by range, as KITTI's intensities show: ranges in metres, and factors.
KITTI_GAIN_RANGES_M = (0.0, 8.0, 15.0, 25.0, 40.0, 60.0, 80.0)
KITTI_GAIN_FACTORS = (0.85, 1.05, 1.45, 0.95, 0.45, 0.22, 0.18)


@dataclass(frozen=True)
class BeamBlockOptions:
    """The keys of one entry of BEAMS."""

    from_deg: float | None = option(None, help="first beam", at_least=-90.0, at_most=90.0)
    to_deg: float | None = option(None, help="last beam", at_least=-90.0, at_most=90.0)
    count: int = option(1, help="number of beams", at_least=1)


@dataclass(frozen=True)
class MountOptions:
    """Place and rotation of a sensor in the frame of KITTI's LiDAR."""

    x_m: float = option(0.0, help="forward", at_least=-5.0, at_most=5.0)
    y_m: float = option(0.0, help="to the left", at_least=-3.0, at_most=3.0)
    z_m: float = option(0.0, help="up, from 1.73 m above the street", at_least=-1.5, at_most=5.0)
    yaw_deg: float = option(0.0, help="turned to the left", at_least=-180.0, at_most=180.0)
    pitch_deg: float = option(0.0, help="front tilted down", at_least=-45.0, at_most=45.0)
    roll_deg: float = option(0.0, help="tilted to the right", at_least=-45.0, at_most=45.0)


@dataclass(frozen=True)
class SensorOptions:
    """The keys of a sensor's yaml."""

    elevations_deg: tuple[float, ...] = option(
        (),
        help="the beams one by one, upwards from the horizon",
        at_least=-90.0,
        at_most=90.0,
        values="a list of numbers from -90 to 90",
    )
    beams: tuple[ConfigDict, ...] = option(
        (),
        help="the beams in blocks of equal steps, in place of ELEVATIONS_DEG",
        values="a list of blocks FROM_DEG, TO_DEG, COUNT",
    )
    azimuth_from_deg: float = option(
        -180.0, help="right end of the field of view", at_least=-180.0, at_most=180.0
    )
    azimuth_to_deg: float = option(
        180.0, help="left end of the field of view", at_least=-180.0, at_most=180.0
    )
    azimuth_step_deg: float | None = option(
        None, help="between two firings of a beam; 0.18 by default", above=0.0, at_most=5.0
    )
    firings_per_s: float | None = option(
        None,
        help="of a beam, in place of AZIMUTH_STEP_DEG: a turn of 360 degrees has FIRINGS_PER_S / "
        "RATE_HZ of them",
        above=0.0,
    )
    irregularity: float = option(
        0.0,
        help="how far a pulse strays within its cell of the raster, anew in every sweep; 1 fills "
        "the cell: a pattern that does not repeat",
        at_least=0.0,
        at_most=1.0,
    )
    rate_hz: float = option(10.0, help="sweeps per second", above=0.0)
    mount: MountOptions = field(default_factory=MountOptions)
    max_range_m: float = option(80.0, help="no return beyond", at_least=5.0)
    range_noise_m: float = option(
        0.015, help="standard deviation of the range, without the surface's own", at_least=0.0
    )
    sensitivity: float = option(
        110.0, help="of the receiver: a small one loses weak pulses", above=0.0
    )
    gain_ranges_m: tuple[float, ...] = option(
        KITTI_GAIN_RANGES_M, help="ranges of GAIN_FACTORS, rising", at_least=0.0
    )
    gain_factors: tuple[float, ...] = option(
        KITTI_GAIN_FACTORS, help="factor on the intensity at these ranges", at_least=0.0
    )
    dropout: float = option(
        0.0, help="share of all pulses that is lost at random", at_least=0.0, at_most=1.0
    )
    beam_dropout: float = option(
        0.0,
        help="probability that a beam returns nothing during a whole sweep",
        at_least=0.0,
        at_most=1.0,
    )


@dataclass(frozen=True)
class Sensor:
    """A sensor that is ready to cast rays.

    Attributes:
        name: of its yaml file; names its folder of points.
        elevations_deg: of the beams, falling.
        azimuth_step_deg: between two firings.
        options: the other keys.
    """

    name: str
    elevations_deg: tuple[float, ...]
    azimuth_step_deg: float
    options: SensorOptions

    @property
    def elevations_rad(self) -> np.ndarray:
        """(R,) of the beams, falling."""
        return np.deg2rad(self.elevations_deg)

    @property
    def fingerprint(self) -> str:
        """Name and a hash of everything else, for the record of a folder."""
        content = json.dumps(asdict(replace(self, name="")), sort_keys=True)
        return f"{self.name}:{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def read_sensor(name: str | Path) -> Sensor:
    """The sensor of a yaml file.

    Args:
        name: of a file in ``cfgs/synthetic/sensors``, or the path of a yaml file.
    """
    file = _sensor_file(str(name))
    return make_sensor(file.stem, read_yaml(file), str(name))


def make_sensor(name: str, block: ConfigDict, where: str) -> Sensor:
    """The sensor of a block of keys; ``where`` begins the error messages."""
    options = read_options(SensorOptions, block, where)
    if not options.azimuth_from_deg < options.azimuth_to_deg:
        raise ConfigError(
            f"{where}.AZIMUTH_TO_DEG: {options.azimuth_to_deg:g} is not to the left of "
            f"AZIMUTH_FROM_DEG {options.azimuth_from_deg:g}, so the sensor sees nothing"
        )
    _check_gain(options, where)
    elevations = _elevations_deg(options, where)
    step = _azimuth_step_deg(options, where)
    rest = replace(options, elevations_deg=(), beams=())
    return Sensor(name, elevations, step, rest)


@functools.lru_cache(maxsize=1)
def standard_sensor() -> Sensor:
    """KITTI's HDL-64E."""
    return read_sensor(STANDARD)


def read_sensors(names: Sequence[str | Path]) -> tuple[Sensor, ...]:
    """The sensors of several yaml files; two of one name are refused."""
    sensors = tuple(read_sensor(name) for name in names)
    seen: set[str] = set()
    for sensor in sensors:
        if sensor.name in seen:
            raise ConfigError(f"--sensor: {sensor.name} is given twice, expected different sensors")
        seen.add(sensor.name)
    return sensors


def _sensor_file(name: str) -> Path:
    """The yaml file of a sensor."""
    is_path = name.endswith((".yaml", ".yml"))
    wanted = name if is_path else f"{FOLDER}/{name}.yaml"
    try:
        return find_file(wanted, near=Path.cwd())
    except ConfigError:
        known = [file.stem for file in _known_files()]
        raise ConfigError(
            f"--sensor: there is no sensor '{name}'{nearest(name, known)}; expected a name in "
            "cfgs/synthetic/sensors or a yaml file"
        ) from None


def _known_files() -> list[Path]:
    standard = find_file(f"{FOLDER}/{STANDARD}.yaml", near=project_folder())
    return sorted(standard.parent.glob("*.yaml"))


def _elevations_deg(options: SensorOptions, where: str) -> tuple[float, ...]:
    """The beams from top to bottom."""
    if bool(options.elevations_deg) == bool(options.beams):
        raise ConfigError(f"{where}: expected beams, as either ELEVATIONS_DEG or BEAMS")
    elevations = list(options.elevations_deg)
    for number, entry in enumerate(options.beams):
        elevations += _block_elevations_deg(entry, f"{where}.BEAMS[{number}]")
    falling = tuple(sorted(elevations, reverse=True))
    if len(set(falling)) < len(falling):
        raise ConfigError(f"{where}: two beams have the same elevation, expected different ones")
    return falling


def _block_elevations_deg(entry: ConfigDict, where: str) -> list[float]:
    """The elevations of one entry of BEAMS."""
    block = read_options(BeamBlockOptions, entry, where)
    if block.from_deg is None or block.to_deg is None:
        raise ConfigError(f"{where}: expected FROM_DEG, TO_DEG and COUNT")
    return np.linspace(block.from_deg, block.to_deg, block.count).tolist()


def _azimuth_step_deg(options: SensorOptions, where: str) -> float:
    """The angle between two firings."""
    if options.firings_per_s is None:
        return 0.18 if options.azimuth_step_deg is None else options.azimuth_step_deg
    if options.azimuth_step_deg is not None:
        raise ConfigError(f"{where}: expected AZIMUTH_STEP_DEG or FIRINGS_PER_S, found both")
    return 360.0 * options.rate_hz / options.firings_per_s


def _check_gain(options: SensorOptions, where: str) -> None:
    """Refuse a gain that is no function of the range."""
    ranges = options.gain_ranges_m
    is_rising = all(low < high for low, high in zip(ranges, ranges[1:]))
    if not ranges or len(ranges) != len(options.gain_factors) or not is_rising:
        raise ConfigError(
            f"{where}.GAIN_RANGES_M: expected rising ranges, one for each of the "
            f"{len(options.gain_factors)} GAIN_FACTORS, found {list(ranges)}"
        )
