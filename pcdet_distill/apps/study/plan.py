"""From a study's yaml to runs: each a command that a user could type, a folder, and files that show its end.

A run is an ordinary ``tools/train.py``, which evaluates the first split, and a ``tools/test.py`` for each further one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...config import load_config, to_plain
from ...engine.logging import NOT_CONFIG
from ...errors import ConfigError
from .spec import TEACHER, RowSpec, StudySpec, needed_rows, read_study

EVAL_TAG = "study"
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Options:
    """What the command line says about every run."""

    device: str | None = None
    workers: int = 0


@dataclass(frozen=True)
class Run:
    """One training of one row."""

    row: RowSpec
    seed: int
    epochs: int | None  # None: not known yet
    folder: Path  # of tools/train.py, from the checkout
    teacher_ckpt: str | None
    needs: tuple[str, ...]  # names of the runs that must be finished before

    @property
    def name(self) -> str:
        """``recipe-seed0``; the shared teacher has no number."""
        return TEACHER if self.row.name == TEACHER else f"{self.row.name}-seed{self.seed}"

    @property
    def tag(self) -> str:
        """The run's --extra_tag."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint, from the checkout."""
        return self.folder / "ckpt" / f"checkpoint_epoch_{self.epochs}.pth"

    def metrics(self, split: str, first: bool) -> Path:
        """metrics.json of an evaluation, from the checkout; the ``first`` split is evaluated by the training."""
        if first:
            return (
                self.folder
                / "eval"
                / "eval_with_train"
                / f"epoch_{self.epochs}"
                / split
                / "metrics.json"
            )
        return self.folder / "eval" / f"epoch_{self.epochs}" / split / EVAL_TAG / "metrics.json"


