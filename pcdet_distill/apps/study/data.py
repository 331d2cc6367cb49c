"""The data of a study: simulated once, by commands that a user could type."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ...datasets.synthetic import read_scenes
from ...datasets.synthetic.options import EASY
from ...datasets.synthetic.sensor_options import STANDARD, read_sensors
from ...datasets.synthetic.writer import MANIFEST, FolderPlan, check_manifest
from ...errors import DataError, UserError
from ..tools import tool_words
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
    return [] if _is_prepared(folder, plan) else [_prepare_command(data, plan.root)]


def all_data_commands(plan: StudyPlan) -> list[list[str]]:
    """The commands that make the data in an empty folder."""
    data = plan.spec.data
    if data.frames is None or data.path is None:
        return []
    return [_simulate_command(data, plan.root), _prepare_command(data, plan.root)]


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


def claim_name(plan: StudyPlan) -> str:
    """The name of the claim on the data's folder, which several studies may use."""
    return "data-" + hashlib.sha256(str(plan.spec.data.path).encode()).hexdigest()[:8]


def _splits(data: StudyData) -> dict[str, int]:
    """The splits that have frames, with their number."""
    return {split: count for split, count in (data.frames or {}).items() if count}


def _is_simulated(folder: Path, data: StudyData) -> bool:
    """Whether the split files, which the simulator writes last, list this study's frames.

    A folder of other scenes or sensors counts as missing: the simulator then says what differs.
    """
    manifest = folder / MANIFEST
    try:
        for split, count in _splits(data).items():
            frames = (folder / "ImageSets" / f"{split}.txt").read_text().split()
            if len(frames) != count:
                return False
        check_manifest(manifest, _folder_plan(data))
    except (OSError, DataError):
        return False
    return manifest.exists()


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


def _is_prepared(folder: Path, plan: StudyPlan) -> bool:
    """Whether the info files and the object database are newer than the frames."""
    data = plan.spec.data
    lists = [folder / "ImageSets" / f"{split}.txt" for split in _splits(data)]
    infos = [folder / f"kitti_infos_{split}.pkl" for split in _splits(data)]
    infos += [folder / f"kitti_infos_{split}.pkl" for split in plan.spec.evaluate]
    infos.append(folder / "kitti_dbinfos_train.pkl")
    newest = max(path.stat().st_mtime for path in lists)
    return all(path.is_file() and path.stat().st_mtime >= newest for path in infos)


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


def _prepare_command(data: StudyData, root: Path) -> list[str]:
    words = [*tool_words("data", root), "kitti", data.config]
    return [*words, "--set", "DATA_PATH", str(data.path)]
