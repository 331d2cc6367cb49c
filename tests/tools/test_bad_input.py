"""Mistakes of a user on the command line: exit code 2 and one sentence that names the file.

There is no traceback, and no half-written file is left behind. Each case runs in a process and a
folder of its own. The processes are forked from one that has imported everything
(``bad_input_server.py``), because importing PyTorch takes longer than most cases. One case is
started as a user would.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdet_distill.config import load_config
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.models import build_network

SERVER = Path(__file__).with_name("bad_input_server.py")
STUDENT = "cfgs/synthetic/pointpillar_student.yaml"
TRAIN = [
    "train",
    "--cfg_file",
    STUDENT,
    "--epochs",
    "1",
    "--batch_size",
    "2",
    "--workers",
    "0",
    "--fix_random_seed",
]
CREATE = ["create_data", "kitti", "cfgs/synthetic/dataset.yaml", "--workers", "1"]
RUN = "output/synthetic/pointpillar_student/default"
TEMPORARY = ("*.part", "*.partial", "*.tmp", ".*staging*", "*.lock")


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


class Commands:
    """Runs tools in forked processes, one after the other."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, folder: Path, arguments: list[str]) -> Result:
        """``tools/<arguments[0]>.py arguments[1:]`` with ``folder`` as working directory."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps({"cwd": str(folder), "arguments": arguments}) + "\n")
        self.server.stdin.flush()
        return Result(**json.loads(self.server.stdout.readline()))

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=30)


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    server = Commands()
    yield server
    server.close()


@pytest.fixture(scope="module")
def good_project(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """A folder with configs and six simulated frames, without a mistake."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(repo / "cfgs" / "synthetic", folder / "cfgs" / "synthetic")
    data = create_synthetic_kitti(
        folder / "data" / "synthetic_kitti", 6, seed=3, val_frames=2, workers=1, progress=False
    )
    create_kitti_infos(data, show_progress=False)
    return folder


@pytest.fixture
def project(good_project: Path, tmp_path: Path) -> Path:
    """A copy for one test to damage."""
    return Path(shutil.copytree(good_project, tmp_path / "project"))


def training(project: Path, folder: str, number: int, ending: str) -> Path:
    return project / "data" / "synthetic_kitti" / "training" / folder / f"{number:06d}.{ending}"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_one_sentence(result: Result, *names: str) -> None:
    """Exit code 2 and one line on stderr that holds ``names``."""
    assert result.code == 2, result
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    for name in names:
        assert name in errors[0], f"'{name}' is not in: {errors[0]}"
    assert "Traceback" not in result.err + result.out
    assert result.err.rstrip().splitlines()[-1] == errors[0]  # it is the last line


# --- the data, when it is prepared ----------------------------------------------------------------


def no_calib(project: Path) -> str:
    training(project, "calib", 1, "txt").unlink()
    return "calib/000001.txt"


def calib_without_a_line(project: Path) -> str:
    path = training(project, "calib", 1, "txt")
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + "\n")
    return "calib/000001.txt"


def truncated_points(project: Path) -> str:
    path = training(project, "velodyne", 1, "bin")
    path.write_bytes(path.read_bytes()[:-3])
    return "velodyne/000001.bin"


def short_label_line(project: Path) -> str:
    path = training(project, "label_2", 1, "txt")
    path.write_text(path.read_text() + "Car 0.00 0 1.0 10 20 30\n")
    return "label_2/000001.txt"


def unknown_class(project: Path) -> str:
    path = training(project, "label_2", 1, "txt")
    path.write_text(path.read_text() + "Carr 0.00 0 1.0 10 20 30 40 1.5 1.6 3.9 1.0 1.7 20.0 0.1\n")
    return "label_2/000001.txt"


def nan_points(project: Path) -> str:
    path = training(project, "velodyne", 1, "bin")
    path.write_bytes(b"\x00\x00\xc0\x7f" * 4 + path.read_bytes()[16:])
    return "velodyne/000001.bin"


def no_split(project: Path) -> str:
    (project / "data" / "synthetic_kitti" / "ImageSets" / "train.txt").unlink()
    return "ImageSets/train.txt"


