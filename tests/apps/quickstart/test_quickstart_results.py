"""The end of the quickstart: table, pictures and README, from the results of three trainings."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from page_reader import read_page
from toy_evaluation import random_evaluation, toy_evaluation

from pcdet_distill.apps.quickstart import page as quickstart_page
from pcdet_distill.apps.quickstart import results
from pcdet_distill.apps.quickstart.page import write_quickstart_page
from pcdet_distill.apps.quickstart.plan import DETECTORS, MODELS, QuickstartPlan
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.errors import ConfigError, DataError, UserError
from pcdet_distill.measure import count_parameters
from pcdet_distill.models import build_network
from pcdet_distill.report.collect import collect
from pcdet_distill.report.comparison import BEGIN, END
from pcdet_distill.report.record import FILE as RECORD
from pcdet_distill.report.record import write_record

AP = {"teacher": 60.0, "student": 40.0, "distilled": 45.0}


@pytest.fixture(scope="module", params=DETECTORS)
def trained(request, tmp_path_factory, repo) -> QuickstartPlan:
    """A checkout after the trainings of a smoke run: random weights, made-up AP, one box each."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(repo / "cfgs" / "synthetic", root / "cfgs" / "synthetic")
    plan = QuickstartPlan(root, request.param, smoke=True, train_frames=1, val_frames=2, epochs=1)
    create_synthetic_kitti(root / plan.data, 3, 0, val_frames=2, workers=1, progress=False)
    create_kitti_infos(root / plan.data, 1)
    for name, config in plan.configs.items():
        cfg = load_config(root / config)
        torch.manual_seed(0)
        model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
        path = root / plan.checkpoint(name)
        path.parent.mkdir(parents=True)
        save_checkpoint({"model_state": model.state_dict()}, path)
        write_evaluation(plan.evaluation(name), AP[name], ["000001", "000002"])
    return plan


def write_evaluation(folder: Path, ap: float, frame_ids: list[str]) -> None:
    """metrics.json with one number throughout, result.pkl with one car a frame."""
    folder.mkdir(parents=True)
    moderate = {metric: {"R40": {"moderate": ap}} for metric in ("bev", "3d")}
    metrics = {"ap": dict.fromkeys(("Car", "Pedestrian", "Cyclist"), {"strict": moderate})}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    car = {
        "name": np.array(["Car"]),
        "score": np.array([0.9]),
        "boxes_lidar": np.array([[10, 0, -1, 4, 2, 1.5, 0.0]]),
    }
    (folder / "result.pkl").write_bytes(
        pickle.dumps([{**car, "frame_id": frame_id} for frame_id in frame_ids])
    )


def test_the_table_is_measured_once_and_read_afterwards(trained, monkeypatch):
    comparison = results.report(trained)
    assert comparison.gain() == pytest.approx(5.0)
    assert (comparison.train_frames, comparison.val_frames, comparison.smoke) == (1, 2, True)
    teacher, student, distilled = comparison.rows
    assert 3.5 < teacher.parameters / student.parameters < 4.5
    assert (student.parameters, student.gflops) == (distilled.parameters, distilled.gflops)
    assert teacher.gflops > 3 * student.gflops > 0
    assert min(row.latency_ms for row in comparison.rows) > 0
    assert {path.name for path in trained.output.iterdir()} >= {
        "report.txt",
        "report.md",
        "report.json",
    }

    monkeypatch.setattr(results, "compare", lambda plan: pytest.fail("measured again"))
    assert results.report(trained) == comparison


def test_parameters_are_those_of_the_detector_alone(trained):
    cfg = load_config(trained.root / trained.configs["student"])
    model = build_network(cfg.MODEL, 3, DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES))
    assert results.report(trained).distilled.parameters == count_parameters(model)


def test_a_newer_evaluation_is_measured_again(trained, monkeypatch):
    results.report(trained)
    newer = trained.evaluation("student") / "metrics.json"
    stamp = (trained.output / "report.json").stat().st_mtime
    os.utime(newer, (stamp + 5, stamp + 5))
    monkeypatch.setattr(results, "compare", lambda plan: pytest.fail("as expected"))
    with pytest.raises(pytest.fail.Exception, match="as expected"):
        results.report(trained)
    os.utime(newer, (stamp - 5, stamp - 5))


