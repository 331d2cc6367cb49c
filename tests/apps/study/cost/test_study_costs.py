"""Counted costs: step times measured in turns, and the epochs of equal compute that follow."""

from __future__ import annotations

import json

import pytest
import study_toys
import torch

from pcdet_distill.apps.study import write_tables
from pcdet_distill.apps.study.cost import step_times
from pcdet_distill.apps.study.cost.costs import LOCK, StepTimes, measured_costs
from pcdet_distill.apps.study.cost.equal_compute import choose_by_steps
from pcdet_distill.apps.study.plan import StudyPlan
from pcdet_distill.apps.study.records import Records
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.results.text import to_text
from pcdet_distill.apps.study.runner import Runner
from pcdet_distill.apps.study.survey import FINISHED, Outcome
from pcdet_distill.engine.logging.cost import Cost


class FakeTimer:
    """Step times without any training: a row of the name ``recipe`` takes twice as long."""

    def __init__(self, plan: StudyPlan, reference: str) -> None:
        self.reference = reference

    def measure_reference(self):
        return {"step_s": 0.5, "steps": 10, "once_s": 0.0}

    def measure(self, row, reference_s):
        return {"step_s": 2 * reference_s, "steps": 10, "once_s": 3.0}


def make_plan(root, rows=None, **changes):
    content = study_toys.study(COST="steps", **changes)
    content["ROWS"].update(rows or {})
    return study_toys.make_plan(root, content)


def make_times(plan, make_timer=FakeTimer):
    return StepTimes(plan, Records(plan), on_gpu=False, make_timer=make_timer)


class Clock:
    """Time that only steps move on."""

    def __init__(self) -> None:
        self.s = 0.0

    def step(self, seconds):
        """A step that takes the next of these seconds, over and over."""
        turns = iter(seconds * 100)

        def run(progress):
            self.s += next(turns)

        return run


