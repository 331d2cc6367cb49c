"""The arithmetic of a study's table, and what it shows of failures."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import study_toys

from pcdet_distill.apps.study.results.spread import Spread
from pcdet_distill.apps.study.results.table import make_table
from pcdet_distill.apps.study.results.text import to_markdown, to_text
from pcdet_distill.apps.study.survey import FAILED, FINISHED, Outcome
from pcdet_distill.engine.logging.cost import Cost
from pcdet_distill.errors import DataError
from pcdet_distill.report.comparison import read_ap

SCORES = {
    "teacher": 60.0,
    "plain-seed0": 30.0,
    "plain-seed1": 34.0,
    "recipe-seed0": 50.0,
    "recipe-seed1": 48.0,
}


def outcomes_of(plan, scores=SCORES):
    """Runs that scored ``scores`` for cars, two more for cyclists, five more in BEV."""
    outcomes = {}
    for run in plan.runs():
        if run.name in scores:
            car = scores[run.name]
            ap = {
                "3d": {"Car": car, "Cyclist": car + 2},
                "bev": {"Car": car + 5, "Cyclist": car + 7},
            }
            outcomes[run.name] = Outcome(run, FINISHED, "", {"val": ap}, Cost(2 * car, car))
        else:
            outcomes[run.name] = Outcome(run, FAILED, "training: the loss became nan")
    return outcomes


@pytest.fixture
def plan(tmp_path):
    return study_toys.make_plan(tmp_path)


def test_mean_and_standard_deviation():
    assert Spread.of([]) is None
    assert Spread.of([3.0]).text() == "3.0"
    spread = Spread.of([1.0, 2.0, 6.0])
    assert spread.mean == 3.0
    assert spread.deviation == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert spread.text(1, "±") == "3.0±2.6"
    assert spread.text(0) == "3+-3"


def test_rows(plan):
    table = make_table(plan, outcomes_of(plan), "val")
    assert [row.name for row in table.rows] == ["teacher", "recipe", "plain"]  # the best first
    teacher, recipe, plain = table.rows
    plain_map = plain.ap["3d"]["mAP"]
    assert plain_map.values == (31.0, 35.0)
    assert plain_map.mean == 33.0
    assert plain_map.deviation == pytest.approx(8**0.5)
    assert plain.ap["bev"]["Cyclist"].mean == 39.0
    assert plain.train_s.mean == 32.0
    assert plain.gap == 0.0
    assert teacher.gap is None
    assert recipe.gap == pytest.approx((50 - 33) / (61 - 33))
    on_gpu = make_table(plan, outcomes_of(plan), "val", on_gpu=True)
    assert on_gpu.rows[2].train_s.mean == 64.0
    assert "wall-clock seconds" in on_gpu.setting


def test_every_row_may_have_its_own_baseline(tmp_path):
    content = study_toys.study()
    content["ROWS"]["recipe"]["BASELINE"] = "recipe"
    plan = study_toys.make_plan(tmp_path, content)
    assert make_table(plan, outcomes_of(plan), "val").row("recipe").gap == 0.0


def test_failed_runs_are_in_the_table_with_their_reason(plan):
    scores = dict(SCORES)
    del scores["recipe-seed0"]
    table = make_table(plan, outcomes_of(plan, scores), "val")
    text = to_text(table)
    assert table.row("recipe").seeds == 1
    assert table.row("recipe").planned == 2
    assert "FAILED recipe, seed 0: training: the loss became nan" in text
    assert " 1/2 " in text
    only_teacher = to_text(make_table(plan, outcomes_of(plan, {"teacher": 60.0}), "val"))
    row = next(line for line in only_teacher.splitlines() if line.startswith("plain"))
    assert row.split()[1:4] == ["0/2", "2", "-"]
    assert row.count("FAILED") == 2


def test_the_text(plan):
    measured = {"plain": {"parameters": 164_000, "gflops": 0.1234, "latency_ms": 17.6}}
    equal = {"recipe": {"epochs": 2, "epoch_s": 3.0, "target_s": 22.0, "unit": "cpu"}}
    table = make_table(plan, outcomes_of(plan), "val", measured=measured, equal=equal)
    text = to_text(table)
    line = next(line for line in text.splitlines() if line.startswith("plain"))
    assert line.split() == [
        "plain",
        "2",
        "2",
        "32+-3",
        "164",
        "k",
        "0.12",
        "18",
        "ms",
        "38.0+-2.8",
        "33.0+-2.8",
        "0",
        "%",
    ]
    by_class = text.split("By class")[1]
    line = next(line for line in by_class.splitlines() if line.startswith("plain"))
    assert line.split() == ["plain", "32.0+-2.8", "34.0+-2.8", "37.0+-2.8", "39.0+-2.8"]
    assert "epochs chosen so that 3.0 s an epoch come to the 22.0 s" in text


def test_the_markdown(plan):
    markdown = to_markdown(make_table(plan, outcomes_of(plan), "val"), {"plain": "a.yaml"})
    assert "| [plain](a.yaml) | 2 | 2 | 32±3 |" in markdown
    for part in markdown.split("###")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


def test_plain_containers_for_json(plan):
    plain = asdict(make_table(plan, outcomes_of(plan), "val"))
    row = json.loads(json.dumps(plain))["rows"][2]
    assert row["ap"]["3d"]["Car"]["values"] == [30.0, 34.0]


def test_the_numbers_are_those_of_the_evaluation(tmp_path):
    path = tmp_path / "metrics.json"
    strict = {}
    for metric, value in (("bev", 7.0), ("3d", 5.0)):
        r40 = {"easy": 1.0, "moderate": value, "hard": 3.0}
        strict[metric] = {"R40": r40, "R11": {"moderate": 9.0}}
    path.write_text(json.dumps({"ap": {"Car": {"strict": strict}}}))
    assert read_ap(path, ["Car"]) == {"bev": {"Car": 7.0}, "3d": {"Car": 5.0}}
    with pytest.raises(DataError, match="metrics.json: not the metrics.json of a KITTI evaluation"):
        read_ap(path, ["Car", "Cyclist"])
