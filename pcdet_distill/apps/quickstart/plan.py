"""The quickstart's sizes, files and steps. Every step is a command that a user could type.

A run trains one pair of detectors (``DATASETS``); all of one dataset use the same simulated frames.
A step is complete when the files it writes last exist, so a second run skips it. A killed run is
resumed: the simulator keeps the frames it has written, training its newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...commands import command_text
from ...config import lookup
from ..tools import tool_words

# It makes the environment of a checkout too; an installed package has only the command.
SCRIPT = "tools/scripts/quickstart.sh"
DETECTORS = {"pointpillar": 10, "second": 5, "pointrcnn": 4}  # epochs of the full run
DEFAULT_DETECTOR = "pointpillar"
NUSCENES_VERSION = "v1.0-trainval"  # it has names for many short scenes
NUSCENES_SWEEPS = 3
LAST_TABLE = "scene.json"  # of the tables that the simulator writes
NUSCENES_SCENE_FRAMES = 5


@dataclass(frozen=True)
class SimulatedData:
    """What the models of a quickstart are trained and compared on.

    Attributes:
        configs: folder of the yaml files.
        data: folder of the data.
        detectors: epochs of the full run, by detector; the first one is the default.
        train_frames: of the full run.
        val_frames: of the full run.
    """

    configs: str
    data: str
    detectors: Mapping[str, int]
    train_frames: int
    val_frames: int

    @property
    def default_detector(self) -> str:
        """The detector that is trained without ``--detector``."""
        return next(iter(self.detectors))


DEFAULT_DATASET = "kitti"
DATASETS = {
    "kitti": SimulatedData("cfgs/synthetic", "data/synthetic_kitti", DETECTORS, 400, 100),
    "nuscenes": SimulatedData(
        configs="cfgs/synthetic/nuscenes",
        data="data/synthetic_nuscenes",
        detectors={"centerpoint": 8, "pp_multihead": 8},
        train_frames=320,
        val_frames=80,
    ),
}
# Model -> the last part of its yaml's name.
MODELS = {"teacher": "teacher", "student": "student", "distilled": "student_init"}
TITLES = {
    "teacher": "teacher",
    "student": "student",
    "distilled": "student with init",
}
SPLITS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class Step:
    """Commands that write the files ``results``; several commands run side by side.

    Args:
        commands: each the words after ``python``.
        results: the files that show that the step is done.
        names: of trainings, one for each command and result; their output is printed.
    """

    title: str
    commands: list[list[str]]
    results: list[Path]
    names: tuple[str, ...] = ()

    def is_complete(self) -> bool:
        """Whether all results exist."""
        return all(path.exists() for path in self.results)

    def pending(self) -> list[list[str]]:
        """The commands whose result is missing."""
        if len(self.commands) == 1:
            return self.commands
        return [command for command, path in zip(self.commands, self.results) if not path.exists()]


@dataclass(frozen=True)
class QuickstartPlan:
    """The sizes and places of one quickstart."""

    root: Path
    detector: str = DEFAULT_DETECTOR
    smoke: bool = False  # so small that it only shows that everything runs
    train_frames: int = 400
    val_frames: int = 100
    epochs: int = DETECTORS[DEFAULT_DETECTOR]
    seed: int = 0
    device: str | None = None
    side_by_side: bool = False
    dataset: str = DEFAULT_DATASET

    @classmethod
    def full(
        cls,
        root: Path,
        detector: str | None = None,
        *,
        device: str | None = None,
        side_by_side: bool = False,
        dataset: str = DEFAULT_DATASET,
    ) -> QuickstartPlan:
        """The run whose table means something."""
        simulated = lookup(DATASETS, dataset, "--dataset")
        detector = detector or simulated.default_detector
        return cls(
            root,
            detector,
            train_frames=simulated.train_frames,
            val_frames=simulated.val_frames,
            epochs=lookup(simulated.detectors, detector, "--detector"),
            device=device,
            side_by_side=side_by_side,
            dataset=dataset,
        )

    @classmethod
    def small(
        cls,
        root: Path,
        detector: str | None = None,
        *,
        device: str | None = None,
        side_by_side: bool = False,
        dataset: str = DEFAULT_DATASET,
    ) -> QuickstartPlan:
        """The smoke run."""
        full = cls.full(root, detector, device=device, side_by_side=side_by_side, dataset=dataset)
        return replace(full, smoke=True, train_frames=32, val_frames=16, epochs=2)

    @property
    def simulated(self) -> SimulatedData:
        """What ``dataset`` names."""
        return DATASETS[self.dataset]

    @property
    def is_default_detector(self) -> bool:
        """Whether the detector needs no ``--detector``."""
        return self.detector == self.simulated.default_detector

    @property
    def configs(self) -> dict[str, str]:
        """The yaml of each model, from ``root``."""
        folder = self.simulated.configs
        return {model: f"{folder}/{self.detector}_{end}.yaml" for model, end in MODELS.items()}

    @property
    def dataset_config(self) -> str:
        """The yaml of the data, from ``root``."""
        return f"{self.simulated.configs}/dataset.yaml"

    @property
    def tag(self) -> str:
        """The name of this run's folders. Each detector, and the smoke run, has its own."""
        dataset = "" if self.dataset == DEFAULT_DATASET else f"_{self.dataset}"
        detector = "" if self.is_default_detector else f"_{self.detector}"
        return f"quickstart{dataset}{detector}{'_fast' if self.smoke else ''}"

    @property
    def data(self) -> str:
        """The simulated dataset of all detectors, from ``root``."""
        return f"{self.simulated.data}_fast" if self.smoke else self.simulated.data

    @property
    def output(self) -> Path:
        """The folder of the report and the pictures."""
        return self.root / "output" / self.tag

    @property
    def trainings(self) -> str:
        """The folder of the yamls' trainings, from ``root``."""
        return f"output/{self.simulated.configs.removeprefix('cfgs/')}"

    @property
    def command(self) -> str:
        """The command that a user types for this run."""
        flags = [] if self.dataset == DEFAULT_DATASET else ["--dataset", self.dataset]
        if not self.is_default_detector:
            flags += ["--detector", self.detector]
        if self.smoke:
            flags.append("--fast")
        if (self.root / SCRIPT).is_file():
            return " ".join(["bash", SCRIPT, *flags])
        return command_text("quickstart", *flags)

    def checkpoint(self, model: str) -> str:
        """The last checkpoint of a model (a key of MODELS), from ``root``."""
        training = f"{self.trainings}/{Path(self.configs[model]).stem}/{self.tag}"
        return f"{training}/ckpt/checkpoint_epoch_{self.epochs}.pth"

    def evaluation(self, model: str) -> Path:
        """The folder of the evaluation at the end of a model's training."""
        training = (self.root / self.checkpoint(model)).parents[1]
        return training / "eval" / "eval_with_train" / f"epoch_{self.epochs}" / "val"


