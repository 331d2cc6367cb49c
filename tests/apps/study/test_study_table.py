"""The arithmetic of a study's table, what it says of failures, and what is published."""

from __future__ import annotations

import json
import os
import re

import pytest
import study_toys

from pcdet_distill.apps import study
from pcdet_distill.apps.study.plot import draw, label_offsets
from pcdet_distill.apps.study.publish import publish
from pcdet_distill.apps.study.results import FAILED, FINISHED, Outcome, read_ap, write_json
from pcdet_distill.apps.study.runner import Runner
from pcdet_distill.apps.study.spread import Spread
from pcdet_distill.apps.study.table import make_table, to_markdown, to_plain, to_text
from pcdet_distill.engine.logging.cost import Cost
from pcdet_distill.errors import ConfigError, DataError

ALL_DONE = ["teacher", "plain-seed0", "plain-seed1", "recipe-seed0", "recipe-seed1"]
SCORES = {
    "teacher": 60.0,
    "plain-seed0": 30.0,
    "plain-seed1": 34.0,
    "recipe-seed0": 50.0,
    "recipe-seed1": 48.0,
}


def outcomes_of(plan, scores=SCORES):
    """Runs that scored ``scores`` for cars, two more for cyclists, five more in BEV."""
    found = {}
    for run in plan.runs():
        if run.name in scores:
            car = scores[run.name]
            ap = {
                "3d": {"Car": car, "Cyclist": car + 2},
                "bev": {"Car": car + 5, "Cyclist": car + 7},
            }
            found[run.name] = Outcome(run, FINISHED, "", {"val": ap}, Cost(2 * car, car))
        else:
            found[run.name] = Outcome(run, FAILED, "training: the loss became nan")
    return found


@pytest.fixture
def plan(tmp_path):
    return study_toys.make_plan(tmp_path)


def test_mean_and_standard_deviation():
    assert Spread.of([]) is None
    assert Spread.of([3.0]).text() == "3.0"
    spread = Spread.of([1.0, 2.0, 6.0])
    assert spread.mean == 3.0 and spread.deviation == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert spread.text(1, "±") == "3.0±2.6" and spread.text(0) == "3+-3"


def test_rows(plan):
    table = make_table(plan, outcomes_of(plan), "val")
    assert [row.name for row in table.rows] == ["teacher", "recipe", "plain"]  # the best first
    teacher, recipe, plain = table.rows
    assert plain.ap["3d"]["mAP"].values == (31.0, 35.0) and plain.ap["3d"]["mAP"].mean == 33.0
    assert plain.ap["3d"]["mAP"].deviation == pytest.approx(8**0.5)
    assert plain.ap["bev"]["Cyclist"].mean == 39.0 and plain.train_s.mean == 32.0
    assert (
        plain.gap == 0.0
        and teacher.gap is None
        and recipe.gap == pytest.approx((50 - 33) / (61 - 33))
    )
    on_gpu = make_table(plan, outcomes_of(plan), "val", on_gpu=True)
    assert on_gpu.rows[2].train_s.mean == 64.0 and "seconds on the clock" in on_gpu.setting


def test_every_row_may_have_its_own_baseline(tmp_path):
    content = study_toys.study()
    content["ROWS"]["recipe"]["BASELINE"] = "recipe"
    plan = study_toys.make_plan(tmp_path, content)
    assert make_table(plan, outcomes_of(plan), "val").row("recipe").gap == 0.0


def test_failed_runs_are_in_the_table_with_their_reason(plan):
    scores = {
        name: SCORES[name] for name in ("teacher", "plain-seed0", "plain-seed1", "recipe-seed1")
    }
    table = make_table(plan, outcomes_of(plan, scores), "val")
    text = to_text(table)
    assert table.row("recipe").seeds == 1 and table.row("recipe").planned == 2
    assert "FAILED recipe, seed 0: training: the loss became nan" in text and " 1/2 " in text
    nothing = to_text(make_table(plan, outcomes_of(plan, {"teacher": 60.0}), "val"))
    row = next(line for line in nothing.splitlines() if line.startswith("plain"))
    assert row.split()[1:4] == ["0/2", "2", "-"] and row.count("FAILED") == 2


def test_the_text_and_the_markdown(plan):
    measured = {"plain": {"parameters": 164_000, "gflops": 0.1234, "latency_ms": 17.6}}
    equal = {"recipe": {"epoch_s": 3.0, "target_s": 22.0}}
    table = make_table(plan, outcomes_of(plan), "val", measured=measured, equal=equal)
    line = next(line for line in to_text(table).splitlines() if line.startswith("plain"))
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
    by_class = to_text(table).split("By class")[1]
    line = next(line for line in by_class.splitlines() if line.startswith("plain"))
    assert line.split() == ["plain", "32.0+-2.8", "34.0+-2.8", "37.0+-2.8", "39.0+-2.8"]
    assert "epochs chosen so that 3.0 s an epoch come to the 22.0 s" in to_text(table)
    markdown = to_markdown(table, {"plain": ("a.yaml", {0: "m0.json", 1: "m1.json"})})
    assert "| [plain](a.yaml) | 2 ([0](m0.json) [1](m1.json)) | 2 | 32±3 |" in markdown
    for part in markdown.split("###")[1:]:
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) == 1
    assert json.loads(json.dumps(to_plain(table)))["rows"][2]["ap"]["3d"]["Car"]["values"] == [
        30.0,
        34.0,
    ]


