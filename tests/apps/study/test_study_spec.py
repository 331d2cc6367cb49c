"""A study's yaml, and the commands it becomes."""

from __future__ import annotations

import re

import pytest
import study_toys

from pcdet_distill.apps.study.data import data_commands
from pcdet_distill.apps.study.plan import Options, StudyPlan
from pcdet_distill.apps.study.spec import FRAMES_KEYS, override, read_study
from pcdet_distill.errors import ConfigError

PLAIN = {"CONFIG": "cfgs/toys/plain.yaml"}


def rows(**changes):
    return study_toys.study(ROWS={"plain": PLAIN, **changes})


def test_a_row_takes_over_what_it_is_like(tmp_path):
    base = {
        **PLAIN,
        "SET": {"OPTIMIZATION.LR": 0.1, "MODEL.NAME": "SECONDNet"},
        "EPOCHS": 7,
        "TITLE": "the base",
    }
    content = study_toys.study(
        SET={"OPTIMIZATION.LR": 0.5, "OPTIMIZATION.NUM_EPOCHS": 3},
        ROWS={
            "plain": base,
            "other": {"LIKE": "plain", "SET": {"OPTIMIZATION.LR": 0.2}, "SEEDS": [4]},
        },
    )
    row = read_study(study_toys.make_root(tmp_path, content)).rows["other"]
    assert (
        row.config == "cfgs/toys/plain.yaml"
        and row.epochs == 7
        and row.seeds == (4,)
        and row.title == "other"
    )
    assert row.settings == {
        "OPTIMIZATION.LR": 0.2,
        "MODEL.NAME": "SECONDNet",
        "OPTIMIZATION.NUM_EPOCHS": 3,
    }
    assert read_study(tmp_path / "cfgs/toys.yaml").teacher.settings["OPTIMIZATION.LR"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ROWS": {}}, "ROWS: expected at least one row"),
        (study_toys.study(SEDS=[1]), "unknown key 'SEDS'; did you mean 'SEEDS'"),
        (rows(recipe={"EPOCHS": 1}), "ROWS.recipe.CONFIG: missing"),
        (
            rows(recipe={**PLAIN, "EPOCHS": 0}),
            "ROWS.recipe.EPOCHS: 0 is not a whole number of 1 or more",
        ),
        (rows(recipe={**PLAIN, "SEEDS": [1, 1]}), "ROWS.recipe.SEEDS: expected different"),
        (
            rows(recipe={"LIKE": "plane"}),
            "ROWS.recipe.LIKE: there is no row 'plane'; did you mean 'plain'",
        ),
        (rows(a={"LIKE": "b"}, b={"LIKE": "a"}), "is like itself"),
        (
            rows(recipe={**PLAIN, "AGAINST": ["plane"]}),
            "ROWS.recipe.AGAINST: there is no row 'plane'",
        ),
        (rows(recipe={**PLAIN, "AGAINST": "recipe"}), "'recipe' cannot be compared with itself"),
        (rows(recipe={**PLAIN, "TEACHER": "tall"}), "ROWS.recipe.TEACHER: there is no row 'tall'"),
        (rows(a={**PLAIN, "TEACHER": "b"}, b={**PLAIN, "TEACHER": "a"}), "waits for itself"),
        (rows(a={"LIKE": "plain", "EQUAL_COMPUTE_OF": "a"}), "waits for itself"),
        (rows(a={**PLAIN, "EQUAL_COMPUTE_OF": "plain"}), "ROWS.a.LIKE: missing"),
        (rows(a={"LIKE": "plain", "EQUAL_COMPUTE_OF": "plain", "EPOCHS": 3}), "exclude each other"),
        (rows(teacher=PLAIN), "'teacher' cannot be a name"),
        ({**rows(), "NAME": "a/b"}, "NAME: 'a/b' cannot be a name"),
        ({**rows(), "EVALUATE": ["vall"]}, "EVALUATE: unknown split 'vall'; did you mean 'val'"),
        ({**rows(), "EVALUATE": ["val", "val"]}, "EVALUATE: a split stands twice"),
        ({**rows(), "COST": "step"}, "COST: unknown value 'step'; did you mean 'steps'"),
        (
            {**rows(), "DATA": {"PATH": "data/x", "SCENES": "hard"}},
            "DATA.SCENES: only for simulated data; expected TRAIN_FRAMES too",
        ),
        (
            {
                **rows(),
                "EVALUATE": ["val", "holdout_true"],
                "DATA": {"PATH": "data/x", "TRAIN_FRAMES": 4, "VAL_FRAMES": 2},
            },
            "DATA.HOLDOUT_FRAMES: 0, and the study needs frames of holdout",
        ),
        ({**rows(), "DATA": {"TRAIN_FRAMES": 4, "VAL_FRAMES": 2}}, "DATA.PATH: missing"),
        (
            {**rows(), "DATA": {"PATH": "data/x", "TRAIN_FRAMES": 4}},
            "DATA.VAL_FRAMES: 0, and the study needs",
        ),
        ({**rows(), "TEACHER": {"CONFIG": "x.yaml"}}, "expected EPOCHS to train it, or the CKPT"),
        ({**rows(), "TEACHER": {"EPOCHS": 2}}, "TEACHER.CONFIG: missing"),
        ({**rows(), "BASELINE": "plane"}, "BASELINE: there is no row 'plane'"),
        (
            rows(given={**PLAIN, "CKPT": "x.pth", "EPOCHS": 3}),
            "ROWS.given: CKPT and EPOCHS exclude each other",
        ),
        (
            rows(
                given={**PLAIN, "CKPT": "x.pth"},
                long={"LIKE": "plain", "EQUAL_COMPUTE_OF": "given"},
            ),
            "ROWS.long.EQUAL_COMPUTE_OF: 'given' is only evaluated from its CKPT",
        ),
        (
            rows(recipe={**PLAIN, "SET": {"OPTIMIZATION": {"LR": 1}}}),
            "ROWS.recipe.SET: expected key paths",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        read_study(study_toys.make_root(tmp_path, content))
    assert "toys.yaml" in str(error.value)


def test_a_configuration_that_cannot_be_is_named_with_its_row(tmp_path):
    with pytest.raises(
        ConfigError, match=r"toys.yaml: ROWS.recipe: --set OPTIMIZATION.LRR: unknown key"
    ):
        study_toys.make_plan(tmp_path, rows(recipe={**PLAIN, "SET": {"OPTIMIZATION.LRR": 1}}))
    with pytest.raises(ConfigError, match=r"ROWS.recipe distils, and the study has no TEACHER"):
        study_toys.make_plan(tmp_path, {**study_toys.study(), "TEACHER": None})


def test_seeds_come_in_turns_after_the_teacher(tmp_path):
    names = [run.name for run in study_toys.make_plan(tmp_path).runs()]
    assert names == ["teacher", "plain-seed0", "recipe-seed0", "plain-seed1", "recipe-seed1"]


def test_the_commands_of_a_run(tmp_path):
    content = {**study_toys.study(), "EVALUATE": ["val", "holdout"], "DATA": {"PATH": "data/here"}}
    content["ROWS"]["recipe"]["SET"] = {
        "OPTIMIZATION.LR": 0.01,
        "DATA_CONFIG.INFO_PATH.train": ["a.pkl", "b.pkl"],
    }
    plan = StudyPlan(
        read_study(study_toys.make_root(tmp_path, content)), tmp_path, Options("cuda:1", 3)
    )
    run = plan.run("recipe", 1)
    (train, first), (test, second) = plan.commands(run)
    teacher = f"output/toys/plain/teacher-{plan.teacher_id()}/ckpt/checkpoint_epoch_10.pth"
    common = ["OPTIMIZATION.LR", "0.01", "DATA_CONFIG.INFO_PATH.train", "a.pkl,b.pkl"]
    assert train == [
        "tools/train.py",
        "--cfg_file",
        "cfgs/toys/recipe.yaml",
        "--extra_tag",
        "toys-recipe-seed1",
        "--epochs",
        "2",
        "--seed",
        "1",
        "--workers",
        "3",
        "--max_ckpt_save_num",
        "2",
        "--teacher_ckpt",
        teacher,
        "--device",
        "cuda:1",
        "--set",
        *common,
        "DATA_CONFIG.DATA_SPLIT.test",
        "val",
        "DATA_CONFIG.INFO_PATH.test",
        "kitti_infos_val.pkl",
        "DATA_CONFIG.DATA_PATH",
        "data/here",
    ]
    folder = "output/toys/recipe/toys-recipe-seed1"
    assert (
        test[:2] == ["tools/test.py", "--cfg_file"]
        and f"{folder}/ckpt/checkpoint_epoch_2.pth" in test
    )
    assert "kitti_infos_holdout.pkl" in test
    assert str(first) == f"{folder}/eval/eval_with_train/epoch_2/val/metrics.json"
    assert str(second) == f"{folder}/eval/epoch_2/holdout/study/metrics.json"
    assert "--teacher_ckpt" not in plan.train_command(plan.run("plain", 0))


def test_studies_with_the_same_teacher_share_it(tmp_path):
    one = study_toys.make_plan(tmp_path)
    other = study_toys.make_plan(tmp_path, {**study_toys.study(), "SEEDS": [5]}, name="other.yaml")
    longer = {**study_toys.study(), "TEACHER": {"CONFIG": "cfgs/toys/plain.yaml", "EPOCHS": 11}}
    third = study_toys.make_plan(tmp_path, longer, name="third.yaml")
    assert one.run("teacher").folder == other.run("teacher").folder != third.run("teacher").folder
    assert one.run("plain", 0).folder != other.run("plain", 5).folder


def test_a_row_may_learn_from_another_row(tmp_path):
    two_stage = {"CONFIG": "cfgs/toys/recipe.yaml", "TEACHER": "recipe"}
    content = study_toys.study()
    content["ROWS"]["two_stage"] = two_stage
    plan = study_toys.make_plan(tmp_path, content)
    run = plan.run("two_stage", 1)
    assert run.needs == ("recipe-seed1",) and run.teacher_ckpt == str(
        plan.run("recipe", 1).checkpoint
    )


GIVEN = {"CONFIG": "cfgs/toys/plain.yaml", "CKPT": "weights/teacher_v3.pth"}


def test_a_given_teacher_is_evaluated_but_not_trained(tmp_path):
    content = {**study_toys.study(TEACHER=GIVEN), "EVALUATE": ["val", "holdout"]}
    path = study_toys.make_root(tmp_path, content)
    plan = StudyPlan(read_study(path), tmp_path)
    teacher = plan.runs()[0]
    assert teacher.name == "teacher"
    assert not teacher.is_trained
    for command, split in zip(plan.commands(teacher), ("val", "holdout")):
        assert command.words[0] == "tools/test.py"
        assert "weights/teacher_v3.pth" in command.words
        assert f"kitti_infos_{split}.pkl" in command.words
        folder = f"output/toys/plain/teacher-{plan.teacher_id()}"
        assert str(command.result) == f"{folder}/eval/epoch_3/{split}/study/metrics.json"


def test_students_of_a_given_teacher_wait_for_nothing(tmp_path):
    plan = study_toys.make_plan(tmp_path, study_toys.study(TEACHER=GIVEN))
    assert plan.run("recipe", 0).teacher_ckpt == "weights/teacher_v3.pth"
    assert plan.run("recipe", 0).needs == ()


def test_a_given_row_is_evaluated_and_teaches_the_rows_that_name_it(tmp_path):
    content = {**study_toys.study(), "EVALUATE": ["val", "holdout"]}
    content["ROWS"]["given"] = GIVEN
    content["ROWS"]["two_stage"] = {"CONFIG": "cfgs/toys/recipe.yaml", "TEACHER": "given"}
    plan = StudyPlan(read_study(study_toys.make_root(tmp_path, content)), tmp_path)
    (run,) = plan.runs_of("given")
    assert not run.is_trained and run.row.epochs is None and run.row.against == ()
    assert [command.words[0] for command in plan.commands(run)] == ["tools/test.py"] * 2
    for seed in (0, 1):
        student = plan.run("two_stage", seed)
        assert student.teacher_ckpt == "weights/teacher_v3.pth" and student.needs == ()


def test_a_row_like_a_given_one_is_trained(tmp_path):
    content = study_toys.study()
    content["ROWS"]["given"] = GIVEN
    content["ROWS"]["own"] = {"LIKE": "given"}
    assert study_toys.make_plan(tmp_path, content).run("own", 0).is_trained


def test_a_quick_run_has_a_name_of_its_own(tmp_path):
    content = study_toys.study()
    content["ROWS"]["equal"] = {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}
    spec = read_study(study_toys.make_root(tmp_path, content))
    quick = override(spec, epochs=1, seeds=[4, 7])
    assert quick.name == "toys-epochs1-seeds4_7"
    assert quick.teacher.epochs == quick.rows["plain"].epochs == 1
    assert quick.rows["recipe"].seeds == (4, 7)
    assert quick.rows["equal"].epochs is None  # still chosen by the cost of the recipe
    assert override(spec) == spec


@pytest.mark.parametrize(
    "name",
    [
        "small_pair",
        "long_schedule",
        "strong_teacher",
        "very_small",
        "few_labels",
        "full_width",
        "full_width_second",
    ],
)
def test_the_projects_own_studies_can_be_planned(repo, name):
    plan = StudyPlan.read(repo / "cfgs" / "study" / f"{name}.yaml", repo)
    assert "tools/train.py" in plan.train_command(plan.runs()[0])
    assert all((repo / row.config).is_file() for row in plan.spec.rows.values())
    assert plan.spec.evaluate == ("val", "holdout") and plan.spec.data.frames["holdout"] >= 500


def test_the_small_studies_share_data_and_teacher(repo):
    plans = [
        StudyPlan.read(repo / "cfgs" / "study" / f"{name}.yaml", repo)
        for name in ("small_pair", "long_schedule", "very_small")
    ]
    assert len({plan.teacher_id() for plan in plans}) == 1
    assert all(plan.spec.data == plans[0].spec.data for plan in plans)
    stages = plans[2].run("two_stage", 0)
    assert "very_small-half_init_slice-seed0" in stages.teacher_ckpt and stages.needs == (
        "half_init_slice-seed0",
    )


def test_true_labels_are_another_evaluation_of_the_same_frames(tmp_path):
    splits = ["val", "holdout", "holdout_true"]
    plan = StudyPlan.read(
        study_toys.make_root(tmp_path, study_toys.study(EVALUATE=splits)), tmp_path
    )
    _, noisy, true = plan.commands(plan.run("plain", 0))
    assert settings_of(noisy.words)["DATA_CONFIG.INFO_PATH.test"] == "kitti_infos_holdout.pkl"
    assert settings_of(true.words)["DATA_CONFIG.INFO_PATH.test"] == "kitti_infos_holdout_true.pkl"
    assert settings_of(true.words)["DATA_CONFIG.DATA_SPLIT.test"] == "holdout"
    assert true.words[true.words.index("--eval_tag") + 1] == "study_true"
    folder = "output/toys/plain/toys-plain-seed0/eval/epoch_2/holdout"
    assert str(noisy.result) == f"{folder}/study/metrics.json"
    assert str(true.result) == f"{folder}/study_true/metrics.json"


def settings_of(words):
    """The pairs after --set."""
    pairs = words[words.index("--set") + 1 :]
    return dict(zip(pairs[::2], pairs[1::2]))


def test_options_of_the_simulator(tmp_path):
    data = {
        "PATH": "data/x",
        "TRAIN_FRAMES": 4,
        "VAL_FRAMES": 2,
        "SCENES": "hard",
        "SENSORS": ["hdl64e", "vlp16"],
        "SWEEPS": 3,
    }
    plan = study_toys.make_plan(tmp_path, study_toys.study(DATA=data))
    simulate, _ = data_commands(plan)
    options = simulate[simulate.index("--scenes") :]
    assert options == ["--scenes", "hard", "--sensor", "hdl64e", "vlp16", "--sweeps", "3"]
    easy = {key: value for key, value in data.items() if key in ("PATH", *FRAMES_KEYS.values())}
    default = study_toys.make_plan(tmp_path, study_toys.study(DATA=easy), "easy.yaml")
    assert default.teacher_id() != plan.teacher_id()
    assert "scenes" not in default.identity(default.spec.rows["plain"], 0)["data"]
