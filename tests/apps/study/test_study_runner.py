"""Running a study of toys: missing runs, failures, kills, several processes at work."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import study_toys

from pcdet_distill.apps.study import runner
from pcdet_distill.apps.study.data import lock_name
from pcdet_distill.apps.study.records import Records
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.results.text import to_text
from pcdet_distill.apps.study.runner import Runner, wanted_runs
from pcdet_distill.apps.study.survey import summary, survey
from pcdet_distill.engine.checkpoints import run_lock
from pcdet_distill.errors import ConfigError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "OTHERS_POLL_SECONDS", 0.05)


def run(plan, **options):
    lines: list[str] = []
    outcomes = Runner(plan, say=lines.append, **options).run()
    return {name: outcome.status for name, outcome in outcomes.items()}, lines


def test_everything_runs_once_and_in_order(tmp_path):
    plan = study_toys.make_plan(tmp_path)
    statuses, lines = run(plan)
    assert set(statuses.values()) == {"finished"}
    assert len(statuses) == 5
    assert study_toys.order(tmp_path) == [
        "teacher",
        "plain-seed0",
        "recipe-seed0",
        "plain-seed1",
        "recipe-seed1",
    ]
    assert any(line.startswith("plain-seed1: $ python toy.py") for line in lines)
    again, lines = run(study_toys.make_plan(tmp_path))
    assert again == statuses
    assert lines == []
    assert len(study_toys.order(tmp_path)) == 5


def test_only_what_is_missing_of_a_run_is_repeated(tmp_path):
    content = {**study_toys.study(SEEDS=[0]), "EVALUATE": ["val", "holdout"]}
    plan = study_toys.make_plan(tmp_path, content)
    run(plan)
    assert study_toys.order(tmp_path).count("plain-seed0") == 2
    plan.results(plan.run("plain", 0))["holdout"].unlink()
    run(plan)
    assert study_toys.order(tmp_path).count("plain-seed0") == 3


def test_only_some_rows_with_what_they_need(tmp_path):
    plan = study_toys.make_plan(tmp_path)
    assert wanted_runs(plan, ["recipe"]) == {"teacher", "recipe-seed0", "recipe-seed1"}
    run(plan, only=["plain"])
    assert study_toys.order(tmp_path) == ["plain-seed0", "plain-seed1"]


def test_jobs_run_side_by_side(tmp_path):
    plan = study_toys.make_plan(
        tmp_path,
        study_toys.study(ROWS={"plain": {"CONFIG": "cfgs/toys/plain.yaml"}}, TEACHER=None),
        together=2,
    )
    outcomes = Runner(
        plan, jobs=2, say=lambda _: None
    ).run()  # each waits until the other has started
    assert [outcome.status for outcome in outcomes.values()] == ["finished", "finished"]


def test_a_failure_is_noted_and_stops_nothing_but_what_needs_it(tmp_path):
    says = "epoch 1\nerror: training: the loss became nan before iteration 4"
    plan = study_toys.make_plan(tmp_path, teacher={"says": says})
    statuses, lines = run(plan)
    assert statuses == {
        "teacher": "failed",
        "plain-seed0": "finished",
        "plain-seed1": "finished",
        "recipe-seed0": "blocked",
        "recipe-seed1": "blocked",
    }
    outcomes = survey(plan, Records(plan))
    assert outcomes["teacher"].reason == "training: the loss became nan before iteration 4"
    assert outcomes["recipe-seed0"].reason == f"teacher failed: {outcomes['teacher'].reason}"
    assert summary(outcomes) == "2 finished, 1 failed, 2 blocked"
    before = study_toys.order(tmp_path)
    run(plan)
    assert study_toys.order(tmp_path) == before  # not tried again of itself
    (tmp_path / "toy.json").write_text("{}")
    Records(plan).forget_failure(plan.run("teacher"))
    assert set(run(plan)[0].values()) == {"finished"}


@pytest.mark.parametrize(
    ("toy", "reason"),
    [
        ({"says": "Traceback\nKeyError: 'x'", "code": 1}, "toy.py ended with 1: KeyError: 'x'"),
        ({"silent": True}, "toy.py ended without writing its result: it printed nothing"),
        ({"ap": float("nan")}, "its evaluation gave numbers that are not finite"),
    ],
)
def test_reasons_of_other_failures(tmp_path, toy, reason):
    plan = study_toys.make_plan(tmp_path, **{"plain-seed0": toy})
    statuses, _ = run(plan)
    assert statuses["plain-seed0"] == "failed"
    assert statuses["plain-seed1"] == "finished"
    assert survey(plan, Records(plan))["plain-seed0"].reason == reason


def test_a_signal_is_a_reason(tmp_path):
    log = tmp_path / "log"
    log.write_text("$ python toy.py\n")
    assert (
        runner.failure_reason(log, -9, "tools/train.py") == "tools/train.py was killed by SIGKILL"
    )


def test_a_training_that_another_holds_is_no_failure(tmp_path):
    plan = study_toys.make_plan(
        tmp_path,
        study_toys.study(SEEDS=[0]),
        **{
            "plain-seed0": {
                "says": "error: output folder 'x': another training is running in it; wait"
            }
        },
    )
    lines: list[str] = []

    def say(text):
        lines.append(text)
        if "another training" in text:
            (tmp_path / "toy.json").write_text("{}")

    outcomes = Runner(plan, say=say).run()
    assert outcomes["plain-seed0"].status == "finished"
    assert any("another training" in line for line in lines)


def test_what_tools_train_says_of_a_folder_that_is_taken():
    assert runner.IN_USE in inspect.getsource(run_lock)


def test_unlabelled_frames_may_be_added(tmp_path):
    data = {"PATH": "data/x", "TRAIN_FRAMES": 4, "VAL_FRAMES": 2}
    content = study_toys.study(DATA=data, SEEDS=[0])
    extra = {"DATA_CONFIG.INFO_PATH.train": ["a.pkl", "kitti_infos_unlabelled.pkl"]}
    content["ROWS"]["more"] = {"CONFIG": "cfgs/toys/plain.yaml", "SET": extra}
    plan = study_toys.make_plan(tmp_path, content)
    Records(plan).own_the_folder()
    Records(plan).begin(plan.run("plain", 0))
    grown = study_toys.make_plan(tmp_path, {**content, "DATA": {**data, "UNLABELLED_FRAMES": 5}})
    Records(grown).own_the_folder()
    Records(plan).begin(plan.run("more", 0))
    with pytest.raises(
        ConfigError, match=r"more-seed0 was trained .*data.unlabelled_frames \(0 -> 5\)"
    ):
        Records(grown).own_the_folder()
    other = study_toys.make_plan(tmp_path, {**content, "DATA": {**data, "VAL_FRAMES": 3}})
    with pytest.raises(ConfigError, match=r"data.frames.val \(2 -> 3\)"):
        Records(other).own_the_folder()


def test_data_that_two_studies_share_is_made_once(tmp_path, monkeypatch):
    content = study_toys.study(
        DATA={"PATH": "data/x", "TRAIN_FRAMES": 4, "VAL_FRAMES": 2}, SEEDS=[0]
    )
    first = Records(study_toys.make_plan(tmp_path, content))
    plan = study_toys.make_plan(tmp_path, content, "second.yaml")
    assert plan.spec.name == "second"
    assert first.shared_locks.take(lock_name(plan))

    def is_making(plan):
        return first.shared_locks.is_taken(lock_name(plan))

    monkeypatch.setattr(
        runner, "data_commands", lambda plan: [["never.py"]] if is_making(plan) else []
    )
    lines = []

    def say(text):
        lines.append(text)
        if text == "waiting for another process to make the data":
            first.shared_locks.release(lock_name(plan))

    Runner(plan, say=say).run()
    assert lines[0] == "waiting for another process to make the data"
    assert not any("never.py" in text for text in lines)


def test_the_check_comes_before_any_training(tmp_path):
    plan = study_toys.make_plan(tmp_path)

    def refuse(runs):
        raise ConfigError(f"{len(runs)} runs, and one cannot be")

    with pytest.raises(ConfigError, match="5 runs, and one cannot be"):
        run(plan, check=refuse)
    assert study_toys.order(tmp_path) == []
    assert list((plan.folder / "locks").glob("*.lock")) == []


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import study_toys
from pcdet_distill.apps.study import runner
runner.POLL_SECONDS, runner.OTHERS_POLL_SECONDS = 0.01, 0.1
plan = study_toys.ToyPlan(study_toys.read_study(Path({root!r}) / "cfgs/toys.yaml"), Path({root!r}))
runner.Runner(plan).run()
"""