def test_a_step_is_the_mean_over_the_parts_of_the_medians(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(step_times.time, "process_time", lambda: clock.s)
    watch = step_times.Stopwatch(torch.device("cpu"))

    def step(progress):
        # A term ends after half of the training; in the first part one step of five is disturbed.
        is_early = progress < 0.5
        clock.s += 3.0 if is_early else 1.0

    step_s, reference_s = step_times.in_turns(step, clock.step([0.5]), watch)
    assert step_s == pytest.approx(2.0)  # (3 + 3 + 1 + 1) / 4
    assert reference_s == pytest.approx(0.5)


def test_a_disturbed_step_does_not_count(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(step_times.time, "process_time", lambda: clock.s)
    watch = step_times.Stopwatch(torch.device("cpu"))
    one_in_five = [1.0, 1.0, 9.0, 1.0, 1.0]
    step_s, reference_s = step_times.in_turns(clock.step(one_in_five), clock.step([2.0]), watch)
    assert step_s == pytest.approx(1.0)
    assert reference_s == pytest.approx(2.0)


def test_seconds_are_steps_times_their_time_and_what_comes_before(tmp_path):
    plan = make_plan(tmp_path)
    times = make_times(plan)
    assert times.counted(plan.spec.rows["recipe"]) is None
    assert times.measure(list(plan.spec.rows.values()), lambda _: None)
    # plain: 2 epochs of 10 steps of 0.5 s. recipe: 3 s, then 2 epochs of 10 steps of 1 s.
    assert times.all_counted() == {"plain": 10.0, "recipe": 23.0}
    kept = json.loads((plan.folder / "step_times_cpu.json").read_text())
    assert list(kept) == ["plain", "recipe"]


def test_rows_that_differ_in_epochs_share_a_step_time(tmp_path):
    plan = make_plan(tmp_path, {"plain_2x": {"LIKE": "plain", "EPOCHS": 4}})
    times = make_times(plan)
    times.measure([plan.spec.rows["plain_2x"]], lambda _: None)
    assert list(times.known()) == ["plain"]
    assert times.counted(plan.spec.rows["plain_2x"]) == 20.0


def test_steps_are_measured_once(tmp_path):
    plan = make_plan(tmp_path)
    rows = list(plan.spec.rows.values())
    make_times(plan).measure(rows, lambda _: None)

    def refuse(plan, reference):
        raise AssertionError("measured twice")

    assert make_times(plan, refuse).measure(rows, lambda _: None)


def test_one_process_measures_at_a_time(tmp_path):
    plan = make_plan(tmp_path)
    other = Records(plan)
    other.locks.take(LOCK)
    assert not make_times(plan).measure(list(plan.spec.rows.values()), lambda _: None)
    other.locks.release(LOCK)
    assert make_times(plan).measure(list(plan.spec.rows.values()), lambda _: None)


def test_epochs_by_counted_costs(tmp_path):
    rows = {
        "as_recipe": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"},
        "recipe_as": {"LIKE": "recipe", "EQUAL_COMPUTE_OF": ["recipe", "recipe"]},
    }
    plan = make_plan(tmp_path, rows)
    times = make_times(plan)
    times.measure(list(plan.spec.rows.values()), lambda _: None)
    # 23 s less 1.5 % are 22.66 s; an epoch of plain takes 5 s: 4.5, rounded up.
    choice = choose_by_steps(plan, plan.spec.rows["as_recipe"], times)
    assert choice == {"epochs": 5, "target_s": 23.0, "epoch_s": 5.0, "unit": "counted"}
    # 46 s less 1.5 % and less the 3 s before the first step are 42.3 s; an epoch takes 10 s.
    assert choose_by_steps(plan, plan.spec.rows["recipe_as"], times)["epochs"] == 5


def test_a_shortage_of_half_the_tolerance_adds_no_epoch(tmp_path):
    rows = {"as_recipe": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe", "AGAINST": []}}

    class AlmostEqual(FakeTimer):
        def measure(self, row, reference_s):
            return {"step_s": 1.01 * reference_s, "steps": 10, "once_s": 0.0}

    plan = make_plan(tmp_path, rows)
    times = make_times(plan, AlmostEqual)
    times.measure(list(plan.spec.rows.values()), lambda _: None)
    assert choose_by_steps(plan, plan.spec.rows["as_recipe"], times)["epochs"] == 2


def test_equal_compute_waits_for_the_teacher_alone(tmp_path):
    """All first seeds come before the second ones: no row waits for all seeds of another."""
    rows = {"as_recipe": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}}
    plan = make_plan(tmp_path, rows)
    outcomes = Runner(plan, say=lambda _: None, make_timer=FakeTimer).run()
    assert {outcome.status for outcome in outcomes.values()} == {FINISHED}
    assert study_toys.order(tmp_path) == [
        "teacher",
        "plain-seed0",
        "recipe-seed0",
        "as_recipe-seed0",
        "plain-seed1",
        "recipe-seed1",
        "as_recipe-seed1",
    ]
    assert plan.run("as_recipe", 0).epochs == 5


def test_a_failed_teacher_blocks_what_cannot_be_counted(tmp_path):
    rows = {"as_recipe": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "recipe"}}
    content = study_toys.study(COST="steps")
    content["ROWS"].update(rows)
    plan = study_toys.make_plan(tmp_path, content, teacher={"says": "error: nan"})
    outcomes = Runner(plan, say=lambda _: None, make_timer=FakeTimer).run()
    assert outcomes["plain-seed1"].status == FINISHED
    assert outcomes["as_recipe-seed0"].status == "blocked"


def test_measured_seconds(tmp_path):
    plan = make_plan(tmp_path)
    ap = {"val": {"3d": {"Car": 1.0}, "bev": {"Car": 1.0}}}
    outcomes = {}
    for seed, wall_s in ((0, 384.0), (1, 435.0)):
        run = plan.run("plain", seed)
        outcomes[run.name] = Outcome(run, FINISHED, "", ap, Cost(wall_s, wall_s / 2))
    assert measured_costs(plan, outcomes, on_gpu=True) == {"plain": 409.5}
    assert measured_costs(plan, outcomes, on_gpu=False) == {"plain": 204.75}


def test_the_table_has_both_seconds(tmp_path):
    plan = make_plan(tmp_path, SEEDS=[0])
    outcomes = Runner(plan, say=lambda _: None, make_timer=FakeTimer).run()
    table = make_table(plan, outcomes, "val", counted={"plain": 10.0})
    lines = to_text(table).splitlines()
    header = next(line for line in lines if line.startswith("row "))
    assert "train s  counted s" in header
    plain = next(line for line in lines if line.startswith("plain"))
    assert plain.split()[:5] == ["plain", "1", "2", "2.0", "10"]
    recipe = next(line for line in lines if line.startswith("recipe"))
    assert recipe.split()[:5] == ["recipe", "1", "2", "2.0", "-"]


def test_costs_that_cannot_be_measured_are_a_warning(tmp_path, monkeypatch, capsys):
    """The toys are no detectors, so their steps cannot be measured."""
    monkeypatch.setattr("pcdet_distill.apps.study.results.write.measure_rows", lambda *_, **__: {})
    plan = make_plan(tmp_path, SEEDS=[0])
    Runner(plan, say=lambda _: None, make_timer=FakeTimer).run()
    tables = write_tables(plan, on_gpu=False)
    assert "warning: costs are not complete" in capsys.readouterr().out
    assert "cost not measured" in tables[-1].shown[0].verdict
    lines = (plan.folder / "results.csv").read_text().splitlines()
    assert lines[0].startswith("run,row,seed,split,status,epochs,cpu_s,wall_s,counted_s,")


def test_a_row_that_is_only_evaluated_is_not_measured(tmp_path):
    content = study_toys.study(COST="steps")
    given = {"CONFIG": "cfgs/toys/plain.yaml", "CKPT": "weights/other.pth"}
    content["ROWS"] = {"given": given, "plain": {"CONFIG": "cfgs/toys/plain.yaml"}}
    plan = study_toys.make_plan(tmp_path, content)
    times = make_times(plan)
    assert times.reference == "plain"
    assert times.measure(list(plan.spec.rows.values()), lambda _: None)
    assert list(times.known()) == ["plain"]


def test_a_study_that_only_evaluates_measures_its_teacher(tmp_path):
    content = study_toys.study(COST="steps")
    content["ROWS"] = {"given": {"CONFIG": "cfgs/toys/plain.yaml", "CKPT": "weights/other.pth"}}
    assert make_times(study_toys.make_plan(tmp_path, content)).reference == "teacher"
