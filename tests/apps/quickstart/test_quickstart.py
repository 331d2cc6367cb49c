"""The quickstart's steps: what they run, skip and refuse; with stub tools that only write files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from pcdet_distill.apps.quickstart import main
from pcdet_distill.apps.quickstart.plan import (
    DATASETS,
    DETECTORS,
    MODELS,
    QuickstartPlan,
    Step,
    make_steps,
)
from pcdet_distill.apps.quickstart.run import is_worth_showing, run_steps
from pcdet_distill.apps.tools import tool_words
from pcdet_distill.config import load_config
from pcdet_distill.datasets.synthetic.nuscenes.rows import SCENE_TABLES
from pcdet_distill.errors import UserError

WRITE = """
import pathlib, sys, time
pathlib.Path(sys.argv[1] + ".started").touch()
deadline = time.monotonic() + 60
while sys.argv[2] and not pathlib.Path(sys.argv[2] + ".started").exists():
    if time.monotonic() > deadline:
        sys.exit("error: alone")
    time.sleep(0.02)
print("writing", sys.argv[1])
pathlib.Path(sys.argv[1]).write_text("x")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a tool that writes the file it is given, and one that fails."""
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "fail.py").write_text(
        "import sys; print('error: no such thing', file=sys.stderr); sys.exit(2)"
    )
    return tmp_path


def step(root: Path, *results: str, together: bool = False) -> Step:
    """A step that writes ``results``.

    Args:
        together: every command waits until the next one has started.
    """
    others = results[1:] + results[:1] if together else [""] * len(results)
    commands = [["write.py", result, other] for result, other in zip(results, others)]
    paths = [root / result for result in results]
    return Step(f"write {' and '.join(results)}", commands, paths, results)


def test_a_complete_step_is_skipped_and_the_rest_is_run(root, capfd):
    (root / "first").write_text("kept")
    run_steps([step(root, "first"), step(root, "second")], root)
    assert (root / "first").read_text() == "kept"
    assert (root / "second").exists()
    printed = capfd.readouterr().out
    assert "== 1/2 write first" in printed
    assert "complete already: first" in printed
    assert "$ python write.py second" in printed
    assert "$ python write.py first" not in printed


def test_side_by_side_commands_run_at_once_with_named_lines(root, capfd):
    run_steps([step(root, "one", "three", together=True)], root)
    printed = capfd.readouterr().out
    assert "one   | writing one" in printed
    assert "three | writing three" in printed


def test_side_by_side_only_what_is_missing_is_run(root):
    (root / "one").write_text("kept")
    run_steps([step(root, "one", "two")], root)
    assert (root / "one").read_text() == "kept"
    assert (root / "two").read_text() == "x"


def test_a_failing_command_ends_the_run_by_name(root, capfd):
    failing = Step("fail", [["fail.py"]], [root / "x"])
    with pytest.raises(UserError, match="python fail.py"):
        run_steps([failing, step(root, "later")], root)
    assert not (root / "later").exists()
    assert "no such thing" in capfd.readouterr().err


def test_a_command_that_writes_nothing_is_noticed(root):
    (root / "idle.py").write_text("")
    with pytest.raises(UserError, match="without writing x"):
        run_steps([Step("idle", [["idle.py"]], [root / "x"])], root)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal")
def test_a_killed_quickstart_takes_its_training_with_it(root):
    (root / "sleeper.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    script = textwrap.dedent(f"""
        from pathlib import Path
        from pcdet_distill.apps.quickstart.plan import Step
        from pcdet_distill.apps.quickstart.run import run_steps
        run_steps([Step("sleep", [["sleeper.py"]], [Path("never")])], Path({str(root)!r}))
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    child = int(wait_for(lambda: (root / "pid").exists() and (root / "pid").read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not is_running(child))


def wait_for(condition, seconds: float = 20.0):
    """The first true value of ``condition()``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def value_of(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def all_commands(steps: list[Step]) -> list[list[str]]:
    commands = []
    for step in steps:
        commands += step.commands
    return commands


def all_results(steps: list[Step]) -> list[Path]:
    results = []
    for step in steps:
        results += step.results
    return results


def train_command(plan: QuickstartPlan, model: str) -> list[str]:
    """The only command that trains a model."""
    commands = []
    train = tool_words("train", plan.root)
    for command in all_commands(make_steps(plan)):
        if command[: len(train)] == train and plan.configs[model] in command:
            commands.append(command)
    assert len(commands) == 1
    return list(commands[0])


@pytest.mark.parametrize("detector", DETECTORS)
def test_both_students_get_the_same_epochs_seed_and_data(detector):
    plan = QuickstartPlan.full(Path("/x"), detector)
    plain = train_command(plan, "student")
    distilled = train_command(plan, "distilled")
    position = distilled.index("--teacher_ckpt")
    del distilled[position : position + 2]
    assert distilled == [
        word.replace(plan.configs["student"], plan.configs["distilled"]) for word in plain
    ]


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_distilled_student_gets_the_teacher_that_was_trained(detector):
    plan = QuickstartPlan.full(Path("/x"), detector)
    teacher, _, distilled = make_steps(plan)[2:]
    folder = Path(value_of(distilled.commands[0], "--teacher_ckpt")).parents[1]
    assert teacher.results[0].is_relative_to(plan.root / folder)
    assert folder.parts[-2:] == (
        Path(plan.configs["teacher"]).stem,
        value_of(teacher.commands[0], "--extra_tag"),
    )


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_smoke_run_touches_nothing_of_the_full_one(detector):
    full = make_steps(QuickstartPlan.full(Path("/x"), detector))
    smoke = make_steps(QuickstartPlan.small(Path("/x"), detector))
    assert len(full) == len(smoke)
    assert not set(all_results(full)) & set(all_results(smoke))
    for command in all_commands(smoke):
        assert any(word.endswith("data/synthetic_kitti_fast") for word in command), command


@pytest.mark.parametrize("make_plan", [QuickstartPlan.full, QuickstartPlan.small])
def test_detectors_share_only_the_frames(make_plan):
    plans = [make_plan(Path("/x"), detector) for detector in DETECTORS]
    data_steps = make_steps(plans[0])[:2]
    trained = set()
    for plan in plans:
        steps = make_steps(plan)
        assert steps[:2] == data_steps
        trained |= set(all_results(steps[2:]))
    assert len(trained) == 3 * len(DETECTORS)
    assert len({plan.output for plan in plans}) == len(DETECTORS)
    assert len({plan.tag for plan in plans}) == len(DETECTORS)
    assert [f"--detector {plan.detector}" in plan.command for plan in plans] == [False, True, True]


def test_nuscenes_is_simulated_prepared_and_trained_in_folders_of_its_own():
    plan = QuickstartPlan.full(Path("/x"), dataset="nuscenes")
    simulate, prepare, *trainings = make_steps(plan)
    assert value_of(simulate.commands[0], "--format") == "nuscenes"
    assert value_of(simulate.commands[0], "--frames") == "400"
    assert prepare.commands[0][-2:] == ["nuscenes", "cfgs/synthetic/nuscenes/dataset.yaml"]
    assert [value_of(step.commands[0], "--cfg_file") for step in trainings] == list(
        plan.configs.values()
    )
    kitti = make_steps(QuickstartPlan.full(Path("/x")))
    assert not set(all_results([simulate, prepare, *trainings])) & set(all_results(kitti))
    assert plan.command.endswith("--dataset nuscenes")


def test_the_data_step_of_nuscenes_writes_what_the_yaml_reads(repo):
    """The number of sweeps, the version and the folder stand in both."""
    plan = QuickstartPlan.full(repo, dataset="nuscenes")
    config = load_config(repo / plan.dataset_config)
    assert f"../{plan.data}" == config.DATA_PATH
    folder = repo / plan.data / config.VERSION
    files = [*config.INFO_PATH.train, *config.INFO_PATH.test]
    files += config.DATA_AUGMENTOR.AUG_CONFIG_LIST[0].DB_INFO_PATH
    assert {folder / name for name in files} == set(make_steps(plan)[1].results)
    simulate = make_steps(plan)[0].commands[0]
    assert value_of(simulate, "--version") == config.VERSION
    assert int(value_of(simulate, "--sweeps")) == config.MAX_SWEEPS
    assert make_steps(plan)[0].results == [folder / config.VERSION / f"{SCENE_TABLES[-1]}.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "nuscene"], "--dataset: unknown name 'nuscene'; did you mean 'nuscenes'"),
        (["--dataset", "nuscenes", "--detector", "second"], "--detector: unknown name 'second'"),
    ],
)
def test_an_unknown_dataset_or_a_detector_of_another_one(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        main(tmp_path, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--detector", "secnd"], ["--fast", "--detector", "Second"]])
def test_an_unknown_detector_is_refused_with_the_nearest(tmp_path, options):
    with pytest.raises(
        UserError, match="--detector: unknown name '(secnd|Second)'; did you mean 'second'"
    ):
        main(tmp_path, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "why"), [(["--fast"], "smoke"), (["--detector", "second"], "pointpillar only")]
)
def test_what_cannot_be_published_is_refused_before_the_first_step(tmp_path, options, why):
    with pytest.raises(UserError, match=why):
        main(tmp_path, ["--publish", *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_teacher_comes_first_and_all_three_are_trained(side_by_side):
    plan = QuickstartPlan(Path("/x"), side_by_side=side_by_side)
    steps = make_steps(plan)[2:]
    assert [len(step.commands) for step in steps] == ([1, 2] if side_by_side else [1, 1, 1])
    trained = [value_of(command, "--cfg_file") for command in all_commands(steps)]
    assert trained == list(plan.configs.values())
    assert all(len(step.names) == len(step.commands) == len(step.results) for step in steps)


def test_full_run_is_what_the_readme_says():
    plan = QuickstartPlan.full(Path("/x"))
    assert (plan.detector, plan.train_frames, plan.val_frames, plan.epochs) == (
        "pointpillar",
        400,
        100,
        10,
    )


def widths(block: dict, path: str) -> list[int]:
    """All numbers of the entry ``path`` of a MODEL block, in order."""
    for key in path.split("."):
        block = block[key]
    return [int(number) for number in re.findall(r"\d+", str(block))]


@pytest.mark.parametrize(
    ("detector", "halved"),
    [
        (
            "centerpoint",
            [
                "VFE.NUM_FILTERS",
                "MAP_TO_BEV.NUM_BEV_FEATURES",
                "BACKBONE_2D.NUM_FILTERS",
                "BACKBONE_2D.NUM_UPSAMPLE_FILTERS",
                "DENSE_HEAD.SHARED_CONV_CHANNEL",
            ],
        ),
        (
            "pp_multihead",
            [
                "VFE.NUM_FILTERS",
                "MAP_TO_BEV.NUM_BEV_FEATURES",
                "BACKBONE_2D.NUM_FILTERS",
                "BACKBONE_2D.NUM_UPSAMPLE_FILTERS",
                "DENSE_HEAD.SHARED_CONV_NUM_FILTER",
                "DENSE_HEAD.SEPARATE_REG_CONFIG.NUM_MIDDLE_FILTER",
            ],
        ),
        (
            "pointpillar",
            [
                "VFE.NUM_FILTERS",
                "MAP_TO_BEV.NUM_BEV_FEATURES",
                "BACKBONE_2D.NUM_FILTERS",
                "BACKBONE_2D.NUM_UPSAMPLE_FILTERS",
            ],
        ),
        (
            "second",
            [
                "BACKBONE_3D.NUM_FILTERS",
                "MAP_TO_BEV.NUM_BEV_FEATURES",
                "BACKBONE_2D.NUM_FILTERS",
                "BACKBONE_2D.NUM_UPSAMPLE_FILTERS",
            ],
        ),
        (
            "pointrcnn",
            [
                "BACKBONE_3D.SA_CONFIG.MLPS",
                "BACKBONE_3D.FP_MLPS",
                "POINT_HEAD.CLS_FC",
                "POINT_HEAD.REG_FC",
                "ROI_HEAD.XYZ_UP_LAYER",
                "ROI_HEAD.CLS_FC",
                "ROI_HEAD.REG_FC",
                "ROI_HEAD.SA_CONFIG.MLPS",
            ],
        ),
    ],
)
def test_the_student_differs_from_the_teacher_in_widths_only(repo, detector, halved):
    (dataset,) = [name for name, data in DATASETS.items() if detector in data.detectors]
    plan = QuickstartPlan.full(repo, detector, dataset=dataset)
    teacher, student, distilled = (load_config(repo / plan.configs[name]) for name in MODELS)
    assert student.OPTIMIZATION == teacher.OPTIMIZATION == distilled.OPTIMIZATION
    assert student.DATA_CONFIG == teacher.DATA_CONFIG == distilled.DATA_CONFIG
    assert student.MODEL == distilled.MODEL
    assert "DISTILL" in distilled
    assert "DISTILL" not in student
    for path in halved:
        assert [2 * width for width in widths(student.MODEL, path)] == widths(teacher.MODEL, path)
        *blocks, key = path.split(".")
        for model in (student.MODEL, teacher.MODEL):
            del reduce(getitem, blocks, model)[key]
    assert student.MODEL == teacher.MODEL


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Car AP_R40@0.70, 0.70, 0.70:",
        "bev  AP:0.4, 0.5, 0.6",
        "aos  AP:0.4, 0.5, 0.6",
        "09:00:47  Cyclist AP@0.50, 0.50, 0.50:",
        "09:00:16  recall_rcnn_0.3: 0.342657",
    ],
)
def test_the_long_result_text_is_left_to_the_log(line):
    assert not is_worth_showing(line)


@pytest.mark.parametrize(
    "line", ["AP R40, strict overlaps", "mAP        0.17", "error: no such AP", "epoch 1/2  it 9"]
)
def test_other_lines_are_shown(line):
    assert is_worth_showing(line)
