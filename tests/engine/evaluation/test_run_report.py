"""report.html of an evaluation through the engine: frames, teacher, training, faults."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from page_reader import read_page
from test_lidar_evaluation_run import CLASSES, Oracle
from test_run_page import write_log
from tiny_kitti import DATA_CONFIG, TinyKitti, fill
from torch.utils.data import DataLoader

from pcdet_distill.datasets import build_dataloader
from pcdet_distill.engine.evaluate import evaluate_model
from pcdet_distill.engine.evaluation.loop import EvalOutcome
from pcdet_distill.engine.evaluation.run_report import (
    ReportSource,
    command_line,
    find_training,
    report_evaluation,
)
from pcdet_distill.report.record import FILE, Record, read_record
from pcdet_distill.report.scenes import unpack_points

LOGGER = logging.getLogger("test")


@pytest.fixture
def loader(tmp_path: Path) -> DataLoader:
    kitti = TinyKitti(tmp_path / "kitti")
    fill(kitti)
    config = EasyDict(copy.deepcopy(DATA_CONFIG))
    config.DATA_PATH = str(kitti.root)
    config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    return build_dataloader(config, CLASSES, 2, workers=0, training=False, seed=0)[1]


class HalfBlind(Oracle):
    """Finds the first object of a frame alone, and a car where none is."""

    def forward(self, batch: dict) -> tuple[list[dict[str, torch.Tensor]], dict[str, int]]:
        predictions, counts = super().forward(batch)
        for prediction in predictions:
            invented = torch.tensor([[5.0, 8.0, -1.0, 4.0, 1.8, 1.5, 0.0]])
            prediction["pred_boxes"] = torch.cat([prediction["pred_boxes"][:1], invented])
            prediction["pred_scores"] = torch.tensor([0.9, 0.95])[: len(prediction["pred_boxes"])]
            prediction["pred_labels"] = torch.cat(
                [prediction["pred_labels"][:1], torch.tensor([1])]
            )
        return predictions, counts


def report(
    loader: DataLoader, outcome: EvalOutcome, folder: Path, **source: object
) -> tuple[Path | None, Record | None]:
    page = report_evaluation(
        ReportSource(EasyDict(source.pop("cfg", {})), "pcdet-distill test", **source),
        loader.dataset,
        outcome.result,
        outcome.det_annos,
        folder,
        facts={"epoch": "3"},
        name="student",
        logger=LOGGER,
    )
    return page, read_record(folder / FILE) if page else None


def test_kittis_figures_frames_and_points(loader: DataLoader, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    write_log(run)
    folder = tmp_path / "run" / "eval" / "epoch_3" / "val"
    outcome = evaluate_model(HalfBlind(), loader, result_dir=folder)
    page, record = report(loader, outcome, folder)
    assert page == folder / "report.html"
    reader = read_page(page.read_text(encoding="utf-8"))
    assert record.benchmark == "KITTI" and record.num_frames == 6
    assert record.primary == list(outcome.result.primary)
    volume = next(table for table in record.tables if table.title == "3D AP")
    assert volume.rows[0][3] == pytest.approx(outcome.ret_dict["Car_3d/moderate_R40"])
    assert (folder / record.training).resolve() == run.resolve()
    assert "State of the adapters" in reader.words
    scene = record.scenes[0]
    assert record.errors[scene.frame_id][1] > 0 and record.errors[scene.frame_id][2] == 1
    index = [loader.dataset.frame_name(n) for n in range(6)].index(scene.frame_id)
    points = loader.dataset.load_frame(index)["points"]
    stored = unpack_points(scene.points)
    near = np.abs(stored[:, None] - points[None, :, :3]).max(axis=2).min(axis=1)
    assert len(stored) > 0 and near.max() < 0.0051


def test_the_teachers_results_are_found_beside_its_checkpoint(loader: DataLoader, tmp_path: Path):
    split = loader.dataset.dataset_cfg["DATA_SPLIT"]["test"]
    teacher = tmp_path / "teacher" / "eval" / "eval_with_train" / "epoch_9" / split
    seen = evaluate_model(Oracle(), loader, result_dir=teacher)
    report(loader, seen, teacher)
    outcome = evaluate_model(HalfBlind(), loader, result_dir=tmp_path / "own")
    checkpoint = tmp_path / "teacher" / "ckpt" / "checkpoint_epoch_9.pth"
    page, record = report(loader, outcome, tmp_path / "own", teacher_checkpoint=checkpoint)
    assert record.teacher is not None and record.teacher.primary == list(seen.result.primary)
    assert set(record.scenes[0].found_by_teacher) <= {"found", "uncounted"}
    assert "teacher: AP" in read_page(page.read_text(encoding="utf-8")).words


def test_a_teacher_of_another_epoch_or_split_is_not_taken(loader: DataLoader, tmp_path: Path):
    teacher = tmp_path / "teacher" / "eval" / "epoch_8" / "another"
    seen = evaluate_model(Oracle(), loader, result_dir=teacher)
    report(loader, seen, teacher)
    checkpoint = tmp_path / "teacher" / "ckpt" / "checkpoint_epoch_9.pth"
    _, record = report(loader, seen, tmp_path, teacher_checkpoint=checkpoint)
    assert record.teacher is None


def test_a_folder_that_cannot_be_written_is_a_warning(
    loader: DataLoader, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    outcome = evaluate_model(Oracle(), loader)
    (tmp_path / "taken").write_text("a file")
    with caplog.at_level(logging.WARNING):
        page, _ = report(loader, outcome, tmp_path / "taken")
    assert page is None
    assert "no report.html" in caplog.text and "Traceback" not in caplog.text


def test_a_fault_does_not_end_the_run(
    loader: DataLoader, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch
):
    outcome = evaluate_model(Oracle(), loader)

    def broken(frame_id: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loader.dataset, "lidar_labels", broken)
    page, _ = report(loader, outcome, tmp_path)
    assert page is None
    assert "this is a fault of pcdet_distill" in caplog.text


def test_the_training_is_that_of_the_checkpoint(tmp_path: Path):
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        write_log(tmp_path / name)
    results = tmp_path / "own" / "eval" / "epoch_1" / "val"
    results.mkdir(parents=True)
    checkpoint = tmp_path / "other" / "ckpt" / "checkpoint_epoch_1.pth"
    assert find_training(ReportSource(EasyDict(), ""), results) == (tmp_path / "own").resolve()
    other = find_training(ReportSource(EasyDict(), "", checkpoint=checkpoint), results)
    assert other == (tmp_path / "other").resolve()


def test_the_command_can_be_typed():
    assert (
        command_line(["/x/pcdet_distill/__main__.py", "test", "a b"]) == "pcdet-distill test 'a b'"
    )
    assert command_line(["tools/test.py", "--ckpt", "a"]) == "tools/test.py --ckpt a"
