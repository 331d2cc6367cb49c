"""From a study's yaml to runs: commands that a user could type, and the files they write.

A run is an ordinary ``tools/train.py``, which evaluates the first split, and a ``tools/test.py``
for each further split. A given teacher checkpoint is only evaluated, by ``tools/test.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from easydict import EasyDict

from ...config import to_plain
from ...engine.evaluate import epoch_of_checkpoint
from ...engine.logging import NOT_CONFIG
from ...errors import ConfigError
from ..tools import read_experiment, tool_words
from .spec import (
    STEPS,
    TEACHER,
    TRUE_LABELS,
    RowSpec,
    StudyData,
    StudySpec,
    base_split,
    needed_rows,
    read_study,
)

EVAL_TAG = "study"
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Options:
    """How every run of a study is started."""

    device: str | None = None
    workers: int = 0


class Command(NamedTuple):
    """The words after ``python``, and the file whose existence shows that the command is done."""

    words: list[str]
    result: Path  # from the checkout


@dataclass(frozen=True)
class Run:
    """One row with one seed. All paths are relative to the checkout."""

    row: RowSpec
    seed: int
    epochs: int | None  # None: not chosen yet, or nothing is trained
    folder: Path  # output folder of tools/train.py
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
    def is_trained(self) -> bool:
        """Whether the study trains it; a given checkpoint is only evaluated."""
        return self.row.checkpoint is None

    @property
    def has_commands(self) -> bool:
        """Whether its commands are known: a row of EQUAL_COMPUTE_OF has none before its epochs."""
        return self.epochs is not None or not self.is_trained

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that is evaluated."""
        if self.row.checkpoint is not None:
            return Path(self.row.checkpoint)
        return self.folder / "ckpt" / f"checkpoint_epoch_{self.epochs}.pth"