@pytest.mark.parametrize(
    "damage",
    [
        no_calib,
        calib_without_a_line,
        truncated_points,
        nan_points,
        short_label_line,
        unknown_class,
        no_split,
    ],
)
def test_bad_data_when_infos_are_made(
    commands: Commands, project: Path, damage: Callable[[Path], str]
) -> None:
    """The infos that were there stay as they were."""
    name = damage(project)
    before = {path: (project / path).read_bytes() for path in files(project)}
    check_one_sentence(commands.run(project, CREATE), name)
    assert {path: (project / path).read_bytes() for path in files(project)} == before


# --- the data, when it is used --------------------------------------------------------------------


@pytest.mark.parametrize("tool", [TRAIN, CREATE])
def test_missing_dataset(commands: Commands, project: Path, tool: list[str]) -> None:
    shutil.rmtree(project / "data")
    check_one_sentence(commands.run(project, tool), "data/synthetic_kitti")
    assert not (project / "output").exists()
    assert not (project / "data").exists()


def test_missing_infos(commands: Commands, project: Path) -> None:
    (project / "data" / "synthetic_kitti" / "kitti_infos_val.pkl").unlink()
    check_one_sentence(commands.run(project, TRAIN), "kitti_infos_val.pkl", "pcdet-distill data")
    assert not (project / "output").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("damage", [truncated_points, nan_points])
def test_unreadable_frame_in_training(
    commands: Commands, project: Path, damage: Callable[[Path], str], workers: str
) -> None:
    """The sentence names the file also when a loader process fails; no file is half-written."""
    name = damage(project)
    check_one_sentence(commands.run(project, [*TRAIN, "--workers", workers]), name)
    for pattern in TEMPORARY:
        assert not list(project.rglob(pattern))
    assert not list(project.rglob("checkpoint_epoch_*.pth"))


def test_bad_frames_can_be_skipped(commands: Commands, project: Path) -> None:
    name = truncated_points(project)
    result = commands.run(project, [*TRAIN, "--skip_bad_frames"])
    assert result.code == 0, result
    assert name in result.out
    assert "skipped" in result.out
    assert list(project.rglob("checkpoint_epoch_1.pth"))


# --- config, checkpoints, output ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("LAYER_NUMS", "LAYER_NUMBS", ["MODEL.BACKBONE_2D", "LAYER_NUMBS", "LAYER_NUMS"]),
        ("NAME: PillarVFE", "NAME: PilarVFE", ["VFE", "PilarVFE", "PillarVFE"]),
        (
            "OPTIMIZER: adam_onecycle",
            "OPTIMIZER: adam_oncycle",
            ["OPTIMIZATION.OPTIMIZER", "adam_onecycle"],
        ),
        ("class_name: Car", "class_name: Carr", ["Carr"]),
        ("CLASS_NAMES: ['Car', ", "CLASS_NAMES: ['Carr', ", ["Carr"]),
    ],
)
def test_typo_in_the_yaml(
    commands: Commands, project: Path, old: str, new: str, names: list[str]
) -> None:
    edit(project / "cfgs" / "synthetic" / "pointpillar_teacher.yaml", old, new)
    check_one_sentence(commands.run(project, TRAIN), ".yaml", *names)
    assert not (project / "output").exists()


def test_a_model_without_final_boxes_is_not_trained(commands: Commands, project: Path) -> None:
    """POST_PROCESSING is first used in the evaluation, when the training is over."""
    (project / STUDENT).write_text(
        "_BASE_CONFIG_: cfgs/synthetic/pointpillar_teacher.yaml\nMODEL: {POST_PROCESSING: null}\n"
    )
    check_one_sentence(
        commands.run(project, TRAIN), "pointpillar_student.yaml", "MODEL.POST_PROCESSING is missing"
    )
    assert not (project / "output").exists()


def test_typo_behind_set(commands: Commands, project: Path) -> None:
    result = commands.run(project, [*TRAIN, "--set", "OPTIMIZATION.LRR", "0.1"])
    check_one_sentence(result, "OPTIMIZATION.LRR", "OPTIMIZATION.LR")


@pytest.mark.parametrize(
    ("key", "value"), [("LR", "-1.0"), ("NUM_EPOCHS", "0"), ("BATCH_SIZE_PER_GPU", "0")]
)
def test_numbers_that_cannot_be_meant(
    commands: Commands, project: Path, key: str, value: str
) -> None:
    arguments = [
        "train",
        "--cfg_file",
        STUDENT,
        "--workers",
        "0",
        "--set",
        f"OPTIMIZATION.{key}",
        value,
    ]
    check_one_sentence(
        commands.run(project, arguments), "pointpillar_student.yaml", f"OPTIMIZATION.{key}", value
    )
    assert not (project / "output").exists()


