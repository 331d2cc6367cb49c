"""The data of a study: simulated once, by commands that a user could type."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ...datasets.synthetic import read_scenes
from ...datasets.synthetic.scenes.options import EASY
from ...datasets.synthetic.sensors.sensor_options import STANDARD, read_sensors
from ...datasets.synthetic.writer import MANIFEST, FolderPlan, check_manifest
from ...errors import DataError, UserError
from ..tools import read_experiment, tool_words
from .plan import StudyPlan
from .spec import StudyData

FEW = {"train": 4, "val": 2, "holdout": 2, "unlabelled": 2}  # frames to try a study out


def data_commands(plan: StudyPlan) -> list[list[str]]:
    """The commands that make the missing data; none for data that the study does not simulate."""
    data = plan.spec.data
    if data.frames is None or data.path is None:
        return []
    folder = plan.root / data.path
    if not _is_simulated(folder, data):
        return all_data_commands(plan)
    configs = [each for each in data.configs if not _is_prepared(folder, plan, each)]
    return [_prepare_command(data, each, plan.root) for each in configs]


def all_data_commands(plan: StudyPlan) -> list[list[str]]:
    """The commands that make the data in an empty folder."""
    data = plan.spec.data
    if data.frames is None or data.path is None:
        return []
    prepare = [_prepare_command(data, config, plan.root) for config in data.configs]
    return [_simulate_command(data, plan.root), *prepare]


def run_data_commands(
    commands: Sequence[Sequence[str]], root: Path, say: Callable[[str], None], quiet: bool = False
) -> None:
    """Run commands that make data, from the checkout; a UserError when one fails."""
    for command in commands:
        say("$ python " + shlex.join(command))
        output = subprocess.DEVNULL if quiet else None
        done = subprocess.run([sys.executable, *command], cwd=root, stdout=output)
        if done.returncode:
            raise UserError("the data could not be made, the message is above")


def with_few_frames(plan: StudyPlan, folder: Path) -> StudyPlan:
    """The same study on a handful of simulated frames in ``folder``, to try its rows out."""
    data = plan.spec.data
    few = {split: min(count, FEW[split]) for split, count in (data.frames or {}).items()}
    spec = replace(plan.spec, data=replace(data, path=str(folder), frames=few))
    return StudyPlan(spec, plan.root, plan.options)


def lock_name(plan: StudyPlan) -> str:
    """The name of the lock of the data's folder, which several studies may use."""
    return "data-" + hashlib.sha256(str(plan.spec.data.path).encode()).hexdigest()[:8]


def _splits(data: StudyData) -> dict[str, int]:
    """The splits that have frames, with their number."""
    return {split: count for split, count in (data.frames or {}).items() if count}


def _is_simulated(folder: Path, data: StudyData) -> bool:
    """Whether the split files, which the simulator writes last, list this study's frames.

    A folder of other scenes or sensors counts as missing: the simulator then adds what it may, or
    says what differs.
    """
    planned = _folder_plan(data)
    try:
        for split, count in _splits(data).items():
            frames = (folder / "ImageSets" / f"{split}.txt").read_text().split()
            if len(frames) != count:
                return False
        check_manifest(folder / MANIFEST, planned)
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError, DataError):
        return False
    # Folders of the first versions do not mention these: they have one sweep of the usual sensor.
    usual = replace(planned, sensors=read_sensors((STANDARD,)), sweeps=1).record()
    record = planned.record()
    return all(manifest.get(key, usual[key]) == record[key] for key in ("sensors", "sweeps"))


def _folder_plan(data: StudyData) -> FolderPlan:
    """What the simulator makes the folder from."""
    frames = data.frames or {}
    return FolderPlan(
        seed=data.seed,
        frames=frames["train"] + frames["val"],
        val_frames=frames["val"],
        holdout_frames=frames["holdout"],
        unlabelled_frames=frames["unlabelled"],
        sensors=read_sensors(data.sensors or (STANDARD,)),
        scenes=read_scenes(data.scenes) if data.scenes else EASY,
        sweeps=data.sweeps or 1,
    )


def _is_prepared(folder: Path, plan: StudyPlan, config: str) -> bool:
    """Whether the info files and the object databases of a yaml are newer than the frames."""
    data = plan.spec.data
    lists = [folder / "ImageSets" / f"{split}.txt" for split in _splits(data)]
    infos = [folder / f"kitti_infos_{split}.pkl" for split in _splits(data)]
    infos += [folder / f"kitti_infos_{split}.pkl" for split in plan.spec.evaluate]
    infos += [folder / name for name in _databases(config, plan.root)]
    newest = max(path.stat().st_mtime for path in lists)
    return all(path.is_file() and path.stat().st_mtime >= newest for path in infos)


def _databases(config: str, root: Path) -> list[str]:
    """The object databases that the augmentation of a data set's yaml samples from."""
    content = read_experiment(config, root)
    data_config = content.get("DATA_CONFIG", content)
    augmentor = data_config.get("DATA_AUGMENTOR") or {}
    names: list[str] = []
    for entry in augmentor.get("AUG_CONFIG_LIST") or []:
        names += entry.get("DB_INFO_PATH") or []
    return names


def _simulate_command(data: StudyData, root: Path) -> list[str]:
    frames = data.frames or {}
    words = [*tool_words("data", root), "synthetic"]
    words += ["--out", str(data.path), "--seed", str(data.seed)]
    words += ["--frames", str(frames["train"] + frames["val"])]
    words += ["--val_frames", str(frames["val"])]
    words += ["--holdout_frames", str(frames["holdout"])]
    words += ["--unlabelled_frames", str(frames["unlabelled"])]
    if data.scenes is not None:
        words += ["--scenes", data.scenes]
    if data.sensors:
        words += ["--sensor", *data.sensors]
    if data.sweeps is not None:
        words += ["--sweeps", str(data.sweeps)]
    return words


def _prepare_command(data: StudyData, config: str, root: Path) -> list[str]:
    words = [*tool_words("data", root), "kitti", config]
    return [*words, "--set", "DATA_PATH", str(data.path)]
