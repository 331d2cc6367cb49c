"""A distillation of seconds: everything that a long one does, on six simulated frames.

The teacher's predictions are cached, the student is initialised from the teacher, a checkpoint is
written after every step, and the last one is evaluated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pcdet_distill import cli
from pcdet_distill.checkpoint import load_checkpoint

from .children import Child, run

FRAMES = 8
VAL_FRAMES = 2
EPOCHS = 2
STEPS = 6
DATA = """
_BASE_CONFIG_: cfgs/synthetic/dataset.yaml
DATA_PATH: data/kitti
POINT_CLOUD_RANGE: [0, -6.4, -3, 25.6, 6.4, 1]
"""
TEACHER = """
_BASE_CONFIG_: cfgs/synthetic/pointpillar_teacher.yaml
DATA_CONFIG: {_BASE_CONFIG_: cfgs/faults/data.yaml}
MODEL:
    VFE: {NUM_FILTERS: [8]}
    MAP_TO_BEV: {NUM_BEV_FEATURES: 8}
    BACKBONE_2D: {NUM_FILTERS: [8, 8, 8], NUM_UPSAMPLE_FILTERS: [8, 8, 8]}
"""
# The teacher has seen six frames for one epoch: the thresholds let its faint scores pass.
STUDENT = """
_BASE_CONFIG_: cfgs/synthetic/recipes/init_slice_logitbox_cached.yaml
DATA_CONFIG: {_BASE_CONFIG_: cfgs/faults/data.yaml}
MODEL:
    VFE: {NUM_FILTERS: [4]}
    MAP_TO_BEV: {NUM_BEV_FEATURES: 4}
    BACKBONE_2D: {NUM_FILTERS: [4, 4, 4], NUM_UPSAMPLE_FILTERS: [4, 4, 4]}
DISTILL:
    TEACHER: {CFG_FILE: cfgs/faults/teacher.yaml, CACHE_THRESH: 0.005}
    TERMS: {LOGIT_BOX: {SCORE_THRESH: 0.01}}
