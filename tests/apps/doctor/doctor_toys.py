"""Frames of the simulator as arrays that a test can spoil, and a case of the doctor with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from easydict import EasyDict

from pcdet_distill.apps.doctor import Case, Finding, Severity, read_case, run_checks
from pcdet_distill.apps.doctor.finding import ORDER
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DATASETS, DatasetTemplate
from pcdet_distill.datasets.item import Item
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.errors import DataError
from pcdet_distill.types import ConfigDict

YAML = "cfgs/synthetic/pointpillar_teacher.yaml"
VAL_FRAMES = 8


@dataclass
class ToyFrame:
    """One labelled cloud."""

    name: str
    points: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    error: str = ""


@dataclass
class ToyData:
    """The frames of both splits."""

    train: list[ToyFrame] = field(default_factory=list)
    val: list[ToyFrame] = field(default_factory=list)

    @property
    def frames(self) -> list[ToyFrame]:
        """Of both splits."""
        return [*self.train, *self.val]

    def copy(self) -> ToyData:
        """Frames that can be spoiled."""
        return copy.deepcopy(self)


class ToyDataset(DatasetTemplate):
    """Serves the frames that ``make_case`` has put into ``data``."""

    data = ToyData()

    def __init__(
        self,
        dataset_cfg: ConfigDict,
        class_names: Sequence[str],
        training: bool = True,
        root_path: Path | None = None,
        *arguments: object,
        **options: object,
    ) -> None:
        super().__init__(dataset_cfg, class_names, training, root_path, *arguments, **options)
        split = dataset_cfg["DATA_SPLIT"][self.mode]
        self.frames: list[ToyFrame] = getattr(self.data, split)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def frame_name(self, index: int) -> str:
        return self.frames[index].name

    def load_frame(self, index: int) -> Item:
        frame = self.frames[index]
        if frame.error:
            raise DataError(frame.error)
        return {
            "frame_id": frame.name,
            "points": frame.points.copy(),
            "gt_boxes": frame.boxes.astype(np.float32),
            "gt_names": frame.names.copy(),
        }


DATASETS["ToyDataset"] = ToyDataset


def simulate(folder: Path, num_frames: int = 28) -> ToyData:
    """Frames of the easy scenes, read back through the KITTI files."""
    create_synthetic_kitti(str(folder), num_frames, 7, val_frames=VAL_FRAMES, workers=1)
    create_kitti_infos(folder, 1)
    case = read_case(load_config(YAML, ["DATA_PATH", str(folder)]), 0)
    data = ToyData()
    for name, split in case.splits.items():
        for frame in split.frames:
            item = split.dataset.load_frame(frame.index)
            toy = ToyFrame(
                frame.name, item["points"], np.array(item["gt_boxes"], float), item["gt_names"]
            )
            getattr(data, name).append(toy)
    return data


def toy_config(changes: Callable[[EasyDict], None] | None = None) -> EasyDict:
    """The synthetic PointPillars on ``ToyDataset``, changed by ``changes``."""
    cfg = load_config(YAML)
    cfg.DATA_CONFIG.update(DATASET="ToyDataset", DATA_PATH="/tmp")
    cfg.DATA_CONFIG.DATA_SPLIT = {"train": "train", "test": "val"}
    listed = cfg.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST
    cfg.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST = [
        entry for entry in listed if entry.NAME != "gt_sampling"
    ]
    if changes is not None:
        changes(cfg)
    return cfg


def make_case(data: ToyData, changes: Callable[[EasyDict], None] | None = None) -> Case:
    """A case with these frames and a changed yaml."""
    ToyDataset.data = data
    return read_case(toy_config(changes), 0)


def find(
    data: ToyData,
    changes: Callable[[EasyDict], None] | None = None,
    checks: Sequence[str] | None = None,
) -> list[Finding]:
    """The findings of these checks, or of all."""
    case = make_case(data, changes)
    return list(run_checks(case, checks) if checks else run_checks(case))


def alarms(findings: Sequence[Finding]) -> list[Finding]:
    """Errors and warnings."""
    return [finding for finding in findings if finding.severity is not Severity.NOTE]


def named(findings: Sequence[Finding], check: str, severity: Severity, *words: str) -> bool:
    """Whether a finding of this check is at least so bad and contains these words."""
    for finding in findings:
        is_bad = ORDER.index(finding.severity) <= ORDER.index(severity)
        text = f"{finding.where} {finding.what} {finding.fix}"
        if finding.check == check and is_bad and all(word in text for word in words):
            return True
    return False