def make_steps(plan: QuickstartPlan) -> list[Step]:
    """Every step, from an empty checkout to three trained and evaluated models."""
    groups = [[name] for name in MODELS]
    if plan.side_by_side:
        groups = [["teacher"], ["student", "distilled"]]
    return [*data_steps(plan), *(train_step(plan, group) for group in groups)]


def data_steps(plan: QuickstartPlan) -> list[Step]:
    """Simulate; then write the info files and the database of objects."""
    frames = plan.train_frames + plan.val_frames
    create_data = tool_words("data", plan.root)
    simulate = [*create_data, "synthetic", "--out", plan.data, "--frames", str(frames)]
    simulate += ["--val_frames", str(plan.val_frames), "--seed", str(plan.seed)]
    prepare = [*create_data, plan.dataset, plan.dataset_config]
    prepare += data_path_option(plan, "DATA_PATH")
    if plan.dataset == "nuscenes":
        simulate += ["--format", "nuscenes", "--version", NUSCENES_VERSION]
        simulate += ["--scene_frames", str(NUSCENES_SCENE_FRAMES), "--sweeps", str(NUSCENES_SWEEPS)]
    simulated, prepared = data_files(plan)
    title = f"simulate {plan.train_frames} training and {plan.val_frames} validation frames"
    return [
        Step(title, [simulate], simulated),
        Step("info files and object database", [prepare], prepared),
    ]


def data_files(plan: QuickstartPlan) -> tuple[list[Path], list[Path]]:
    """The files that the simulation writes last, and those made from its frames."""
    folder = plan.root / plan.data
    if plan.dataset == "nuscenes":
        folder = folder / NUSCENES_VERSION
        names = [f"nuscenes_infos_{NUSCENES_SWEEPS}sweeps_{split}.pkl" for split in SPLITS[:2]]
        names.append(f"nuscenes_dbinfos_{NUSCENES_SWEEPS}sweeps_withvelo.pkl")
        return [folder / NUSCENES_VERSION / LAST_TABLE], [folder / name for name in names]
    names = ["kitti_infos_train.pkl", "kitti_infos_val.pkl", "kitti_dbinfos_train.pkl"]
    splits = [folder / "ImageSets" / f"{split}.txt" for split in SPLITS]
    return splits, [folder / name for name in names]


def train_step(plan: QuickstartPlan, models: Sequence[str]) -> Step:
    """Train and evaluate the models, side by side when there are several."""
    names = "; ".join(TITLES[model] for model in models)
    commands = []
    for model in models:
        command = tool_words("train", plan.root)
        command += ["--cfg_file", plan.configs[model], "--extra_tag", plan.tag]
        command += ["--epochs", str(plan.epochs), "--fix_random_seed", *device_option(plan)]
        if model == "distilled":
            command += ["--teacher_ckpt", plan.checkpoint("teacher")]
        commands.append(command + data_path_option(plan, "DATA_CONFIG.DATA_PATH"))
    results = [plan.evaluation(model) / "metrics.json" for model in models]
    title = f"train and evaluate, {plan.epochs} epochs: {names}"
    return Step(title, commands, results, tuple(models))


def device_option(plan: QuickstartPlan) -> list[str]:
    """``--device``, when the user chose one."""
    return ["--device", plan.device] if plan.device else []


def data_path_option(plan: QuickstartPlan, key: str) -> list[str]:
    """``--set`` for a dataset other than that of the configurations."""
    return ["--set", key, f"../{plan.data}"] if plan.smoke else []