def start(root: Path) -> subprocess.Popen:
    script = SCRIPT.format(tests=str(Path(__file__).parent), root=str(root))
    return subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.DEVNULL)


def test_killed_and_started_again_while_a_second_process_helps(tmp_path):
    plan = study_toys.make_plan(tmp_path, seconds=0.5)
    first = start(tmp_path)
    end = time.monotonic() + 60
    while not study_toys.order(tmp_path) and time.monotonic() < end:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not plan.results(plan.run("teacher"))["val"].exists()
    second = start(tmp_path)
    assert set(run(plan)[0].values()) == {"finished"}
    assert second.wait(timeout=60) == 0
    assert sorted(study_toys.order(tmp_path)) == [
        "plain-seed0",
        "plain-seed1",
        "recipe-seed0",
        "recipe-seed1",
        "teacher",
        "teacher",
    ]


def test_two_studies_in_one_folder_refuse_each_other(tmp_path):
    run(study_toys.make_plan(tmp_path, {**study_toys.study(), "NAME": "same"}))
    other = study_toys.make_plan(
        tmp_path, {**study_toys.study(), "NAME": "same"}, name="other.yaml"
    )
    with pytest.raises(
        ConfigError,
        match=r"belongs to another study \(file \(cfgs/toys.yaml -> cfgs/other.yaml\)\)",
    ):
        run(other)


