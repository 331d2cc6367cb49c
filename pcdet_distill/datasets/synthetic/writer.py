"""Writes simulated frames as a KITTI folder.

Frame k depends on (seed, k) alone. So frames can be made by any number of processes, in any order,
and again after an interruption. Each file appears whole or not at all. ``synthetic.json`` records
what the folder was made from.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import ConfigError, DataError
from ...parallel import Workers
from ...whole_files import whole_file
from ..parts import within
from .annotator import annotate
from .labels import Label, frame_labels
from .parts import end_part, opening, own_numbers, writing
from .png import png_bytes, sketch
from .pool import work_through
from .scenes.builder import Scene
from .scenes.options import EASY, SceneOptions
from .scenes.random_scenes import draw_scene
from .sensors.camera import Camera
from .sensors.ego_motion import draw_motion
from .sensors.lidar import Sweep, check_returns, check_sees
from .sensors.scan import disturbed, earlier_sweeps, scan
from .sensors.sensor_options import STANDARD, Sensor, read_sensors, standard_sensor
from .streams import Streams

GENERATOR = 1  # raise when a change to the simulation changes the frames
MANIFEST = "synthetic.json"
TRUE_LABELS = "label_2_true"  # only where the labels have an annotator's noise
EARLIER = "_sweeps"  # ends the name of a folder of earlier sweeps
MAX_SWEEPS = 20
FOLDERS = {"velodyne": "bin", "calib": "txt", "image_2": "png", "label_2": "txt"}
MAY_GROW = ("holdout_frames", "unlabelled_frames")
FRAMES_WORTH_A_PROCESS = 150  # starting a process takes as long as about 150 frames
MAX_FRAMES = 1_000_000  # KITTI's file names have six digits


@dataclass(frozen=True)
class FolderPlan:
    """What a folder is made from; the splits holdout and unlabelled come after ``frames``.

    The labels follow from what the first of the sensors sees. Val and holdout are for evaluation:
    some options of the scenes act on them alone.
    """

    seed: int
    frames: int
    val_frames: int
    generator: int = GENERATOR
    holdout_frames: int = 0
    unlabelled_frames: int = 0
    sensors: tuple[Sensor, ...] = field(default_factory=lambda: (standard_sensor(),))
    scenes: SceneOptions = field(default_factory=SceneOptions)
    sweeps: int = 1

    def is_for_evaluation(self, frame: int) -> bool:
        """Whether a frame is of val or holdout."""
        return self.frames - self.val_frames <= frame < self.frames + self.holdout_frames

    def folders(self) -> dict[str, str]:
        """The folders of training/ that hold a file of each frame, and the files' endings."""
        folders = dict(FOLDERS)
        for sensor in self.sensors:
            folder = self.point_folder(sensor)
            folders[folder] = "bin"
            if self.sweeps > 1:
                folders[folder + EARLIER] = "bin"
        if self.scenes.has_true_labels:
            folders[TRUE_LABELS] = "txt"
        return folders

    def point_folder(self, sensor: Sensor) -> str:
        """The folder of a sensor's points: the first sensor has KITTI's own."""
        return "velodyne" if sensor == self.sensors[0] else f"velodyne_{sensor.name}"

    def record(self) -> dict[str, object]:
        """What synthetic.json holds. It does not mention easy scenes: old folders have no other."""
        sensors = [sensor.fingerprint for sensor in self.sensors]
        record = {**asdict(self), "sensors": sensors}
        if self.scenes == EASY:
            del record["scenes"]
        return record

    def splits(self) -> dict[str, Sequence[int]]:
        """The frames of each split. ``test`` has no labels in KITTI, and is empty here."""
        first_val = self.frames - self.val_frames
        end_holdout = self.frames + self.holdout_frames
        splits: dict[str, Sequence[int]] = {
            "train": range(first_val),
            "val": range(first_val, self.frames),
            "trainval": range(self.frames),
            "test": range(0),
        }
        extra_splits = {
            "holdout": range(self.frames, end_holdout),
            "unlabelled": range(end_holdout, self.total),
        }
        for name, frames in extra_splits.items():
            if frames:
                splits[name] = frames
        return splits

    @property
    def total(self) -> int:
        """Number of all frames of the folder."""
        return self.frames + self.holdout_frames + self.unlabelled_frames


