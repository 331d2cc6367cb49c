"""Options of the simulated scenes: how hard they are, and for which reasons.

``easy`` is what a folder is made from without ``--scenes``. Every option at its default leaves the
frames as ``easy`` has them. ``hard`` is the file ``cfgs/synthetic/scenes/hard.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ....config import find_file, nearest, option, read_options, read_yaml
from ....config.paths import resource_folder
from ....errors import ConfigError

FOLDER = "cfgs/synthetic/scenes"
EASY_NAME = "easy"


@dataclass(frozen=True)
class LabelOptions:
    """What a human annotator does: ``annotator.py``."""

    noise: float = option(
        0.0,
        at_least=0.0,
        at_most=3.0,
        help="scale of the noise of centre, size and yaw; 1 means 6 cm, 3 to 5 % and 2.5 degrees "
        "near the sensor, twice as much at 30 m",
    )
    few_points: float = option(
        0.0,
        at_least=0.0,
        at_most=10.0,
        help="the noise of an object of N points is larger by this number / sqrt(N)",
    )
    missed: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="probability that a largely hidden object gets no label; half of it for one that is "
        "partly hidden",
    )
    ignored: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="probability that such an object becomes DontCare instead, halved likewise",
    )
    calibration_deg: float = option(
        0.0,
        at_least=0.0,
        at_most=5.0,
        help="standard deviation of the turn of all labels of a frame against its points, about "
        "each axis",
    )
    calibration_m: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="standard deviation of their shift along each axis",
    )


@dataclass(frozen=True)
class ShapeOptions:
    """Which shapes road users have: ``families.py``."""

    families: str = option(
        "basic",
        choices=("basic", "many"),
        help="`basic`: the shapes of easy scenes; `many`: further cars, people and cyclists too",
    )
    kept_share: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="share of the road users of val and holdout with a shape that no training frame has",
    )


@dataclass(frozen=True)
class LookalikeOptions:
    """Mean number a frame of unlabelled objects that look like a class: ``lookalikes.py``."""

    people: float = option(
        0.0,
        at_least=0.0,
        at_most=30.0,
        help="like a pedestrian: mannequins, cut-out figures, posts, bushes of human size, bins",
    )
    cyclists: float = option(
        0.0,
        at_least=0.0,
        at_most=30.0,
        help="like a cyclist: motorcycles and bicycles without riders, racks, boards",
    )
    cars: float = option(
        0.0,
        at_least=0.0,
        at_most=30.0,
        help="like a car: trailers, containers, hedges of a car's size, covered cars",
    )


@dataclass(frozen=True)
class SurfaceOptions:
    """Cars that send few pulses back: ``surfaces.py``."""

    black_cars: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="share of the vehicles whose paint is so dark that far ones lose most returns",
    )
    polished_cars: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="share of the vehicles that mirror 50 to 90 % of the pulses away",
    )


@dataclass(frozen=True)
class WeatherOptions:
    """What happens between the sensor and the scene: ``weather.py``."""

    rain: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="share of the frames with rain: lost returns, and drops near the sensor",
    )
    dust: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="share of the frames with a cloud of dust or spray on the street",
    )
    dropped_beams: float = option(
        0.0,
        at_least=0.0,
        at_most=20.0,
        help="mean number of beams of which nothing comes back in a frame",
    )


@dataclass(frozen=True)
class TiltOptions:
    """How the car stands on its springs: ``tilt.py``."""

    pitch_deg: float = option(
        0.0, at_least=0.0, at_most=5.0, help="standard deviation of the pitch of the sensor"
    )
    roll_deg: float = option(0.0, at_least=0.0, at_most=5.0, help="standard deviation of its roll")


@dataclass(frozen=True)
class StreetOptions:
    """Where the frames are from: ``styles.py``."""

    other_in_evaluation: bool = option(
        False,
        help="val and holdout show streets of other widths, traffic and borders than training",
    )


@dataclass(frozen=True)
class TrafficOptions:
    """Who stands beside whom, and how often: ``company.py``."""

    groups: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="probability that one to four people walk with a pedestrian",
    )
    parked_bicycles: float = option(
        0.0,
        at_least=0.0,
        at_most=10.0,
        help="mean number of bicycles without riders beside each cyclist",
    )
    large_neighbours: float = option(
        0.0,
        at_least=0.0,
        at_most=1.0,
        help="probability that a van or truck stands in front of or behind a car",
    )
    pedestrians: float = option(
        1.0, at_least=0.0, at_most=1.0, help="share of the pedestrians that stay in the scene"
    )
    cyclists: float = option(
        1.0, at_least=0.0, at_most=1.0, help="share of the cyclists that stay in the scene"
    )
    frequencies: str = option(
        "many_people",
        choices=("many_people", "kitti"),
        help="`kitti`: objects are removed so that every class of easy scenes is as frequent as in "
        "KITTI",
    )


@dataclass(frozen=True)
class SceneOptions:
    """All options of the scenes; the defaults are the easy scenes."""

    labels: LabelOptions = field(default_factory=LabelOptions)
    shapes: ShapeOptions = field(default_factory=ShapeOptions)
    lookalikes: LookalikeOptions = field(default_factory=LookalikeOptions)
    surfaces: SurfaceOptions = field(default_factory=SurfaceOptions)
    weather: WeatherOptions = field(default_factory=WeatherOptions)
    tilt: TiltOptions = field(default_factory=TiltOptions)
    streets: StreetOptions = field(default_factory=StreetOptions)
    traffic: TrafficOptions = field(default_factory=TrafficOptions)

    @property
    def has_true_labels(self) -> bool:
        """Whether the labels differ from the true boxes, which are then kept beside them."""
        return self.labels != LabelOptions()


EASY = SceneOptions()


def read_scenes(name: str) -> SceneOptions:
    """The options that ``--scenes`` names: ``easy``, the name of a file of FOLDER, or a yaml.

    Raises:
        ConfigError: for an unknown name, an unknown key, or a value outside its limits.
    """
    if name == EASY_NAME:
        return EASY
    file = _scenes_file(name)
    return read_options(SceneOptions, read_yaml(file), str(file))


def _scenes_file(name: str) -> Path:
    """The yaml file that ``--scenes`` names."""
    if name.endswith((".yaml", ".yml")):
        return find_file(name, near=Path.cwd())
    folder = resource_folder() / FOLDER
    names = [EASY_NAME, *sorted(path.stem for path in folder.glob("*.yaml"))]
    if name not in names:
        raise ConfigError(
            f"--scenes: there are no scenes '{name}'{nearest(name, names)}; known are "
            f"{', '.join(names)}, and any yaml file"
        )
    return folder / f"{name}.yaml"
