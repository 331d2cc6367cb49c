"""Which rows of a study are compared with which, and what the tables say of it."""

from __future__ import annotations

import pytest
import study_toys
from test_study_table import outcomes_of

from pcdet_distill.apps.study import StudyPlan
from pcdet_distill.apps.study.results.comparisons import (
    EQUAL_COMPUTE,
    EQUAL_EPOCHS,
    LEFT_OUT,
    compare_rows,
)
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.results.text import comparison_lines, to_markdown, to_text

DISTILL = "DISTILL: {TEACHER: {CFG_FILE: cfgs/toys/plain.yaml}, INIT_STUDENT: %s, TERMS: {%s}}\n"
LOGITS, LABELS = "LOGITS: {NAME: LogitBoxLoss, WEIGHT: 1.0}", "LABELS: {NAME: TeacherLabels}"
CONFIGS = {
    "start": ("SLICE", ""),
    "logits": ("NONE", LOGITS),
    "start_logits": ("SLICE", LOGITS),
    "start_labels": ("SLICE", LABELS),
    "all": ("SLICE", f"{LOGITS}, {LABELS}"),
    "start_fading": ("SLICE", "LOGITS: {NAME: LogitBoxLoss, WEIGHT: {START: 1.0, END: 0.0}}"),
}


def make_plan(root, rows, **changes):
    plan_file = study_toys.make_root(root, study_toys.study(ROWS=rows, **changes))
    for name, (start, terms) in CONFIGS.items():
        (root / "cfgs/toys" / f"{name}.yaml").write_text(
            study_toys.MODEL + DISTILL % (start, terms)
        )
    return study_toys.ToyPlan(StudyPlan.read(plan_file, root).spec, root)


@pytest.fixture
def plan(tmp_path):
    rows = {
        "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
        **{name: {"CONFIG": f"cfgs/toys/{name}.yaml"} for name in CONFIGS},
    }
    rows["all"]["SEEDS"] = [1]
    rows["longer"] = {"LIKE": "start", "EPOCHS": 5}
    rows["other_rate"] = {"LIKE": "logits", "SET": {"OPTIMIZATION.LR": 0.001}}
    return make_plan(tmp_path, rows)


def of_kind(plan, kind, outcomes=None):
    return [each for each in compare_rows(plan, outcomes or {}, "val") if each.kind == kind]


def test_rows_that_go_without_one_part(plan):
    """Neither more epochs, nor another rate, nor another weight make a row another's equal."""
    assert {(each.row, each.part, each.other) for each in of_kind(plan, LEFT_OUT)} == {
        ("start_logits", "INIT_STUDENT", "logits"),
        ("start_logits", "LOGITS", "start"),
        ("start_labels", "LABELS", "start"),
        ("start_fading", "LOGITS", "start"),
        ("all", "LABELS", "start_logits"),
        ("all", "LOGITS", "start_labels"),
    }


def test_without_labels_for_them_there_are_fewer_frames(tmp_path):
    rows = {
        name: {"CONFIG": f"cfgs/toys/{name}.yaml"}
        for name in ("start_logits", "start_labels", "all")
    }
    for name in ("start_labels", "all"):
        rows[name].update(SET={"DATA_CONFIG.INFO_PATH.train": ["a.pkl", "b.pkl"]}, EPOCHS=1)
    plan = make_plan(tmp_path, rows, BASELINE=None)
    assert [(each.row, each.part, each.other) for each in of_kind(plan, LEFT_OUT)] == [
        ("all", "LABELS", "start_logits"),
        ("all", "LOGITS", "start_labels"),
    ]


def test_equal_epochs_are_compared_run_by_run(plan):
    scores = {
        "plain-seed0": 30.0,
        "plain-seed1": 34.0,
        "start-seed0": 50.0,
        "start-seed1": 48.0,
        "all-seed1": 60.0,
    }
    found = {
        each.row: each.difference for each in of_kind(plan, EQUAL_EPOCHS, outcomes_of(plan, scores))
    }
    assert found["start"].values == (20.0, 14.0)
    assert found["start"].mean == 17.0
    assert found["all"].values == (26.0,)
    assert found["all"].deviation is None
    assert found["logits"] is None
    assert "longer" not in found
    assert "plain" not in found


