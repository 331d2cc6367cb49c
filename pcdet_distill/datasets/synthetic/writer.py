"""Simulated frames as a KITTI folder on disk: training/{velodyne,calib,label_2,image_2} and ImageSets.

Frame k depends on (seed, k) alone, so frames can be made by any number of processes, in any order, and again after an
interruption. Each file appears whole or not at all. ``synthetic.json`` remembers what the folder was made from.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...errors import ConfigError, DataError
from ..kitti.folder import EXTRA_SPLITS
from .builder import Scene
from .camera import Camera
from .labels import kitti_label_lines
from .library import library
from .lidar import RayGrid, Sweep, cast
from .png import png_bytes, sketch
from .scenes import draw_scene

GENERATOR = 1  # raise when a change to the simulation changes the frames
MANIFEST = "synthetic.json"
FOLDERS = {"velodyne": "bin", "calib": "txt", "image_2": "png", "label_2": "txt"}
GROWING = ("holdout_frames", "unlabelled_frames")
FRAMES_WORTH_A_PROCESS = 150  # starting a worker takes as long as some 150 frames


@dataclass(frozen=True)
class Plan:
    """What a folder was made from. The frames of the splits ``holdout`` and ``unlabelled`` come after ``frames``."""

    seed: int
    frames: int
    val_frames: int
    generator: int = GENERATOR
    holdout_frames: int = 0
    unlabelled_frames: int = 0

    def splits(self) -> dict[str, Sequence[int]]:
        """The frames of each split; KITTI's own ``test`` has no labels, and stays empty."""
        first_val, end = self.frames - self.val_frames, self.frames + self.holdout_frames
        splits = {
            "train": range(first_val),
            "val": range(first_val, self.frames),
            "trainval": range(self.frames),
            "test": range(0),
            "holdout": range(self.frames, end),
            "unlabelled": range(end, end + self.unlabelled_frames),
        }
        return {
            name: frames for name, frames in splits.items() if frames or name not in EXTRA_SPLITS
        }

    @property
    def total(self) -> int:
        """All frames of the folder."""
        return self.frames + self.holdout_frames + self.unlabelled_frames