def test_another_version_of_a_study_at_work_is_refused(tmp_path):
    plan = study_toys.make_plan(tmp_path, seconds=30)
    Records(plan).own_the_folder()
    first = start(tmp_path)
    version = plan.folder / "locks" / "version.json"
    end = time.monotonic() + 60
    while not (version.exists() and study_toys.order(tmp_path)) and time.monotonic() < end:
        time.sleep(0.02)
    content = study_toys.study()
    content["ROWS"]["new"] = {"CONFIG": "cfgs/toys/plain.yaml"}
    with pytest.raises(
        ConfigError, match=rf"process {first.pid} on \S+ began to work there on another version of"
    ):
        run(study_toys.make_plan(tmp_path, content))
    first.kill()
    first.wait()
    statuses, _ = run(study_toys.make_plan(tmp_path, content))  # nobody works there any more
    assert set(statuses.values()) == {"finished"}


def test_a_changed_row_with_trained_runs_is_refused(tmp_path):
    run(study_toys.make_plan(tmp_path))
    content = study_toys.study()
    content["ROWS"]["plain"]["SET"] = {"OPTIMIZATION.LR": 0.5}
    content["ROWS"]["new"] = {"CONFIG": "cfgs/toys/plain.yaml"}
    with pytest.raises(
        ConfigError, match=r"plain-seed0 was trained .*\(config.OPTIMIZATION.LR \(0.003 -> 0.5\)\)"
    ):
        run(study_toys.make_plan(tmp_path, content))
    del content["ROWS"]["plain"]["SET"]
    statuses, _ = run(study_toys.make_plan(tmp_path, content))  # a row may be added
    assert statuses["new-seed1"] == "finished"


def test_epochs_of_equal_compute(tmp_path):
    content = study_toys.study()
    content["ROWS"]["equal"] = {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}
    content["ROWS"]["with_teacher"] = {"LIKE": "plain", "EQUAL_COMPUTE_OF": ["recipe", "teacher"]}
    plan = study_toys.make_plan(
        tmp_path,
        content,
        **{
            "plain-seed0": {"cost": 2.0},
            "plain-seed1": {"cost": 4.0},  # 3 s an epoch
            "recipe-seed0": {"cost": 10.0},
            "recipe-seed1": {"cost": 12.0},  # 20 and 24 s: 22 s
            "teacher": {"cost": 5.0},
        },
    )  # 50 s
    statuses, _ = run(plan)
    assert set(statuses.values()) == {"finished"}
    choices = Records(plan).equal_epochs()
    assert choices["equal"] == {"epochs": 8, "target_s": 22.0, "epoch_s": 3.0, "unit": "cpu"}
    assert (
        choices["with_teacher"]["epochs"] == 24 and plan.run("equal", 0).epochs == 8
    )  # 7.3, rounded up
    again = study_toys.make_plan(tmp_path, content)
    assert survey(again, Records(again))["equal-seed0"].run.epochs == 8