def test_epochs_of_more_frames_are_longer(tmp_path):
    more = {"DATA_CONFIG.INFO_PATH.train": ["a.pkl", "kitti_infos_unlabelled.pkl"]}
    rows = {
        "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
        "start": {"CONFIG": "cfgs/toys/start.yaml"},
        "labels": {"CONFIG": "cfgs/toys/start_labels.yaml", "SET": more, "EPOCHS": 1},
        "more_labels": {"CONFIG": "cfgs/toys/start_labels.yaml", "SET": more},
    }
    data = {"PATH": "data/x", "TRAIN_FRAMES": 4, "VAL_FRAMES": 2, "UNLABELLED_FRAMES": 4}
    assert [each.row for each in of_kind(make_plan(tmp_path, rows, DATA=data), EQUAL_EPOCHS)] == [
        "start",
        "labels",
    ]


def test_equal_compute_belongs_to_the_last_stage(tmp_path):
    rows = {
        "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
        "first": {"CONFIG": "cfgs/toys/start.yaml"},
        "second": {"CONFIG": "cfgs/toys/start.yaml", "TEACHER": "first"},
        "as_both": {"LIKE": "plain", "EQUAL_COMPUTE_OF": ["first", "second"]},
        "as_all": {"LIKE": "plain", "EQUAL_COMPUTE_OF": ["first", "teacher"]},
    }
    plan = make_plan(tmp_path, rows)
    assert [(each.row, each.other) for each in of_kind(plan, EQUAL_COMPUTE)] == [
        ("second", "as_both"),
        ("first", "as_all"),
    ]


def test_the_tables(tmp_path):
    rows = {
        "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
        "logits": {"CONFIG": "cfgs/toys/logits.yaml"},
        "start": {"CONFIG": "cfgs/toys/start.yaml"},
        "start_logits": {"CONFIG": "cfgs/toys/start_logits.yaml"},
        "as_logits": {"LIKE": "plain", "EQUAL_COMPUTE_OF": "logits"},
    }
    plan = make_plan(tmp_path, rows, SEEDS=[0])
    plan.choose_epochs("as_logits", 3)
    scores = {
        "plain-seed0": 30.0,
        "logits-seed0": 40.0,
        "as_logits-seed0": 36.0,
        "start-seed0": 50.0,
        "start_logits-seed0": 49.0,
        "teacher": 60.0,
    }
    table = make_table(plan, outcomes_of(plan, scores), "val")
    assert [row.name for row in table.rows] == [
        "teacher",
        "start",
        "start_logits",
        "logits",
        "as_logits",
        "plain",
    ]
    assert comparison_lines(table, EQUAL_EPOCHS)[1:] == [
        ["start", "2", "51.0", "plain", "31.0", "+20.0", "1"],
        ["start_logits", "2", "50.0", "plain", "31.0", "+19.0", "1"],
        ["logits", "2", "41.0", "plain", "31.0", "+10.0", "1"],
    ]
    assert comparison_lines(table, EQUAL_COMPUTE)[1:] == [
        ["logits", "40", "41.0", "as_logits", "3", "36", "37.0", "+4.0", "1"]
    ]
    assert comparison_lines(table, LEFT_OUT)[1:] == [
        ["start_logits", "50.0", "INIT_STUDENT", "logits", "41.0", "+9.0", "1"],
        ["start_logits", "50.0", "LOGITS", "start", "51.0", "-1.0", "1"],
    ]
    for text in (to_text(table), to_markdown(table)):
        places = [
            text.index(title)
            for title in (
                "All rows",
                "Against the baseline at equal epochs",
                "At equal compute",
                "What each part adds",
                "By class",
            )
        ]
        assert places == sorted(places)


def test_rows_of_one_baseline_stand_together_and_those_without_numbers_last(tmp_path):
    rows = {
        name: {"CONFIG": "cfgs/toys/plain.yaml", "BASELINE": name[0]}
        for name in ("a", "b", "a1", "b1", "a2")
    }
    plan = make_plan(tmp_path, rows, SEEDS=[0], BASELINE="a")
    scores = {"a-seed0": 1.0, "b-seed0": 9.0, "b1-seed0": 8.0, "a2-seed0": 2.0}
    table = make_table(plan, outcomes_of(plan, scores), "val")
    assert [row.name for row in table.rows] == ["teacher", "a2", "a", "a1", "b", "b1"]
    assert "FAILED a1, seed 0: training: the loss became nan" in to_text(table)