def create_synthetic_kitti(
    out: str | os.PathLike,
    frames: int,
    seed: int = 0,
    *,
    val_frames: int | None = None,
    holdout_frames: int = 0,
    unlabelled_frames: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write ``frames`` simulated frames to the folder ``out``; the last ``val_frames`` of them are for validation.

    ``holdout_frames`` more are a labelled split that is neither trained on nor chosen by, ``unlabelled_frames`` more
    one whose labels nobody reads. ``val_frames`` defaults to a fifth, ``workers`` to the number of cores; few frames
    are made by fewer processes. Frames that are there already are kept; a folder with fewer holdout or unlabelled ones
    is extended. A folder made from other numbers otherwise, or holding anything else, is a DataError.
    """
    plan = _checked_plan(
        Plan(
            int(seed),
            int(frames),
            int(frames // 5 if val_frames is None else val_frames),
            holdout_frames=int(holdout_frames),
            unlabelled_frames=int(unlabelled_frames),
        ),
        workers,
    )
    root = Path(out).expanduser()
    try:
        _claim(root, plan)
        missing = [frame for frame in range(plan.total) if not _complete(root, frame)]
        _write_frames(root, plan.seed, missing, workers, progress)
        _write_splits(root, plan)
    except OSError as error:
        raise DataError(
            f"{root}: cannot write the simulated frames there ({error.strerror or error})"
        ) from error
    return root


def simulate_frame(seed: int, frame: int, camera: Camera | None = None) -> tuple[Scene, Sweep]:
    """One frame in memory: the street and what the LiDAR sees of it."""
    rng = np.random.default_rng([seed, frame])
    camera = camera or Camera.standard()
    scene = draw_scene(rng)
    return scene, cast(
        RayGrid.for_camera(camera, rng),
        library().shapes,
        scene.instances,
        scene.ground,
        camera,
        rng,
    )


def _checked_plan(plan: Plan, workers: int | None) -> Plan:
    if plan.frames < 1:
        raise ConfigError(
            f"frames: {plan.frames} simulated frames were asked for, at least 1 is needed"
        )
    if plan.total > 1_000_000:
        raise ConfigError(
            f"frames: {plan.total} do not fit KITTI's six-digit file names, at most 1000000 do"
        )
    for name in ("seed", "holdout_frames", "unlabelled_frames"):
        if getattr(plan, name) < 0:
            raise ConfigError(f"{name}: {getattr(plan, name)} is negative, expected 0 or more")
    if workers is not None and workers < 0:
        raise ConfigError(
            f"workers: {workers} is negative, expected 0 or 1 (this process) or a number of processes"
        )
    if not 0 <= plan.val_frames < plan.frames:
        raise ConfigError(
            f"val_frames: {plan.val_frames} of {plan.frames} frames asked for, expected 0 to "
            f"{plan.frames - 1}"
        )
    return plan


def _claim(root: Path, plan: Plan) -> None:
    """Make the folder ours, or refuse: it must be new, empty, or made from the same plan."""
    manifest = root / MANIFEST
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file, expected a folder to write simulated frames to")
    if manifest.exists():
        known = {**dict.fromkeys(GROWING, 0), **_read_manifest(manifest)}
        wrong = [
            (key, value)
            for key, value in asdict(plan).items()
            if known.get(key) != value and not _grows(key, known, plan)
        ]
        if wrong:
            other = ", ".join(f"{key} {known.get(key)} instead of {value}" for key, value in wrong)
            raise DataError(
                f"{root}: holds simulated frames made with {other}; choose another folder or remove it"
            )
    elif root.exists() and any(entry.name != MANIFEST + ".part" for entry in root.iterdir()):
        raise DataError(
            f"{root}: is not empty and was not made by this command; choose a new or an empty folder"
        )
    root.mkdir(parents=True, exist_ok=True)
    _write_whole(manifest, (json.dumps(asdict(plan), indent=2) + "\n").encode())
    for folder in ("ImageSets", *(f"training/{name}" for name in FOLDERS)):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _grows(key: str, known: dict, plan: Plan) -> bool:
    """Whether ``key`` may differ: the last split of the folder gets more frames, and no frame changes its split."""
    if key not in GROWING or not isinstance(known[key], int) or known[key] > getattr(plan, key):
        return False
    return key == "unlabelled_frames" or known["unlabelled_frames"] == 0


def _read_manifest(path: Path) -> dict:
    try:
        known = json.loads(path.read_text())
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise DataError(
            f"{path}: is not the record of a simulated dataset; remove the folder and start again"
        )
    return known


def _paths(root: Path, frame: int) -> dict[str, Path]:
    return {
        name: root / "training" / name / f"{frame:06d}.{suffix}" for name, suffix in FOLDERS.items()
    }


def _complete(root: Path, frame: int) -> bool:
    return all(path.is_file() for path in _paths(root, frame).values())


def _write_frames(
    root: Path, seed: int, missing: list[int], workers: int | None, progress: bool
) -> None:
    limit = (os.cpu_count() or 1) if workers is None else workers
    workers = min(limit, 1 + len(missing) // FRAMES_WORTH_A_PROCESS)
    write = functools.partial(_write_frame, root, seed)
    hidden = None if progress and missing else True  # None: shown on a terminal only
    bar = functools.partial(
        tqdm, total=len(missing), desc="simulating", unit="frame", disable=hidden
    )
    if workers < 2 or len(missing) < 2:
        _exhaust(bar(map(write, missing)))
        return
    write(missing[0])  # compiles the kernels once, for all processes
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        _exhaust(bar(pool.imap_unordered(write, missing[1:], chunksize=4), initial=1))


def _exhaust(results: Iterable[None]) -> None:
    for _ in results:
        pass


def _write_frame(root: Path, seed: int, frame: int) -> None:
    """Simulate a frame and write its four files."""
    camera, paths = Camera.standard(), _paths(root, frame)
    scene, sweep = simulate_frame(seed, frame, camera)
    lines = kitti_label_lines(scene, sweep, camera)
    _write_whole(paths["velodyne"], sweep.points.tobytes())
    _write_whole(paths["calib"], camera.calibration_text().encode())
    _write_whole(paths["image_2"], png_bytes(sketch(lines)))
    _write_whole(paths["label_2"], "".join(line + "\n" for line in lines).encode())


def _write_splits(root: Path, plan: Plan) -> None:
    """ImageSets/<split>.txt of every split."""
    for name, chosen in plan.splits().items():
        _write_whole(
            root / "ImageSets" / f"{name}.txt",
            "".join(f"{frame:06d}\n" for frame in chosen).encode(),
        )


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the goal, then move into place: a reader never meets half a file."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