def test_equal_compute_goes_without_the_runs_that_failed(tmp_path):
    content = study_toys.study()
    content["ROWS"]["equal"] = {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}
    broken = {"says": "error: nan"}
    plan = study_toys.make_plan(
        tmp_path / "one", content, **{"recipe-seed1": broken, "recipe-seed0": {"cost": 4.0}}
    )
    statuses, _ = run(plan)
    assert statuses["equal-seed0"] == "finished"
    assert plan.run("equal", 0).epochs == 8
    plan = study_toys.make_plan(
        tmp_path / "none", content, **{"recipe-seed1": broken, "recipe-seed0": broken}
    )
    statuses, _ = run(plan)
    assert statuses["equal-seed0"] == "blocked"
    assert "no run of recipe finished" in survey(plan, Records(plan))["equal-seed0"].reason


def test_a_given_teacher_has_a_row_and_closes_the_gap(tmp_path):
    given = {"CONFIG": "cfgs/toys/plain.yaml", "CKPT": "weights/teacher.pth"}
    content = study_toys.study(TEACHER=given)
    toy = {"teacher": {"ap": 30.0}, "recipe-seed0": {"ap": 20.0}, "recipe-seed1": {"ap": 20.0}}
    plan = study_toys.make_plan(tmp_path, content, **toy)
    outcomes = Runner(plan, say=lambda _: None).run()
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    table = make_table(plan, outcomes, "val")
    teacher = table.row("teacher")
    assert teacher.ap["3d"]["mAP"].mean == 30.0
    assert teacher.train_s is None
    assert teacher.epochs is None
    assert teacher.note == "evaluated from weights/teacher.pth; its training is not counted"
    assert table.row("recipe").gap == pytest.approx((22 - 12) / (30 - 12))
    assert "teacher: evaluated from weights/teacher.pth" in to_text(table)


def test_a_given_row_is_evaluated_only(tmp_path):
    content = study_toys.study()
    content["ROWS"]["given"] = {"CONFIG": "cfgs/toys/plain.yaml", "CKPT": "weights/other.pth"}
    plan = study_toys.make_plan(tmp_path, content, **{"given-seed0": {"ap": 25.0}})
    outcomes = Runner(plan, say=lambda _: None).run()
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    given = make_table(plan, outcomes, "val").row("given")
    assert given.ap["3d"]["mAP"].mean == 25.0 and given.train_s is None
    assert given.note == "evaluated from weights/other.pth; its training is not counted"


def shared_study(*rows):
    """A study with SHARE: both, of some rows."""
    content = study_toys.study(SHARE="both", SEEDS=[0])
    known = {**content["ROWS"], "equal": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}}
    content["ROWS"] = {name: known[name] for name in rows}
    return content


def test_studies_that_share_train_their_common_rows_once(tmp_path):
    first = study_toys.make_plan(tmp_path, shared_study("plain", "recipe", "equal"), "first.yaml")
    run(first)
    assert study_toys.order(tmp_path) == [
        "teacher",
        "plain-seed0",
        "recipe-seed0",
        "equal-seed0",
    ]
    content = shared_study("plain", "recipe", "equal")
    content["ROWS"]["new"] = {"LIKE": "plain", "EPOCHS": 3}
    second = study_toys.make_plan(tmp_path, content, "second.yaml")
    statuses, _ = run(second)
    assert set(statuses.values()) == {"finished"}
    # Rows of equal compute belong to one study: each chooses their epochs by its own measurements.
    assert study_toys.order(tmp_path)[4:] == ["equal-seed0", "new-seed0"]


def test_a_shared_row_of_another_configuration_is_refused(tmp_path):
    run(study_toys.make_plan(tmp_path, shared_study("plain"), "first.yaml"))
    content = shared_study("plain")
    content["ROWS"]["plain"]["SET"] = {"OPTIMIZATION.LR": 0.5}
    with pytest.raises(ConfigError, match="plain-seed0 was trained with another configuration"):
        run(study_toys.make_plan(tmp_path, content, "second.yaml"))


def test_studies_without_share_train_their_own_rows(tmp_path):
    rows = {"plain": {"CONFIG": "cfgs/toys/plain.yaml"}}
    for name in ("first.yaml", "second.yaml"):
        run(study_toys.make_plan(tmp_path, study_toys.study(ROWS=rows, SEEDS=[0]), name))
    assert study_toys.order(tmp_path).count("plain-seed0") == 2
