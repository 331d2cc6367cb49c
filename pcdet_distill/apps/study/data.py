"""The data of a study: simulated once, by the commands a user could type."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .plan import StudyPlan
from .spec import DataSpec


def data_commands(plan: StudyPlan) -> list[list[str]]:
    """The commands that make what is missing of the data; none for data that the study does not make."""
    data = plan.spec.data
    if data.frames is None or data.path is None:
        return []
    folder = plan.root / data.path
    if not _simulated(folder, data):
        return all_data_commands(plan)
    splits = [split for split, count in data.frames.items() if count]
    lists = [folder / "ImageSets" / f"{split}.txt" for split in splits]
    infos = [folder / f"kitti_infos_{split}.pkl" for split in splits] + [
        folder / "kitti_dbinfos_train.pkl"
    ]
    newest = max(path.stat().st_mtime for path in lists)
    ready = all(path.is_file() and path.stat().st_mtime >= newest for path in infos)
    return [] if ready else [_prepare(data)]


def claim_name(plan: StudyPlan) -> str:
    """Of the claim on the data's folder, which several studies may have."""
    return "data-" + hashlib.sha256(str(plan.spec.data.path).encode()).hexdigest()[:8]


def all_data_commands(plan: StudyPlan) -> list[list[str]]:
    """The commands that make the data from nothing."""
    data = plan.spec.data
    return [] if data.frames is None or data.path is None else [_simulate(data), _prepare(data)]


def _simulated(folder: Path, data: DataSpec) -> bool:
    """Whether the split files, which are written last, list the frames of this study."""
    try:
        manifest = json.loads((folder / "synthetic.json").read_text())
        counts = {
            split: len((folder / "ImageSets" / f"{split}.txt").read_text().split())
            for split, count in (data.frames or {}).items()
            if count
        }
    except (OSError, ValueError):
        return False
    return manifest.get("seed") == data.seed and all(
        counts[split] == (data.frames or {})[split] for split in counts
    )


def _simulate(data: DataSpec) -> list[str]:
    frames = data.frames or {}
    return [
        "tools/create_data.py",
        "synthetic",
        "--out",
        str(data.path),
        "--seed",
        str(data.seed),
        "--frames",
        str(frames["train"] + frames["val"]),
        "--val_frames",
        str(frames["val"]),
        "--holdout_frames",
        str(frames["holdout"]),
        "--unlabelled_frames",
        str(frames["unlabelled"]),
    ]


def _prepare(data: DataSpec) -> list[str]:
    return ["tools/create_data.py", "kitti", data.config, "--set", "DATA_PATH", str(data.path)]