def test_a_picture_for_each_frame(trained):
    pytest.importorskip("matplotlib")
    pictures = results.draw(trained)
    assert sorted(path.name for path in pictures) == ["bev_000001.png", "bev_000002.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_a_confusion_is_a_detection_on_an_object_of_another_class_alone():
    car = [10, 0, -1, 4, 2, 1.5, 0]
    cyclist = [20, 0, -1, 1.8, 0.6, 1.7, 0]
    truth = np.array([[*car, 1], [*cyclist, 3]], dtype=float)
    detections = {
        "name": np.array(["Car", "Pedestrian", "Pedestrian", "Car"]),
        # The second stands on the cyclist, the third on nothing, the fourth is not shown.
        "boxes_lidar": np.array([car, [20.2, 0, -1, 0.6, 0.6, 1.7, 0], [30, 5, *car[2:]], cyclist]),
        "score": np.array([0.9, 0.5, 0.5, 0.1]),
    }
    names = ["Car", "Pedestrian", "Cyclist"]
    assert results.count_confusions(detections, truth, names) == 1
    # Without ground truth there is nothing to take for something else.
    assert results.count_confusions(detections, np.zeros((0, 8)), names) == 0


def test_without_matplotlib_the_rest_goes_on(trained, monkeypatch, capsys):
    def refuse(*args):
        raise UserError("pictures need matplotlib")

    monkeypatch.setattr(results, "draw_frame", refuse)
    monkeypatch.setattr(results, "is_newer", lambda *args: False)
    assert results.draw(trained) == []
    assert "no pictures: pictures need matplotlib" in capsys.readouterr().out


def test_a_broken_metrics_file_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text('{"ap": {"Car": {}}}')
    with pytest.raises(DataError, match=r"metrics\.json"):
        results.read_ap(tmp_path / "metrics.json", ["Car"])


def test_publishing_refuses_a_smoke_run_and_writes_a_full_one(trained, tmp_path):
    comparison = results.report(trained)
    with pytest.raises(UserError, match="smoke"):
        results.publish(trained, comparison, [])
    full = QuickstartPlan(tmp_path)
    full.output.mkdir(parents=True)
    picture = full.output / "bev_1.png"
    picture.write_bytes(b"picture")
    page = tmp_path / results.PAGE
    with pytest.raises(UserError, match="publish from a checkout"):
        results.publish(full, comparison, [picture])
    page.parent.mkdir()
    page.write_text(f"{BEGIN}\n{END}\n")
    results.publish(full, comparison, [picture])
    text = page.read_text()
    assert f"| [student](../{trained.configs['student']}) |" in text
    assert "[every figure](results/quickstart.json)" in text
    assert (tmp_path / results.PICTURE).read_bytes() == b"picture"
    figures = json.loads((tmp_path / "docs" / "results" / "quickstart.json").read_text())
    assert figures["gain"] == {"bev": 5.0, "3d": 5.0}
    assert figures["teacher"]["gflops"] == round(comparison.teacher.gflops, 2)


def test_the_page_has_a_place_for_the_table(repo):
    text = (repo / results.PAGE).read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_the_page_of_a_run_without_stored_reports(trained, capsys):
    page = write_quickstart_page(trained, results.report(trained))
    reader = read_page(page.read_text(encoding="utf-8"))
    assert page == trained.output / "report.html"
    assert reader.tables[0][1][0] == "teacher"
    assert "Curves and frames are missing" in reader.words


def test_the_page_shows_all_three_models(trained, tmp_path):
    for number, model in enumerate(MODELS):
        record = collect(toy_evaluation(*random_evaluation(number)))
        write_record(record, trained.evaluation(model))
    page = write_quickstart_page(trained, results.report(trained))
    reader = read_page(page.read_text(encoding="utf-8"))
    for words in ("teacher: AP", "student: AP", "student with init: AP", "Where the two differ"):
        assert words in reader.words
    for model in MODELS:
        (trained.evaluation(model) / RECORD).unlink()


def test_a_page_that_cannot_be_written_is_a_sentence(trained, monkeypatch, capsys):
    comparison = results.report(trained)

    def refuse(html, file):
        raise ConfigError(f"{file}: cannot be written (disk full)")

    monkeypatch.setattr(quickstart_page, "write_page", refuse)
    assert write_quickstart_page(trained, comparison) is None
    assert "no report.html" in capsys.readouterr().out
