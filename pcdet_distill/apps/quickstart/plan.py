"""What the quickstart does: its sizes, its files, and its steps as commands that a user could type.

One pair of detectors a run (``DETECTORS``); all of them are trained on the same simulated frames.

A step is complete when the files it writes last are there, so a second run skips it, and a killed one goes on: the
simulator keeps the frames it has written, training resumes from its newest checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import lookup

DATASET_CONFIG = "cfgs/synthetic/dataset.yaml"
DETECTORS = {"pointpillar": 10, "second": 5, "pointrcnn": 4}  # epochs of the full run
DEFAULT_DETECTOR = "pointpillar"
MODELS = {"teacher": "teacher", "student": "student", "distilled": "student_init"}
TITLES = {"teacher": "teacher", "student": "student", "distilled": "student from its teacher"}


@dataclass(frozen=True)
class Step:
    """Commands that end in the files ``results``. Several commands run side by side.

    Trainings have a name and a result each; what they print passes through the quickstart.
    """

    title: str
    commands: list[list[str]]
    results: list[Path]
    names: tuple[str, ...] = ()

    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return all(path.exists() for path in self.results)

    def pending(self) -> list[list[str]]:
        """The commands whose result is missing."""
        if len(self.commands) == 1:
            return self.commands
        return [command for command, path in zip(self.commands, self.results) if not path.exists()]


@dataclass(frozen=True)
class Plan:
    """The sizes and places of one quickstart. ``smoke`` marks the small one, which only shows that everything runs."""

    root: Path
    detector: str = DEFAULT_DETECTOR
    smoke: bool = False
    train_frames: int = 400
    val_frames: int = 100
    epochs: int = DETECTORS[DEFAULT_DETECTOR]
    seed: int = 0
    device: str | None = None
    side_by_side: bool = False

    @classmethod
    def full(cls, root: Path, detector: str = DEFAULT_DETECTOR, **options: Any) -> Plan:
        """The run whose table means something; ``options`` as ``Plan`` has them."""
        return cls(root, detector, epochs=lookup(DETECTORS, detector, "--detector"), **options)

    @classmethod
    def small(cls, root: Path, detector: str = DEFAULT_DETECTOR, **options: Any) -> Plan:
        """The smoke run."""
        lookup(DETECTORS, detector, "--detector")
        return cls(root, detector, smoke=True, train_frames=32, val_frames=16, epochs=2, **options)

    @property
    def configs(self) -> dict[str, str]:
        """The yaml files of teacher, plain student and the one that starts from its teacher, from ``root``."""
        return {
            model: f"cfgs/synthetic/{self.detector}_{end}.yaml" for model, end in MODELS.items()
        }

    @property
    def tag(self) -> str:
        """Name of this run's folders: a run touches those of no other detector, a smoke run not the full one's."""
        detector = "" if self.detector == DEFAULT_DETECTOR else f"_{self.detector}"
        return f"quickstart{detector}{'_fast' if self.smoke else ''}"

    @property
    def data(self) -> str:
        """The simulated dataset, from ``root``; every detector's."""
        return "data/synthetic_kitti_fast" if self.smoke else "data/synthetic_kitti"

    @property
    def output(self) -> Path:
        """Where the report and the pictures go."""
        return self.root / "output" / self.tag

    @property
    def command(self) -> str:
        """What a user types for this run."""
        detector = "" if self.detector == DEFAULT_DETECTOR else f" --detector {self.detector}"
        return f"bash tools/scripts/quickstart.sh{detector}{' --fast' if self.smoke else ''}"

    def checkpoint(self, model: str) -> str:
        """The last checkpoint of ``model`` (a key of MODELS), from ``root``."""
        return f"output/synthetic/{Path(self.configs[model]).stem}/{self.tag}/ckpt/checkpoint_epoch_{self.epochs}.pth"

    def evaluation(self, model: str) -> Path:
        """The folder of the evaluation that ends the training of ``model``."""
        training = (self.root / self.checkpoint(model)).parents[1]
        return training / "eval" / "eval_with_train" / f"epoch_{self.epochs}" / "val"


def make_steps(plan: Plan) -> list[Step]:
    """Every step from nothing to three trained and evaluated models, in order."""
    groups = (
        [["teacher"], ["student", "distilled"]]
        if plan.side_by_side
        else [[name] for name in MODELS]
    )
    return [*data_steps(plan), *(train_step(plan, group) for group in groups)]


def data_steps(plan: Plan) -> list[Step]:
    """Simulate; then make the info files and the database of objects."""
    folder = plan.root / plan.data
    frames = plan.train_frames + plan.val_frames
    simulate = ["tools/create_data.py", "synthetic", "--out", plan.data, "--frames", str(frames)]
    simulate += ["--val_frames", str(plan.val_frames), "--seed", str(plan.seed)]
    prepare = [
        "tools/create_data.py",
        "kitti",
        DATASET_CONFIG,
        *data_path_option(plan, "DATA_PATH"),
    ]
    prepared = [
        folder / name
        for name in ("kitti_infos_train.pkl", "kitti_infos_val.pkl", "kitti_dbinfos_train.pkl")
    ]
    return [
        Step(
            f"simulate {plan.train_frames} training and {plan.val_frames} validation frames",
            [simulate],
            [
                folder / "ImageSets" / f"{split}.txt"
                for split in ("train", "val", "trainval", "test")
            ],
        ),
        Step("info files and object database", [prepare], prepared),
    ]


def train_step(plan: Plan, models: list[str]) -> Step:
    """Train and evaluate the models, side by side when there are two."""
    names = " and ".join(TITLES[model] for model in models)
    commands = []
    for model in models:
        command = ["tools/train.py", "--cfg_file", plan.configs[model], "--extra_tag", plan.tag]
        command += ["--epochs", str(plan.epochs), "--fix_random_seed", *device_option(plan)]
        if model == "distilled":
            command += ["--teacher_ckpt", plan.checkpoint("teacher")]
        commands.append(command + data_path_option(plan, "DATA_CONFIG.DATA_PATH"))
    results = [plan.evaluation(model) / "metrics.json" for model in models]
    return Step(
        f"train and evaluate the {names}, {plan.epochs} epochs", commands, results, tuple(models)
    )


def device_option(plan: Plan) -> list[str]:
    """``--device``, when the user chose one."""
    return ["--device", plan.device] if plan.device else []


def data_path_option(plan: Plan, key: str) -> list[str]:
    """``--set`` for a dataset that is not the configurations' own."""
    return ["--set", key, f"../{plan.data}"] if plan.smoke else []
