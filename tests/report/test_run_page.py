"""Pages of one and of two evaluations: sections, numbers, sizes, and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_reader import read_page
from toy_evaluation import found, random_evaluation, toy_evaluation, truth

from pcdet_distill.report.collect import collect
from pcdet_distill.report.run_page import FILE, pair_page, run_page, write_run_page
from pcdet_distill.report.sections.frames import error_changes, most_changed
from pcdet_distill.report.sections.training import health, losses
from pcdet_distill.report.training_log import read_training_log
from pcdet_distill.report.view import View


@pytest.fixture
def record():
    return collect(toy_evaluation(*random_evaluation()))


def write_log(folder: Path) -> Path:
    lines = []
    for it in (10, 20, 30):
        lines.append(
            {
                "kind": "train",
                "it": it,
                "epoch": it // 10,
                "loss": 3.0 / it,
                "loss_rpn": 3.0 / it,
                "rpn_loss_cls": 1.0 / it,
                "distill_loss": 0.5,
                "distill_graph": 0.5,
                "distill_graph_dead_student": 0.9,
                "distill_graph_entropy": 0.8,
                "grad_norm": "nan",
                "lr": 0.001,
                "step_ms": 20.0,
            }
        )
        lines.append({"kind": "cost", "it": it, "wall_s": 6.0 * it, "cpu_s": 5.0 * it})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"kind": "train", "it": 4')
    return folder


def test_the_log_of_a_training_is_sorted(tmp_path: Path):
    log = read_training_log(write_log(tmp_path))
    assert list(log.losses) == ["loss", "distill_graph", "rpn_loss_cls"]  # equal ones are left out
    assert list(log.health) == ["graph_dead_student", "graph_entropy"]
    assert log.losses["loss"].its == [10, 20, 30]
    assert log.cost == {"wall_s": 180.0, "cpu_s": 150.0} and log.epochs == 3


def test_a_folder_without_training_has_no_log(tmp_path: Path):
    assert read_training_log(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "it": 3}\n')
    assert read_training_log(tmp_path) is None


def test_the_page_of_one_run(record, tmp_path: Path):
    record = replace(record, config="A: 1", command="pcdet-distill test", facts={"epoch": "3"})
    file = write_run_page(record, tmp_path, read_training_log(write_log(tmp_path)))
    html = file.read_text(encoding="utf-8")
    reader = read_page(html)
    titles = html.count("<h2")
    assert file.name == FILE and titles == 7
    for words in ("Precision and recall", "0 to 20", "What was missed", "3 min 0 s", "collapsed"):
        assert words in reader.words
    facts = dict(row for row in reader.tables[0][1:] if len(row) == 2)
    assert facts["main figure"] == f"{record.primary[0]} {record.primary[1]:.2f}"
    assert facts["frames"] == "30" and facts["epoch"] == "3" and facts["epochs trained"] == "3"
    assert f"AP {record.curves[0].ap:.2f} (150 objects)" in reader.words
    assert len(html) < 5_000_000


def test_the_figures_of_a_table_are_those_of_the_record(record):
    reader = read_page(run_page(View("student", record)))
    own = record.tables[0]
    shown = next(table for table in reader.tables if table[0] == own.header)
    assert shown[1][0] == "Car"
    assert float(shown[1][2]) == pytest.approx(own.rows[0][2], abs=0.005)


def test_the_teacher_stands_beside_the_student(record):
    taught = replace(record, teacher=record.as_teacher())
    reader = read_page(run_page(View("student", taught)))
    assert ["", "student", "teacher"] in [table[0] for table in reader.tables]
    assert "teacher: AP" in reader.words


def test_without_labels_the_page_says_so():
    record = collect(toy_evaluation(truth(), found(), result=None))
    reader = read_page(run_page(View("student", record)))
    assert "The split has no labels" in reader.words
    assert reader.count("svg") == 0


def test_two_runs_beside_each_other(record):
    other = collect(toy_evaluation(*random_evaluation(), name="other"))
    views = [View("first", record), View("second", replace(other, name="other"))]
    reader = read_page(pair_page(views))
    tables = [table for table in reader.tables if "model" in table[0]]
    car, same, difference = tables[0][1:4]
    assert car[:2] == ["Car", "first"] and same[:2] == ["", "second"]
    assert difference[1] == "second − first" and "+0.00" in difference
    assert "as many in 30" in reader.words
    assert "cannot be compared" not in reader.words


def test_frames_where_two_runs_differ_most():
    gt, det = random_evaluation()
    worse = [dict(anno) for anno in det]
    worse[7] = {
        **det[7],
        "name": np.array([]),
        "boxes_lidar": np.zeros((0, 7)),
        "score": np.zeros(0),
    }
    views = [
        View("first", collect(toy_evaluation(gt, det))),
        View("second", collect(toy_evaluation(gt, worse))),
    ]
    changes = error_changes(*views)
    name = "000007"
    expected = sum(views[1].record.errors[name][1:]) - sum(views[0].record.errors[name][1:])
    assert changes[name] == expected > 0
    assert name in most_changed(changes)
    reader = read_page(pair_page(views))
    assert any(row and row[0] == name for table in reader.tables for row in table)


def test_other_data_is_said(record):
    other = collect(toy_evaluation(truth(), found(), data="other data"))
    reader = read_page(pair_page([View("a", record), View("b", other)]))
    assert "cannot be compared number by number" in reader.words
    assert "other data (3 frames)" in reader.words


def test_every_watched_value_is_explained(record, tmp_path: Path):
    """The name of the term as the yaml writes it, the value, and what it means."""
    values = {"loss": 2.0, "distill_local_graph": 1.0, "distill_local_graph_share": 0.2}
    values |= {"distill_local_graph_weight": 7.0, "distill_soft_unlabelled": 2.0}
    values |= {"distill_local_graph_relations": 0.4}
    lines = [json.dumps({"kind": "train", "it": it, **values}) for it in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    file = write_run_page(record, tmp_path, read_training_log(tmp_path))
    words = read_page(file.read_text(encoding="utf-8")).words
    for name in ("LOCAL_GRAPH: share", "LOCAL_GRAPH: weight", "SOFT: unlabelled"):
        assert name in words
    assert "near WEIGHT.SHARE of the yaml" in words and "frames of a batch without" in words.lower()
    assert "A part of this loss" in words and "LOCAL_GRAPH: relations" in words


def test_axes_of_watched_values_say_what_they_are(record, tmp_path: Path):
    """A weight and a loss between 0 and 1 are no shares."""
    values = {"loss": 2.0, "distill_a": 1.0, "distill_a_share": 0.2, "distill_a_weight": 0.5}
    values |= {"distill_a_logit": 0.4}
    lines = [json.dumps({"kind": "train", "it": it, **values}) for it in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    drawn = str(health([View("a", record, read_training_log(tmp_path))]))
    for label in ("share", "factor", "value"):
        assert drawn.count(f">{label}</text>") == 1


def test_a_model_has_one_colour_on_the_whole_page(record, tmp_path: Path):
    """A model without a log comes first, as a study's teacher does; one plot says whose line."""
    log = read_training_log(write_log(tmp_path))
    plain = replace(log, losses={"loss": log.losses["loss"]}, health={})
    views = [View("teacher", record), View("plain", record, plain), View("student", record, log)]
    drawn = str(losses(views))
    assert "s1" in drawn and "s2" in drawn and "s0" not in drawn
    assert drawn.count("Only student.") == 2  # distill_graph and rpn_loss_cls
    assert str(health(views)).count("Only student.") == 2


@pytest.mark.parametrize(("count", "open_notes"), [(3, 3), (8, 1)])
def test_many_remarks_do_not_fill_the_first_screen(record, count: int, open_notes: int):
    remarks = [f"class {number} has few objects" for number in range(count)]
    html = str(run_page(View("student", replace(record, remarks=remarks), None)))
    assert html.count("<div class='note warn'>") == open_notes
    words = read_page(html).words
    assert all(remark in words for remark in remarks)
    assert ("7 more remarks of the evaluation" in words) == (count == 8)