@pytest.fixture
def teacher_weights(project: Path) -> Path:
    """A checkpoint of another model than the student."""
    cfg = load_config(project / "cfgs" / "synthetic" / "pointpillar_teacher.yaml")
    model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    path = project / "teacher.pth"
    torch.save({"model_state": model.state_dict(), "epoch": 1, "it": 2}, path)
    return path


class Code:
    """Pickled, it would run a command when it is loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran_code",)


def code_instead_of_tensors(path: Path) -> None:
    torch.save({"model_state": {"weight": Code()}}, path)


def plain_pickle_of_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code()))


def text_file(path: Path) -> None:
    path.write_text("not a checkpoint")


@pytest.mark.parametrize("tool", [["test", "--cfg_file", STUDENT], TRAIN])
def test_checkpoint_of_another_model(
    commands: Commands, project: Path, teacher_weights: Path, tool: list[str]
) -> None:
    result = commands.run(project, [*tool, "--ckpt", str(teacher_weights)])
    check_one_sentence(result, "teacher.pth", "vfe.pfn_layers.0.linear.weight")
    assert not (project / "output").exists()


@pytest.mark.parametrize("write", [code_instead_of_tensors, plain_pickle_of_code, text_file])
def test_checkpoint_without_tensors(
    commands: Commands, project: Path, write: Callable[[Path], None]
) -> None:
    write(project / "wrong.pth")
    check_one_sentence(
        commands.run(project, ["test", "--cfg_file", STUDENT, "--ckpt", "wrong.pth"]), "wrong.pth"
    )
    assert not (project / "ran_code").exists()
    assert not (project / "output").exists()


def test_truncated_checkpoint_names_itself(
    commands: Commands, project: Path, teacher_weights: Path
) -> None:
    teacher_weights.write_bytes(teacher_weights.read_bytes()[:5000])
    result = commands.run(project, [*TRAIN, "--pretrained_model", "teacher.pth"])
    check_one_sentence(result, "teacher.pth")


def test_missing_checkpoint_names_the_nearest(
    commands: Commands, project: Path, teacher_weights: Path
) -> None:
    result = commands.run(project, ["test", "--cfg_file", STUDENT, "--ckpt", "teachr.pth"])
    check_one_sentence(result, "teachr.pth", "teacher.pth")


def test_teacher_without_distillation(
    commands: Commands, project: Path, teacher_weights: Path
) -> None:
    result = commands.run(project, [*TRAIN, "--teacher_ckpt", "teacher.pth"])
    check_one_sentence(result, "--teacher_ckpt", "DISTILL")


def test_wrong_teacher(commands: Commands, project: Path, teacher_weights: Path) -> None:
    """The student's own weights given as those of its teacher."""
    cfg = load_config(project / STUDENT)
    model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    torch.save({"model_state": model.state_dict()}, project / "student.pth")
    arguments = [DISTILLED if word == STUDENT else word for word in TRAIN]
    result = commands.run(project, [*arguments, "--teacher_ckpt", "student.pth"])
    check_one_sentence(result, "student.pth", "vfe.pfn_layers.0.linear.weight")
    assert not (project / "output").exists()