class StudyPlan:
    """All runs of a study. ``root`` is the checkout, where commands run and paths begin."""

    def __init__(self, spec: StudySpec, root: Path, options: Options | None = None) -> None:
        self.spec, self.root, self.options = spec, root, options or Options()
        self.folder = root / "output" / "study" / spec.name
        rows = [*([spec.teacher] if spec.teacher else []), *spec.rows.values()]
        self.configs = {row.name: self._config(row) for row in rows}
        self._chosen_epochs: dict[str, int] = {}
        for row in spec.rows.values():
            if (
                self.configs[row.name].get("DISTILL")
                and spec.teacher is None
                and row.teacher == TEACHER
            ):
                raise ConfigError(
                    f"{spec.file}: ROWS.{row.name} distils, and the study has no TEACHER; expected "
                    "TEACHER: {CONFIG: cfgs/..., EPOCHS: 10}"
                )

    @classmethod
    def read(cls, path: str | Path, root: Path, options: Options | None = None) -> StudyPlan:
        """From a yaml file."""
        return cls(read_study(path), root, options)

    def _config(self, row: RowSpec) -> Any:
        """The row's whole configuration, with its SET."""
        pairs = [text for key, value in row.settings.items() for text in (key, setting_text(value))]
        try:
            return load_config(self.root / row.config, pairs)
        except ConfigError as error:
            place = "TEACHER" if row.name == TEACHER else f"ROWS.{row.name}"
            raise ConfigError(f"{self.spec.file}: {place}: {error}") from None

    def choose_epochs(self, row: str, epochs: int) -> None:
        """Fix the epochs of a row of equal compute, once they are known."""
        self._chosen_epochs[row] = epochs

    def epochs(self, row: RowSpec) -> int | None:
        """How long a row trains; None while that depends on runs still to come."""
        return row.epochs if row.epochs is not None else self._chosen_epochs.get(row.name)

    def runs(self) -> list[Run]:
        """All runs, the teacher first, then the first seed of every row, the second seed of every row ..."""
        rows = list(self.spec.rows.values())
        longest = max(len(row.seeds) for row in rows)
        teacher = (
            [self.run(TEACHER)]
            if self.spec.teacher is not None and self.spec.teacher_ckpt is None
            else []
        )
        return teacher + [
            self.run(row.name, row.seeds[turn])
            for turn in range(longest)
            for row in rows
            if turn < len(row.seeds)
        ]

    def runs_of(self, row: str) -> list[Run]:
        """The runs of one row, or the teacher's."""
        return [self.run(row, seed) for seed in self.spec.row(row).seeds]

    def run(self, row_name: str, seed: int | None = None) -> Run:
        """One run; of the row's first seed when it has not this one (a teacher may have fewer seeds)."""
        row = self.spec.row(row_name)
        seed = seed if seed in row.seeds else row.seeds[0]
        tag = (
            f"teacher-{self.teacher_id()}"
            if row_name == TEACHER
            else f"{self.spec.name}-{row.name}-seed{seed}"
        )
        config = self.configs[row_name]
        folder = Path("output") / config.EXP_GROUP_PATH / config.TAG / tag
        checkpoint, needs = self._teacher_of(row, int(seed))
        if row.equal_compute_of:
            needs += tuple(run.name for name in needed_rows(row) for run in self.runs_of(name))
        return Run(row, int(seed), self.epochs(row), folder, checkpoint, needs)

    def _teacher_of(self, row: RowSpec, seed: int) -> tuple[str | None, tuple[str, ...]]:
        """The checkpoint a row learns from, and the run that makes it."""
        if row.name == TEACHER or not self.configs[row.name].get("DISTILL"):
            return None, ()
        if row.teacher == TEACHER and self.spec.teacher_ckpt is not None:
            return self.spec.teacher_ckpt, ()
        teacher = self.run(row.teacher, seed)
        return str(teacher.checkpoint), (teacher.name,)

    def teacher_id(self) -> str:
        """Eight digits from all that makes the teacher what it is: studies with the same one share its training."""
        assert self.spec.teacher is not None
        text = json.dumps(
            self.identity(self.spec.teacher, self.spec.teacher.seeds[0]), sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def identity(self, row: RowSpec, seed: int) -> dict[str, Any]:
        """What a run's result depends on: configuration, data, seed, epochs, teacher."""
        config = {
            key: value
            for key, value in to_plain(self.configs[row.name]).items()
            if key not in NOT_CONFIG
        }
        frames = self.spec.data.frames or {}
        data = {
            "path": self.spec.data.path,
            "seed": self.spec.data.seed,
            "train_frames": frames.get("train"),
        }
        if "unlabelled" in str(config["DATA_CONFIG"]["INFO_PATH"]["train"]):
            data["unlabelled_frames"] = frames.get("unlabelled")
        if row.name == TEACHER:
            return {"config": config, "data": data, "seed": seed, "epochs": row.epochs}
        teacher, _ = self._teacher_of(replace(row, equal_compute_of=()), seed)
        return {
            "config": config,
            "data": data,
            "seed": seed,
            "epochs": row.epochs,
            "teacher": teacher,
        }

    def train_command(self, run: Run) -> list[str]:
        """``tools/train.py ...``: trains, goes on where it was stopped, evaluates the first split."""
        command = [
            "tools/train.py",
            "--cfg_file",
            run.row.config,
            "--extra_tag",
            run.tag,
            "--epochs",
            str(run.epochs),
            "--seed",
            str(run.seed),
            "--workers",
            str(self.options.workers),
            "--max_ckpt_save_num",
            str(KEPT_CHECKPOINTS),
        ]
        if run.teacher_ckpt is not None:
            command += ["--teacher_ckpt", run.teacher_ckpt]
        return command + self._device() + self._settings(run, self.spec.evaluate[0])

    def test_command(self, run: Run, split: str) -> list[str]:
        """``tools/test.py ...``: evaluates the last checkpoint on a further split."""
        command = [
            "tools/test.py",
            "--cfg_file",
            run.row.config,
            "--extra_tag",
            run.tag,
            "--ckpt",
            str(run.checkpoint),
            "--eval_tag",
            EVAL_TAG,
            "--workers",
            str(self.options.workers),
        ]
        return command + self._device() + self._settings(run, split)

    def _device(self) -> list[str]:
        return ["--device", self.options.device] if self.options.device else []

    def _settings(self, run: Run, split: str) -> list[str]:
        """--set: the row's own values, the data and the split to evaluate."""
        pairs = {
            **run.row.settings,
            "DATA_CONFIG.DATA_SPLIT.test": split,
            "DATA_CONFIG.INFO_PATH.test": f"kitti_infos_{split}.pkl",
        }
        if self.spec.data.path is not None:
            pairs["DATA_CONFIG.DATA_PATH"] = self.spec.data.path
        return [
            "--set",
            *(text for key, value in pairs.items() for text in (key, setting_text(value))),
        ]

    def commands(self, run: Run) -> list[tuple[list[str], Path]]:
        """Each command of a run with the file that shows it is done, from the checkout."""
        first, *others = self.spec.evaluate
        return [
            (self.train_command(run), run.metrics(first, True)),
            *((self.test_command(run, split), run.metrics(split, False)) for split in others),
        ]

    def results(self, run: Run) -> dict[str, Path]:
        """metrics.json of every split."""
        return {
            split: self.root / run.metrics(split, number == 0)
            for number, split in enumerate(self.spec.evaluate)
        }


def setting_text(value: Any) -> str:
    """A yaml value as ``--set`` reads it."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return ",".join(map(setting_text, value))
    return str(value)


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """The key paths at which two plain structures differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            found
            for key in [*before, *(key for key in now if key not in before)]
            for found in differences(
                before.get(key), now.get(key), f"{path}.{key}" if path else str(key)
            )
        ]
    return [] if before == now else [f"{path} ({before} -> {now})"]