"""


class SmallTraining:
    """The data, the teacher and the command of the small distillation.

    Args:
        folder: an empty folder, in which everything happens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = str(folder / "cfgs" / "faults" / "student.yaml")
        self.teacher_config = str(folder / "cfgs" / "faults" / "teacher.yaml")
        self.logs = folder / "logs"

    def prepare(self) -> None:
        """Write data and configs and train the teacher, in children: this process stays clean."""
        configs = self.folder / "cfgs" / "faults"
        configs.mkdir(parents=True)
        self.logs.mkdir()
        for name, text in (("data", DATA), ("teacher", TEACHER), ("student", STUDENT)):
            (configs / f"{name}.yaml").write_text(text)
        frames = ["synthetic", "--out", str(self.data), "--frames", str(FRAMES), "--workers", "1"]
        self._must_end_well(
            run(cli.data, [*frames, "--val_frames", str(VAL_FRAMES)], self.logs / "frames")
        )
        infos = run(cli.data, ["kitti", str(configs / "data.yaml")], self.logs / "infos")
        self._must_end_well(infos)
        teacher = ["--cfg_file", self.teacher_config, "--epochs", "1", "--seed", "0"]
        # In this process: it loads what the children would each have to load again.
        cli.train([*teacher, "--workers", "0", "--device", "cpu"])

    @property
    def data(self) -> Path:
        """The simulated frames, in KITTI's folders."""
        return self.folder / "data" / "kitti"

    @property
    def teacher_checkpoint(self) -> Path:
        """The trained teacher."""
        return self.outputs("teacher") / "default" / "ckpt" / "checkpoint_epoch_1.pth"

    def outputs(self, config: str = "student") -> Path:
        """The folder of a config's output folders."""
        return self.folder / "output" / "faults" / config

    def arguments(self, tag: str, *more: str, workers: int = 0) -> list[str]:
        """The command line of a distillation into the output folder ``tag``."""
        words = ["--cfg_file", self.config, "--teacher_ckpt", str(self.teacher_checkpoint)]
        words += ["--epochs", str(EPOCHS), "--seed", "0", "--workers", str(workers)]
        words += ["--device", "cpu", "--ckpt_save_time_interval", "0", "--extra_tag", tag, *more]
        return [*words, "--set", "DISTILL.TEACHER.CACHE_DIR", str(self.cache(tag))]

    def cache(self, tag: str) -> Path:
        """Where a distillation stores the teacher's predictions: each computes its own."""
        return self.folder / "cache" / tag

    def start(self, tag: str, *more: str, workers: int = 0, name: str = "run") -> Child:
        """Begin a distillation, or go on with it."""
        arguments = self.arguments(tag, *more, workers=workers)
        return Child(cli.train, arguments, self.logs / f"{tag}-{name}")

    def finish(self, tag: str) -> str:
        """Restart a distillation and let it end; what is wrong with the end, or nothing."""
        child = self.start(tag, name="restart")
        if child.wait() != 0:
            return f"the restart ended with {child.code}: {child.sentence}"
        return self.difference(tag)

    def fresh_run(self, tag: str) -> None:
        """The undisturbed run, by the command line in a fresh process."""
        command = [sys.executable, "-m", "pcdet_distill", "train", *self.arguments(tag)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    def difference(self, tag: str, reference: str = "undisturbed") -> str:
        """What differs between two output folders that should be the same; empty if nothing."""
        return difference(self.outputs() / reference, self.outputs() / tag)

    @staticmethod
    def _must_end_well(child: Child) -> None:
        if child.code != 0:
            raise RuntimeError(f"{child.out_path}: ended with {child.code}: {child.errors}")


# --- What must be equal ---------------------------------------------------------------------------


def difference(expected: Path, found: Path) -> str:
    """What differs in checkpoints, results, records or files left behind; empty if nothing."""
    for check in (_leftovers, _checkpoints, _results, _records):
        problem = check(expected, found)
        if problem:
            return problem
    return ""


def _leftovers(expected: Path, found: Path) -> str:
    """Unfinished files and lock files that nobody needs any more."""
    left = [path for path in found.rglob("*") if path.suffix == ".partial" or path.name == ".lock"]
    return f"left behind: {left[0].relative_to(found)}" if left else ""


def _checkpoints(expected: Path, found: Path) -> str:
    """Weights, optimizer and random states after every epoch, to the last bit."""
    for epoch in range(1, EPOCHS + 1):
        name = Path("ckpt") / f"checkpoint_epoch_{epoch}.pth"
        if not (found / name).is_file():
            return f"no {name}"
        if not identical(load_checkpoint(expected / name), load_checkpoint(found / name)):
            return f"another {name}"
    return ""


def _results(expected: Path, found: Path) -> str:
    """The detections of the last checkpoint, byte by byte, and their AP."""
    folder = Path("eval") / "eval_with_train" / f"epoch_{EPOCHS}" / "val"
    for name in ("result.pkl", "metrics.json"):
        if not (found / folder / name).is_file():
            return f"no {folder / name}"
        if _measured(expected / folder / name) != _measured(found / folder / name):
            return f"another {folder / name}"
    return ""


def _measured(path: Path) -> object:
    """What a file of results says, but for the time that it took."""
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text())
    content.pop("seconds_per_sample")
    return content


def _records(expected: Path, found: Path) -> str:
    """Every recorded iteration once, and none after the end."""
    recorded = []
    for line in (found / "metrics.jsonl").read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return f"metrics.jsonl: half a line: {line[:40]}"
        if record["kind"] == "train":
            recorded.append(record["it"])
    if recorded != sorted(set(recorded)) or not set(recorded) <= set(range(1, STEPS + 1)):
        return f"metrics.jsonl: records of the iterations {recorded}"
    return ""


def identical(first: object, second: object) -> bool:
    """Whether two checkpoints, or parts of them, are equal to the last bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        same_keys = list(first) == list(second)
        return same_keys and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        if not isinstance(second, Sequence) or len(first) != len(second):
            return False
        return all(identical(*pair) for pair in zip(first, second))
    return first == second