def test_the_numbers_are_those_of_the_evaluation(tmp_path):
    (tmp_path / "metrics.json").write_text(
        json.dumps(
            {
                "ap": {
                    "Car": {
                        "strict": {
                            kind: {
                                "R40": {"easy": 1.0, "moderate": value, "hard": 3.0},
                                "R11": {"moderate": 9.0},
                            }
                            for kind, value in (("bev", 7.0), ("3d", 5.0))
                        }
                    }
                }
            }
        )
    )
    assert read_ap(tmp_path / "metrics.json", ["Car"]) == {"bev": {"Car": 7.0}, "3d": {"Car": 5.0}}
    with pytest.raises(DataError, match="metrics.json: not the metrics.json of a KITTI evaluation"):
        read_ap(tmp_path / "metrics.json", ["Car", "Cyclist"])


def test_the_plot(plan, tmp_path):
    pytest.importorskip("matplotlib")
    draw(make_table(plan, outcomes_of(plan), "val"), tmp_path / "plot.png", on_gpu=False)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_labels_of_the_plot_stay_apart():
    places = [(50.0, 50.0), (50.0, 50.0), (190.0, 90.0)]
    offsets = label_offsets(["long name", "other name", "at the edge"], places, right_edge=200.0)
    assert offsets[0] != offsets[1] and offsets[2][0] < -40


def test_what_is_published(plan, tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps({"recipe-seed1": {"says": "error: nan"}}))
    outcomes = Runner(plan, say=lambda _: None).run()
    write_json(tmp_path / "docs" / "study" / "toys" / "metrics" / "gone.json", {})
    page = publish(plan, [make_table(plan, outcomes, "val")], tmp_path / "docs" / "study")
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    assert "python toy.py recipe-seed0 2" in text and "FAILED recipe, seed 1: nan" in text
    records = {
        path.stem: json.loads(path.read_text()) for path in (page.parent / "metrics").glob("*.json")
    }
    assert sorted(records) == sorted(ALL_DONE)
    assert (
        records["plain-seed0"]["metrics"]["val"]["ap"]["Car"]["strict"]["3d"]["R40"]["moderate"]
        == 12.0
    )
    assert records["plain-seed0"]["cost"]["cpu_s"] == 2.0
    assert (
        records["recipe-seed1"]["status"] == "failed" and records["recipe-seed1"]["reason"] == "nan"
    )


@pytest.fixture
def toy_tool(tmp_path, monkeypatch):
    """tools/study.py with toys as trainings."""
    monkeypatch.setattr(study, "StudyPlan", study_toys.ToyPlan)
    monkeypatch.setattr(study, "check_runs", lambda plan, runs, say: say(f"checked {len(runs)}"))
    monkeypatch.setattr("pcdet_distill.apps.study.measured.measure_rows", lambda *_, **__: {})
    path = study_toys.make_root(tmp_path, **{"recipe-seed1": {"says": "error: nan"}})

    def call(*arguments: str) -> None:
        study.main(tmp_path, [os.path.relpath(path), "--device", "cpu", *arguments])

    return call


def test_the_tool(toy_tool, tmp_path, capsys):
    toy_tool("--list")
    said = capsys.readouterr().out
    assert "plain-seed1     2 epochs  ready" in said and "3 ready, 2 waiting" in said
    toy_tool("--dry_run", "--only", "plain")
    assert len(capsys.readouterr().out.splitlines()) == 2 and study_toys.order(tmp_path) == []
    with pytest.raises(study.UserError, match="failed: recipe-seed1; their reasons"):
        toy_tool("--jobs", "2")
    said = capsys.readouterr().out
    assert (
        "checked 5" in said
        and "FAILED recipe, seed 1: nan" in said
        and "study toys, split val" in said
    )
    assert (tmp_path / "output/study/toys/table_val.md").exists()
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--table")
    assert "FAILED recipe" in capsys.readouterr().out
    toy_tool("--retry_failed")
    assert "5 finished" in capsys.readouterr().out
    toy_tool("--publish", "docs/study")
    assert (tmp_path / "docs/study/toys/README.md").exists()


@pytest.mark.parametrize(
    "asked", [["--table"], ["--publish", "docs"], ["--list"], ["--dry_run"], []]
)
def test_nothing_is_shown_as_the_result_of_what_it_is_not(toy_tool, tmp_path, asked):
    """Neither the runs of a row that was changed since, nor another study's."""
    with pytest.raises(study.UserError, match="failed: recipe-seed1"):
        toy_tool()
    before = {
        path: path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file()
    }
    content = study_toys.study()
    content["ROWS"]["plain"]["SET"] = {"OPTIMIZATION.LR": 0.5}
    study_toys.make_root(tmp_path, content)
    with pytest.raises(ConfigError, match="plain-seed0 was trained with another configuration"):
        toy_tool(*asked)
    study_toys.make_root(tmp_path, study_toys.study(NAME="toys"), "other.yaml")
    with pytest.raises(ConfigError, match="toys: belongs to another study"):
        study.main(tmp_path, [str(tmp_path / "cfgs/other.yaml"), "--device", "cpu", *asked])
    assert (
        before == {path: path.read_bytes() for path in before} and not (tmp_path / "docs").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "plane"], "--only plane: the study has no such row; did you mean 'plain'"),
        (["--jobs", "0"], "--jobs 0: expected 1 or more"),
    ],
)
def test_mistakes_on_the_command_line(toy_tool, arguments, message):
    with pytest.raises(ConfigError, match=message):
        toy_tool(*arguments)