class StudyPlan:
    """All runs of a study. ``root`` is the checkout, where commands run and paths begin."""

    def __init__(self, spec: StudySpec, root: Path, options: Options | None = None) -> None:
        self.spec = spec
        self.root = root
        self.options = options or Options()
        self.folder = root / "output" / "study" / spec.name
        self.configs = {row.name: self._load_config(row) for row in spec.all_rows()}
        self._chosen_epochs: dict[str, int] = {}
        for row in spec.rows.values():
            self._check_teacher(row)

    @classmethod
    def read(cls, path: str | Path, root: Path, options: Options | None = None) -> StudyPlan:
        """From a yaml file."""
        return cls(read_study(path), root, options)

    def _load_config(self, row: RowSpec) -> EasyDict:
        """The row's whole configuration, with its SET."""
        try:
            return read_experiment(row.config, self.root, setting_words(row.settings))
        except ConfigError as error:
            place = "TEACHER" if row.name == TEACHER else f"ROWS.{row.name}"
            raise ConfigError(f"{self.spec.file}: {place}: {error}") from None

    def _check_teacher(self, row: RowSpec) -> None:
        if self.distils(row) and row.teacher == TEACHER and self.spec.teacher is None:
            raise ConfigError(
                f"{self.spec.file}: ROWS.{row.name} distils, and the study has no TEACHER; "
                "expected TEACHER: {CONFIG: cfgs/..., EPOCHS: 10}"
            )

    def distils(self, row: RowSpec) -> bool:
        """Whether a row learns from a teacher, by its first weights or by losses."""
        return row.name != TEACHER and bool(self.configs[row.name].get("DISTILL"))

    def has_cache(self, row: RowSpec) -> bool:
        """Whether a row learns from stored predictions of its teacher."""
        block = self.configs[row.name].get("DISTILL") or {}
        return bool((block.get("TEACHER") or {}).get("CACHE")) and row.name != TEACHER

    def same_training(self, row: RowSpec, other: RowSpec) -> bool:
        """Whether two rows train the same, for however many epochs."""
        if row.checkpoint is not None or other.checkpoint is not None:
            return False
        if self.distils(row) and row.teacher != other.teacher:
            return False
        return self._training_config(row) == self._training_config(other)

    def _training_config(self, row: RowSpec) -> dict[str, object]:
        """A row's configuration without what its file adds about itself."""
        whole = to_plain(self.configs[row.name])
        return {key: value for key, value in whole.items() if key not in NOT_CONFIG}

    def choose_epochs(self, row: str, epochs: int) -> None:
        """Fix the epochs of a row of equal compute, once they are known."""
        self._chosen_epochs[row] = epochs

    def epochs(self, row: RowSpec) -> int | None:
        """How long a row trains; None while that depends on unfinished runs."""
        return row.epochs if row.epochs is not None else self._chosen_epochs.get(row.name)

    def runs(self) -> list[Run]:
        """All runs: the teacher, the first seed of every row, the second seed of every row ..."""
        rows = list(self.spec.rows.values())
        runs = [] if self.spec.teacher is None else [self.run(TEACHER)]
        most_seeds = max(len(row.seeds) for row in rows)
        for turn in range(most_seeds):
            for row in rows:
                if turn < len(row.seeds):
                    runs.append(self.run(row.name, row.seeds[turn]))
        return runs

    def is_shared(self, row: RowSpec) -> bool:
        """Whether other studies may train the row for this one, or use what this one trains.

        The epochs of a row of equal compute are chosen by each study, so it is not shared.
        """
        return row.name == TEACHER or (self.spec.share is not None and not row.equal_compute_of)

    def runs_of(self, row: str) -> list[Run]:
        """The runs of one row, or the teacher's."""
        return [self.run(row, seed) for seed in self.spec.row(row).seeds]

    def run(self, row_name: str, seed: int | None = None) -> Run:
        """One run. A row without this seed gives its first one: a teacher may have fewer seeds."""
        row = self.spec.row(row_name)
        known_seed = seed if seed is not None and seed in row.seeds else row.seeds[0]
        config = self.configs[row_name]
        if row_name == TEACHER:
            tag = f"teacher-{self.teacher_id()}"
        else:
            owner = self.spec.share if self.is_shared(row) else self.spec.name
            tag = f"{owner}-{row.name}-seed{known_seed}"
        folder = Path("output") / config.EXP_GROUP_PATH / config.TAG / tag
        teacher_ckpt, needs = self._teacher_of(row, known_seed)
        if row.equal_compute_of:
            needs = tuple(dict.fromkeys(needs + self._needed_for_epochs(row)))
        return Run(row, known_seed, self.epochs(row), folder, teacher_ckpt, needs)

    def _needed_for_epochs(self, row: RowSpec) -> tuple[str, ...]:
        """The runs that must end before the epochs of a row of equal compute can be chosen.

        Counted steps only need trained teachers, measured seconds need whole trainings.
        """
        needs: list[str] = []
        for name in needed_rows(row):
            if self.spec.cost == STEPS:
                needs += self.teacher_runs(self.spec.row(name))
            else:
                needs += [run.name for run in self.runs_of(name)]
        return tuple(dict.fromkeys(needs))

    def teacher_runs(self, row: RowSpec) -> tuple[str, ...]:
        """The run that trains the teacher of a row's first seed; empty for a plain row."""
        _, needs = self._teacher_of(row, row.seeds[0])
        return needs

    def _teacher_of(self, row: RowSpec, seed: int) -> tuple[str | None, tuple[str, ...]]:
        """The checkpoint a row learns from, and the runs that must make it first."""
        if not self.distils(row):
            return None, ()
        teacher = self.run(row.teacher, seed)
        needs = (teacher.name,) if teacher.is_trained else ()
        return str(teacher.checkpoint), needs

    def teacher_id(self) -> str:
        """Eight digits of a hash over all that decides the teacher's result.

        The teacher's folder is named by them, so studies with the same teacher share its training.
        """
        assert self.spec.teacher is not None
        identity = self.identity(self.spec.teacher, self.spec.teacher.seeds[0])
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def identity(self, row: RowSpec, seed: int) -> dict[str, object]:
        """What a run's result depends on: configuration, data, seed, epochs, teacher."""
        config = self._training_config(row)
        identity: dict[str, object] = {
            "config": config,
            "data": self._data_identity(self._train_infos(row)),
            "seed": seed,
            "epochs": row.epochs,
        }
        if row.checkpoint is not None:
            identity["checkpoint"] = row.checkpoint
        if row.name != TEACHER:
            # Only the teacher's checkpoint is wanted here, not the runs of equal compute.
            identity["teacher"], _ = self._teacher_of(replace(row, equal_compute_of=()), seed)
        return identity

    def _train_infos(self, row: RowSpec) -> str:
        """The info files of the frames that a row trains on."""
        return str(self.configs[row.name].DATA_CONFIG.INFO_PATH.train)

    def _data_identity(self, info_files: str) -> dict[str, object]:
        """The data of a run. Unlabelled frames count only where the run trains on them."""
        data = self.spec.data
        frames = data.frames or {}
        identity: dict[str, object] = {
            "path": data.path,
            "seed": data.seed,
            "train_frames": frames.get("train"),
        }
        if "unlabelled" in info_files:
            identity["unlabelled_frames"] = frames.get("unlabelled")
        return {**identity, **simulator_options(data)}

    def commands(self, run: Run) -> list[Command]:
        """The commands of a run, in their order."""
        first, *others = self.spec.evaluate
        commands = []
        if run.is_trained:
            commands.append(Command(self.train_command(run), self.metrics_file(run, first)))
        else:
            others = [first, *others]
        for split in others:
            commands.append(Command(self.test_command(run, split), self.metrics_file(run, split)))
        return commands

    def train_command(self, run: Run) -> list[str]:
        """``tools/train.py ...``: trains or resumes, then evaluates the first split."""
        words = [
            *tool_words("train", self.root),
            "--cfg_file",
            run.row.config,
            "--extra_tag",
            run.tag,
        ]
        words += ["--epochs", str(run.epochs), "--seed", str(run.seed)]
        words += ["--workers", str(self.options.workers)]
        words += ["--max_ckpt_save_num", str(KEPT_CHECKPOINTS)]
        if run.teacher_ckpt is not None:
            words += ["--teacher_ckpt", run.teacher_ckpt]
        return words + self._device() + self.settings(run, self.spec.evaluate[0])

    def test_command(self, run: Run, split: str) -> list[str]:
        """``tools/test.py ...``: evaluates the run's checkpoint on a split."""
        words = [
            *tool_words("test", self.root),
            "--cfg_file",
            run.row.config,
            "--extra_tag",
            run.tag,
        ]
        words += ["--ckpt", str(run.checkpoint), "--eval_tag", evaluation_tag(split)]
        words += ["--workers", str(self.options.workers)]
        return words + self._device() + self.settings(run, split)

    def _device(self) -> list[str]:
        return ["--device", self.options.device] if self.options.device else []

    def settings(self, run: Run, split: str) -> list[str]:
        """``--set ...``: the row's own values, the data, and ``split`` as the one to evaluate."""
        pairs = {
            **run.row.settings,
            "DATA_CONFIG.DATA_SPLIT.test": base_split(split),
            "DATA_CONFIG.INFO_PATH.test": f"kitti_infos_{split}.pkl",
        }
        if self.spec.data.path is not None:
            pairs["DATA_CONFIG.DATA_PATH"] = self.spec.data.path
        return ["--set", *setting_words(pairs)]

    def metrics_file(self, run: Run, split: str) -> Path:
        """metrics.json of an evaluation, from the checkout. Training evaluates the first split."""
        evaluations = run.folder / "eval"
        frames = base_split(split)
        if run.is_trained and split == self.spec.evaluate[0]:
            return evaluations / "eval_with_train" / f"epoch_{run.epochs}" / frames / "metrics.json"
        epoch = epoch_of_checkpoint(str(run.checkpoint))
        return evaluations / f"epoch_{epoch}" / frames / evaluation_tag(split) / "metrics.json"

    def results(self, run: Run) -> dict[str, Path]:
        """metrics.json of every split."""
        return {split: self.root / self.metrics_file(run, split) for split in self.spec.evaluate}


def evaluation_tag(split: str) -> str:
    """--eval_tag: the two label sets of a split must not write into one folder."""
    return EVAL_TAG if base_split(split) == split else EVAL_TAG + TRUE_LABELS


def simulator_options(data: StudyData) -> dict[str, object]:
    """What the simulated scenes depend on besides their seed; empty for the simulator's default."""
    options: dict[str, object] = {
        "scenes": data.scenes,
        "sensors": list(data.sensors),
        "sweeps": data.sweeps,
    }
    return {name: value for name, value in options.items() if value}


def setting_words(settings: Mapping[str, object]) -> list[str]:
    """Key paths and values as the words after ``--set``."""
    words = []
    for key, value in settings.items():
        words += [key, setting_text(value)]
    return words


def setting_text(value: object) -> str:
    """A yaml value as ``--set`` reads it."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return ",".join(setting_text(entry) for entry in value)
    return str(value)


def differences(before: object, now: object, path: str = "") -> list[str]:
    """The key paths at which two plain structures differ, with both values."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [f"{path} ({before} -> {now})"]
    found = []
    added = [key for key in now if key not in before]
    for key in [*before, *added]:
        below = f"{path}.{key}" if path else str(key)
        found += differences(before.get(key), now.get(key), below)
    return found
