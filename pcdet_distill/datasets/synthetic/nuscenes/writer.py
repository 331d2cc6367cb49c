"""Writes simulated scenes as a version of nuScenes: point files and the 13 official tables.

Scene k depends on (seed, k) alone. Its sweeps are written first, then a record with its rows of the
tables; the tables are put together from the records. So scenes can be made by any number of
processes, and again after an interruption. The scenes bear the names of nuScenes' own splits, so
nuscenes-devkit opens the folder and evaluates on it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ....config import nearest
from ....errors import ConfigError, DataError
from ....parallel import Workers
from ....whole_files import whole_file
from ...nuscenes.splits import OFFICIAL, scene_names
from ...parts import within
from ..parts import end_part, opening, own_numbers, writing
from ..png import png_bytes
from ..pool import work_through
from ..sensors.lidar import check_returns
from ..sensors.sensor_options import MountOptions, Sensor, read_sensor
from ..streams import Streams
from .drive import KEY_FRAME_S, SweepTime, simulate_drive, sweep_times
from .rows import MAP_FILE, SCENE_TABLES, SHARED_TABLES, Rows, SceneRows, cloud_name, shared_rows

GENERATOR = 2  # raise when a change to the simulation changes the scenes
MANIFEST = "synthetic.json"
RECORDS = "scenes"  # one json file a scene, with its rows of the tables
NUSCENES_SENSOR = "lidar32"
DEFAULT_VERSION = "v1.0-mini"
DEFAULT_SCENE_FRAMES = 8
VERSIONS = ("v1.0-mini", "v1.0-trainval")
SCENES_WORTH_A_PROCESS = 6  # starting a process takes as long as about so many scenes


@dataclass(frozen=True)
class PlannedScene:
    """A scene of the folder.

    Attributes:
        name: as in nuScenes' splits.
        key_frames: how many it has.
    """

    name: str
    key_frames: int


@dataclass(frozen=True)
class NuScenesPlan:
    """What a folder is made from.

    Attributes:
        seed: of all random numbers.
        frames: key frames for training and validation.
        val_frames: how many of them are for validation.
        scene_frames: key frames of a scene; the last one of each split may have fewer.
        sweeps: of each key frame, itself included.
        version: name of the folder of tables.
        sensor: the LiDAR.
        generator: version of the simulation.
    """

    seed: int
    frames: int
    val_frames: int
    scene_frames: int
    sweeps: int
    version: str
    sensor: Sensor = field(default_factory=lambda: read_sensor(NUSCENES_SENSOR))
    generator: int = GENERATOR

    def record(self) -> dict[str, object]:
        """What synthetic.json holds."""
        return {**asdict(self), "sensor": self.sensor.fingerprint, "format": "nuscenes"}

    @functools.cached_property
    def scenes(self) -> tuple[PlannedScene, ...]:
        """The scenes for training, then those for validation."""
        train = self._split("train", self.frames - self.val_frames)
        return (*train, *self._split("val", self.val_frames))

    def _split(self, split: str, frames: int) -> list[PlannedScene]:
        names = sorted(scene_names(OFFICIAL[self.version][split]))
        needed = -(-frames // self.scene_frames)
        if needed > len(names):
            raise ConfigError(
                f"frames: {frames} key frames for {split} need {needed} scenes of "
                f"{self.scene_frames}, and {self.version} has {len(names)}; expected fewer frames, "
                f"a larger scene_frames, or the version {VERSIONS[1]}"
            )
        scenes = []
        for number in range(needed):
            count = min(self.scene_frames, frames - number * self.scene_frames)
            scenes.append(PlannedScene(names[number], count))
        return scenes

    def times(self, scene: PlannedScene) -> list[SweepTime]:
        """When the sweeps of a scene are recorded."""
        return sweep_times(scene.key_frames, self.sweeps, self.sensor.options.rate_hz)


def create_synthetic_nuscenes(
    out: str | os.PathLike,
    frames: int,
    seed: int = 0,
    *,
    val_frames: int | None = None,
    scene_frames: int = DEFAULT_SCENE_FRAMES,
    sweeps: int | None = None,
    version: str = DEFAULT_VERSION,
    sensor: str | Path = NUSCENES_SENSOR,
    workers: Workers | None = None,
    progress: bool = True,
) -> Path:
    """Write simulated scenes to ``out/version``; scenes that exist already are kept.

    Args:
        out: the folder that DATA_PATH names.
        frames: number of key frames for training and validation.
        seed: of all random numbers.
        val_frames: how many of ``frames`` are for validation; a fifth by default.
        scene_frames: key frames of a scene, half a second apart.
        sweeps: sweeps up to each key frame; by default all since the key frame before.
        version: ``v1.0-mini``, which has few scenes, or ``v1.0-trainval``.
        sensor: name or yaml of a sensor.
        workers: processes, or an engine; by default one for each core, and fewer for few scenes.
        progress: show a progress bar.

    Raises:
        ConfigError: impossible numbers.
        DataError: a folder that was made from other numbers, or cannot be written.
    """
    lidar = read_sensor(sensor)
    most_sweeps = _check_sensor(lidar)
    plan = NuScenesPlan(
        seed=int(seed),
        frames=int(frames),
        val_frames=int(frames // 5 if val_frames is None else val_frames),
        scene_frames=int(scene_frames),
        sweeps=most_sweeps if sweeps is None else int(sweeps),
        version=version,
        sensor=lidar,
    )
    workers = (os.cpu_count() or 1) if workers is None else workers
    _check_plan(plan, most_sweeps, within(workers))
    root = Path(out).expanduser() / version
    try:
        with opening(root, workers):
            _prepare_folder(root, plan)
        with writing(root, workers):
            _write_scenes(root, plan, workers, progress)
            end_part(root, len(plan.scenes), workers, "scene")
            _write_tables(root, plan)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{root}: cannot write the simulated scenes there ({reason})") from error
    return Path(out).expanduser()


def _check_sensor(sensor: Sensor) -> int:
    """The most sweeps of this sensor up to a key frame."""
    if sensor.options.mount != MountOptions():
        raise ConfigError(
            f"--sensor: {sensor.name} has a MOUNT, and nuScenes' LiDAR stands on the roof; expected"
            " a sensor without MOUNT"
        )
    check_returns(sensor)
    return max(1, round(KEY_FRAME_S * sensor.options.rate_hz))


def _check_plan(plan: NuScenesPlan, most_sweeps: int, workers: Workers) -> None:
    """Refuse impossible numbers."""
    if plan.version not in VERSIONS:
        raise ConfigError(
            f"version: '{plan.version}' cannot be simulated{nearest(plan.version, VERSIONS)}; "
            f"expected {' or '.join(VERSIONS)}"
        )
    if plan.seed < 0:
        raise ConfigError(f"seed: {plan.seed} is negative, expected 0 or more")
    for name in ("frames", "scene_frames"):
        if getattr(plan, name) < 1:
            raise ConfigError(f"{name}: {getattr(plan, name)} requested, at least 1 is needed")
    if not 0 <= plan.val_frames < plan.frames:
        raise ConfigError(
            f"val_frames: {plan.val_frames} of {plan.frames} frames requested, expected 0 to "
            f"{plan.frames - 1}"
        )
    if not 1 <= plan.sweeps <= most_sweeps:
        raise ConfigError(
            f"sweeps: {plan.sweeps} requested, expected 1 to {most_sweeps}: {plan.sensor.name} "
            f"makes {most_sweeps} from one key frame to the next"
        )
    if isinstance(workers, int) and workers < 0:
        raise ConfigError(f"workers: {workers} is negative, expected a number of processes")
    assert plan.scenes  # refuses more scenes than the version has


def _prepare_folder(root: Path, plan: NuScenesPlan) -> None:
    """Create the folder and its record. It must be new, empty, or made from the same plan."""
    manifest = root / MANIFEST
    if manifest.is_file():
        _check_manifest(manifest, plan)
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root}: was not made by this command; choose a new or an empty folder for --out"
        )
    for folder in (RECORDS, "samples/LIDAR_TOP", "sweeps/LIDAR_TOP", "maps", plan.version):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write_json(manifest, plan.record())
    with whole_file(root / MAP_FILE) as part:
        part.write_bytes(png_bytes(np.zeros((1, 1, 3), np.uint8)))


def _check_manifest(manifest: Path, plan: NuScenesPlan) -> None:
    recorded = _read_json(manifest)
    if not isinstance(recorded, dict):
        raise DataError(f"{manifest}: is not the record of a simulated folder; remove the folder")
    differences = []
    for key, value in plan.record().items():
        if recorded.get(key) != value:
            differences.append(f"{key} {recorded.get(key)} instead of {value}")
    if differences:
        raise DataError(
            f"{manifest.parent}: holds simulated scenes made with {', '.join(differences)}; choose "
            "another folder or remove it"
        )


def _write_scenes(root: Path, plan: NuScenesPlan, workers: Workers, progress: bool) -> None:
    """Simulate the scenes that are not there, or those of a part."""
    total = len(plan.scenes)
    missing = [number for number in range(total) if not _is_complete(root, plan, number)]
    missing = own_numbers(missing, total, workers, "scene")
    workers = within(workers)
    if isinstance(workers, int):
        workers = min(workers, 1 + len(missing) // SCENES_WORTH_A_PROCESS)
    work_through(
        functools.partial(_write_scene, root, plan),
        missing,
        workers=workers,
        unit="scene",
        progress=progress,
    )


def _record_file(root: Path, scene: PlannedScene) -> Path:
    return root / RECORDS / f"{scene.name}.json"


def _scene_rows(plan: NuScenesPlan, number: int) -> SceneRows:
    return SceneRows(plan.scenes[number].name, number, Streams(plan.seed, number))


def _clouds(root: Path, plan: NuScenesPlan, number: int) -> list[Path]:
    """The point files of a scene."""
    rows = _scene_rows(plan, number)
    files = []
    for sweep in plan.times(plan.scenes[number]):
        files.append(root / cloud_name(rows.name, sweep, rows.timestamp(sweep.time_s)))
    return files


def _is_complete(root: Path, plan: NuScenesPlan, number: int) -> bool:
    """Whether the record of a scene and all its point files are there."""
    files = [_record_file(root, plan.scenes[number]), *_clouds(root, plan, number)]
    return all(path.is_file() for path in files)


def _write_scene(root: Path, plan: NuScenesPlan, number: int) -> None:
    """Simulate a scene and write its sweeps, then its record."""
    scene = plan.scenes[number]
    clouds = _clouds(root, plan, number)

    def write(sweep: int, points: np.ndarray) -> None:
        with whole_file(clouds[sweep]) as part:
            part.write_bytes(points.tobytes())

    streams = Streams(plan.seed, number)
    drive = simulate_drive(streams, plan.sensor, plan.times(scene), write)
    _write_json(_record_file(root, scene), _scene_rows(plan, number).rows(drive))


def _write_tables(root: Path, plan: NuScenesPlan) -> None:
    """Put the official tables together."""
    tables: Rows = shared_rows()
    for name in SCENE_TABLES:
        tables[name] = []
    for scene in plan.scenes:
        record = _read_json(_record_file(root, scene))
        for name in SCENE_TABLES:
            tables[name] += record[name]
    for name in (*SHARED_TABLES, *SCENE_TABLES):
        _write_json(root / plan.version / f"{name}.json", tables[name])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise DataError(f"{path}: is no json file of a simulated folder; remove it") from None


def _write_json(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=0))