def create_synthetic_kitti(
    out: str | os.PathLike,
    frames: int,
    seed: int = 0,
    *,
    val_frames: int | None = None,
    holdout_frames: int = 0,
    unlabelled_frames: int = 0,
    sensors: Sequence[str | Path] = (STANDARD,),
    scenes: SceneOptions = EASY,
    sweeps: int = 1,
    workers: Workers | None = None,
    progress: bool = True,
) -> Path:
    """Write simulated frames to a folder.

    Frames that exist already are kept. A folder may get more holdout or unlabelled frames later. A
    folder made from other numbers, or with other contents, is a DataError.

    Args:
        out: the folder.
        frames: number of frames for training and validation.
        seed: of all random numbers.
        val_frames: the last of ``frames``, for validation; a fifth by default.
        holdout_frames: further frames with labels, to evaluate on what was chosen by validation.
        unlabelled_frames: further frames whose labels are not used.
        sensors: names or yaml files (``sensor_options.read_sensor``). The first one writes
            ``training/velodyne``, from which the labels follow; each other one sees the same scenes
            and writes ``training/velodyne_NAME``.
        scenes: how hard the scenes are; see ``options.read_scenes``.
        sweeps: of each sensor, with the car and the traffic in motion. The last one is written as
            before; the points of the earlier ones, in the frame of the last and with their age in
            seconds as fifth column, go to ``training/velodyne_sweeps``.
        workers: processes, or an engine; by default one for each core, and fewer for few frames.
        progress: show a progress bar.
    """
    plan = FolderPlan(
        seed=int(seed),
        frames=int(frames),
        val_frames=int(frames // 5 if val_frames is None else val_frames),
        holdout_frames=int(holdout_frames),
        unlabelled_frames=int(unlabelled_frames),
        sensors=read_sensors(sensors),
        scenes=scenes,
        sweeps=int(sweeps),
    )
    workers = (os.cpu_count() or 1) if workers is None else workers
    _check_plan(plan, within(workers))
    _check_sensors(plan.sensors)
    root = Path(out).expanduser()
    try:
        with opening(root, workers):
            _prepare_folder(root, plan)
        with writing(root, workers):
            _write_missing(root, plan, workers, progress)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{root}: cannot write the simulated frames there ({reason})") from error
    return root


def _write_missing(root: Path, plan: FolderPlan, workers: Workers, progress: bool) -> None:
    """The frames that are not there yet, those of this command's part, and the lists of frames."""
    missing = [frame for frame in range(plan.total) if not _is_complete(root, plan, frame)]
    own = own_numbers(missing, plan.total, workers, "frame")
    _write_frames(root, plan, own, within(workers), progress)
    end_part(root, plan.total, workers, "frame")
    _write_splits(root, plan)


def simulate_frame(
    seed: int,
    frame: int,
    camera: Camera | None = None,
    sensor: Sensor | None = None,
    *,
    scenes: SceneOptions = EASY,
    for_evaluation: bool = False,
) -> tuple[Scene, Sweep]:
    """One frame in memory: the street, and the returns of the LiDAR.

    Args:
        seed: of the folder.
        frame: number of the frame.
        camera: whose view is cast; the standard one by default.
        sensor: the LiDAR; the standard one by default.
        scenes: how hard the scene is.
        for_evaluation: whether the frame is of val or holdout.
    """
    streams = Streams(seed, frame)
    rng = streams.scene()
    camera = camera or Camera.standard()
    scene = draw_scene(rng, streams, scenes, for_evaluation)
    sweep = scan(scene, sensor or standard_sensor(), camera, rng)
    return scene, disturbed(sweep, scene, scenes, streams)


def _check_plan(plan: FolderPlan, workers: Workers) -> None:
    """Refuse impossible numbers."""
    if plan.frames < 1:
        raise ConfigError(f"frames: {plan.frames} simulated frames requested, at least 1 is needed")
    if plan.total > MAX_FRAMES:
        raise ConfigError(
            f"frames: {plan.total} do not fit KITTI's six-digit file names, at most {MAX_FRAMES} do"
        )
    for name in ("seed", "holdout_frames", "unlabelled_frames"):
        value = getattr(plan, name)
        if value < 0:
            raise ConfigError(f"{name}: {value} is negative, expected 0 or more")
    if not 1 <= plan.sweeps <= MAX_SWEEPS:
        raise ConfigError(f"sweeps: {plan.sweeps} requested, expected 1 to {MAX_SWEEPS}")
    if isinstance(workers, int) and workers < 0:
        raise ConfigError(
            f"workers: {workers} is negative, expected 0 or 1 (this process) or a number of "
            "processes"
        )
    if not 0 <= plan.val_frames < plan.frames:
        raise ConfigError(
            f"val_frames: {plan.val_frames} of {plan.frames} frames requested, expected 0 to "
            f"{plan.frames - 1}"
        )


def _check_sensors(sensors: Sequence[Sensor]) -> None:
    """Refuse sensors that would see nothing of what the camera sees."""
    for sensor in sensors:
        check_sees(sensor, Camera.standard())
        check_returns(sensor)


def _prepare_folder(root: Path, plan: FolderPlan) -> None:
    """Create the folder and its record. It must be new, empty, or made from the same plan."""
    manifest = root / MANIFEST
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file, expected a folder to write simulated frames to")
    if manifest.exists():
        check_manifest(manifest, plan)
    elif root.exists():
        contents = {entry.name for entry in root.iterdir()} - {_part_name(MANIFEST)}
        if contents:
            raise DataError(
                f"{root}: is not empty and was not made by this command; choose a new or an empty "
                "folder"
            )
    root.mkdir(parents=True, exist_ok=True)
    record = json.dumps(plan.record(), indent=2) + "\n"
    _write_whole(manifest, record.encode())
    (root / "ImageSets").mkdir(parents=True, exist_ok=True)
    for folder in plan.folders():
        (root / "training" / folder).mkdir(parents=True, exist_ok=True)


def check_manifest(manifest: Path, plan: FolderPlan) -> None:
    """Refuse a folder that was made from another plan."""
    # Older folders have no record of extra splits or sensors: they had none but the standard one.
    older: dict[str, object] = {"sensors": [standard_sensor().fingerprint], "sweeps": 1}
    older.update(dict.fromkeys(MAY_GROW, 0))
    recorded = {**older, **_read_manifest(manifest)}
    differences = []
    for key, value in plan.record().items():
        if key == "scenes":
            continue
        if recorded.get(key) != value and not _may_grow(key, recorded, plan):
            differences.append(f"{key} {recorded.get(key)} instead of {value}")
    differences += _scene_differences(recorded.get("scenes"), plan.scenes)
    if differences:
        raise DataError(
            f"{manifest.parent}: holds simulated frames made with {', '.join(differences)}; choose "
            "another folder or remove it"
        )


def _scene_differences(recorded: object, scenes: SceneOptions) -> list[str]:
    """The options of the scenes in which a folder differs from the plan."""
    if recorded is None:
        recorded = asdict(EASY)
    planned = asdict(scenes)
    if not isinstance(recorded, dict):
        return ["scenes of another version"]
    differences = []
    for block, options in planned.items():
        known = recorded.get(block)
        if not isinstance(known, dict):
            return ["scenes of another version"]
        for key, value in options.items():
            found = known.get(key)
            if found != value:
                differences.append(f"{block.upper()}.{key.upper()} {found} instead of {value}")
    return differences


def _may_grow(key: str, recorded: Mapping[str, object], plan: FolderPlan) -> bool:
    """Whether ``key`` may be larger than recorded: only if no frame changes its split by it."""
    value = recorded[key]
    if key == "sensors" and isinstance(value, list):
        planned = [sensor.fingerprint for sensor in plan.sensors]
        return planned[: len(value)] == value
    if key == "sweeps":
        return value == 1
    if key not in MAY_GROW:
        return False
    if not isinstance(value, int) or value > getattr(plan, key):
        return False
    # Unlabelled frames come last; holdout frames are last while there are no unlabelled ones.
    return key == "unlabelled_frames" or recorded["unlabelled_frames"] == 0


def _read_manifest(path: Path) -> dict[str, object]:
    try:
        manifest = json.loads(path.read_text())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise DataError(
            f"{path}: is not the record of a simulated dataset; remove the folder and start again"
        )
    return manifest


def _frame_files(root: Path, plan: FolderPlan, frame: int) -> dict[str, Path]:
    """The files of a frame, by folder."""
    training = root / "training"
    folders = plan.folders()
    return {folder: training / folder / f"{frame:06d}.{folders[folder]}" for folder in folders}


def _is_complete(root: Path, plan: FolderPlan, frame: int) -> bool:
    return all(path.is_file() for path in _frame_files(root, plan, frame).values())


def _write_frames(
    root: Path, plan: FolderPlan, missing: list[int], workers: Workers, progress: bool
) -> None:
    """Simulate and write the ``missing`` frames."""
    if isinstance(workers, int):
        workers = min(workers, 1 + len(missing) // FRAMES_WORTH_A_PROCESS)
    work_through(
        functools.partial(_write_frame, root, plan),
        missing,
        workers=workers,
        unit="frame",
        progress=progress,
    )


def _write_frame(root: Path, plan: FolderPlan, frame: int) -> None:
    """Simulate a frame and write its files."""
    camera = Camera.standard()
    scene, sweep = simulate_frame(
        plan.seed,
        frame,
        camera,
        plan.sensors[0],
        scenes=plan.scenes,
        for_evaluation=plan.is_for_evaluation(frame),
    )
    streams = Streams(plan.seed, frame)
    labels = frame_labels(scene, sweep, camera)
    files = _frame_files(root, plan, frame)
    _write_whole(files["velodyne"], sweep.points.tobytes())
    for sensor in plan.sensors[1:]:
        other = scan(scene, sensor, camera, streams.of(sensor.name))
        other = disturbed(other, scene, plan.scenes, streams)
        _write_whole(files[plan.point_folder(sensor)], other.points.tobytes())
    if plan.sweeps > 1:
        _write_earlier_sweeps(plan, scene, streams, files)
    _write_whole(files["calib"], camera.calibration_text().encode())
    _write_whole(files["image_2"], png_bytes(sketch([label.line() for label in labels])))
    if plan.scenes.has_true_labels:
        annotation = annotate(labels, plan.scenes.labels, streams)
        _write_whole(files[TRUE_LABELS], _label_file(annotation.truth))
        labels = annotation.labels
    _write_whole(files["label_2"], _label_file(labels))


def _label_file(labels: list[Label]) -> bytes:
    return "".join(label.line() + "\n" for label in labels).encode()


def _write_earlier_sweeps(
    plan: FolderPlan, scene: Scene, streams: Streams, files: Mapping[str, Path]
) -> None:
    """Write the earlier sweeps of every sensor; all see the same motion."""
    motion = draw_motion(scene, streams.of("motion"))
    for sensor in plan.sensors:
        points = earlier_sweeps(
            scene, motion, sensor, count=plan.sweeps - 1, scenes=plan.scenes, streams=streams
        )
        _write_whole(files[plan.point_folder(sensor) + EARLIER], points.tobytes())


def _write_splits(root: Path, plan: FolderPlan) -> None:
    """Write ImageSets/<split>.txt of every split."""
    for name, frames in plan.splits().items():
        lines = "".join(f"{frame:06d}\n" for frame in frames)
        _write_whole(root / "ImageSets" / f"{name}.txt", lines.encode())


def _part_name(name: str) -> str:
    """Name of a file while it is written."""
    return name + ".part"


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file so that no reader finds half of it."""
    with whole_file(path, _part_name(path.name)) as part:
        part.write_bytes(data)