DISTILLED = "cfgs/synthetic/recipes/graph_scores.yaml"
TEACHER = "cfgs/synthetic/pointpillar_teacher.yaml"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {DISTILLED: (f"CFG_FILE: {TEACHER}", "CFG_FILE: null")},
            ["DISTILL.TEACHER.CFG_FILE is missing", "teacher.pth"],
        ),
        (
            {
                TEACHER: (
                    "CLASS_NAMES: ['Car', 'Pedestrian', 'Cyclist']",
                    "CLASS_NAMES: ['Truck', 'Bus', 'Tram']",
                ),
                STUDENT: ("MODEL:", "CLASS_NAMES: ['Car', 'Pedestrian', 'Cyclist']\nMODEL:"),
            },
            [
                "DISTILL.TEACHER",
                "the teacher's classes are Truck, Bus, Tram",
                "Car, Pedestrian, Cyclist",
            ],
        ),
        (
            {
                TEACHER: (
                    "dataset.yaml\n",
                    "dataset.yaml\n    POINT_CLOUD_RANGE: [60, -12.8, -3, 104.8, 12.8, 1]\n",
                ),
                STUDENT: (
                    "MODEL:",
                    "DATA_CONFIG: {POINT_CLOUD_RANGE: [0, -12.8, -3, 44.8, 12.8, 1]}\nMODEL:",
                ),
            },
            ["POINT_CLOUD_RANGE [60.0", "does not overlap the student's [0.0"],
        ),
        (
            {DISTILLED: ("TEACHER: dense_head.conv_cls", "TEACHER: dense_head.conv_clss")},
            [
                "TERMS.GRAPH.TEACHER",
                "'dense_head.conv_clss'",
                "did you mean 'dense_head.conv_cls'",
                "teacher's taps: backbone_2d.blocks.0",
            ],
        ),
        (
            {DISTILLED: ("NODES: bev", "NODES: sparse")},
            ["gives bev features, NODES is sparse"],
        ),
    ],
)
def test_teacher_that_does_not_fit(
    commands: Commands,
    project: Path,
    teacher_weights: Path,
    changes: dict[str, tuple[str, str]],
    names: list[str],
) -> None:
    for file, (old, new) in changes.items():
        edit(project / file, old, new)
    arguments = [DISTILLED if word == STUDENT else word for word in TRAIN]
    check_one_sentence(
        commands.run(project, [*arguments, "--teacher_ckpt", "teacher.pth"]), DISTILLED, *names
    )
    assert not (project / "output").exists()


def test_teacher_without_weights(commands: Commands, project: Path) -> None:
    result = commands.run(project, [DISTILLED if word == STUDENT else word for word in TRAIN])
    check_one_sentence(result, DISTILLED, "DISTILL.TEACHER.CKPT", "--teacher_ckpt")
    assert not (project / "output").exists()


@pytest.mark.parametrize(
    "blocked",
    [
        "output",
        "output/synthetic/pointpillar_student",
        f"{RUN}/ckpt",
        f"{RUN}/tensorboard",
        f"{RUN}/eval/eval_with_train",
    ],
)
def test_output_folder_cannot_be_written(commands: Commands, project: Path, blocked: str) -> None:
    (project / blocked).parent.mkdir(parents=True, exist_ok=True)
    (project / blocked).write_text("a file where a folder should be")
    before = files(project)
    check_one_sentence(commands.run(project, TRAIN), "output", "cannot be written")
    assert files(project) == before


def test_no_config(commands: Commands, project: Path) -> None:
    check_one_sentence(commands.run(project, ["train"]), "--cfg_file")
    result = commands.run(
        project, ["test", "--cfg_file", STUDENT.replace("student", "studnt"), "--ckpt", "x.pth"]
    )
    check_one_sentence(result, "pointpillar_studnt.yaml", "pointpillar_student.yaml")


def test_a_plain_process(project: Path, repo: Path) -> None:
    """The same without the server: the interpreter, the script, the exit code."""
    shutil.rmtree(project / "data")
    command = [sys.executable, str(repo / "tools" / "train.py"), *TRAIN[1:]]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    check_one_sentence(Result(done.returncode, done.stdout, done.stderr), "data/synthetic_kitti")


# Sensors

SIMULATE = ["create_data", "synthetic", "--out", "data/new", "--frames", "2", "--workers", "1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ELEVATIONS_DEG: [60, 50]\n", "roof sees nothing"),
        ("ELEVATIONS_DEG: [1, 1]\n", "two beams have the same elevation"),
        ("RATE_HZ: 10\n", "expected beams"),
        ("ELEVATIONS_DEG: [1]\nRATE: 10\n", "did you mean 'RATE_HZ'"),
    ],
)
def test_a_sensor_that_cannot_be_simulated(
    commands: Commands, project: Path, text: str, words: str
) -> None:
    (project / "roof.yaml").write_text(text)
    check_one_sentence(commands.run(project, [*SIMULATE, "--sensor", "roof.yaml"]), words)
    assert not (project / "data" / "new").exists()


def test_a_sensor_that_does_not_exist(commands: Commands, project: Path) -> None:
    result = commands.run(project, [*SIMULATE, "--sensor", "vlp61"])
    check_one_sentence(result, "no sensor 'vlp61'; did you mean 'vlp16'")
