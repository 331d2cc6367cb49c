"""``pcdet-distill report RUN [OTHER]`` on stored results, with and without their data."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_reader import read_page
from test_run_page import write_log
from tiny_kitti import TinyKitti, fill
from toy_evaluation import found, random_evaluation, toy_evaluation, truth

from pcdet_distill import cli
from pcdet_distill.apps.run_report.command import shortest_names
from pcdet_distill.apps.run_report.find import Results, find_results
from pcdet_distill.apps.run_report.stored import detections_of
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.kitti.predictions import anno_of_boxes, write_result_file
from pcdet_distill.engine.logging import write_config
from pcdet_distill.errors import DataError
from pcdet_distill.report.collect import collect
from pcdet_distill.report.record import FILE, read_record, write_record

YAML = "cfgs/synthetic/pointpillar_student.yaml"


def stored_run(folder: Path, record=None, epoch: int = 3) -> Path:
    """A run with a log and the data of a report."""
    results = folder / "eval" / "eval_with_train" / f"epoch_{epoch}" / "val"
    results.mkdir(parents=True)
    write_log(folder)
    record = record or collect(toy_evaluation(truth(), found()))
    write_record(replace(record, training="../../../.."), results)
    return results


def run(*words: object) -> None:
    cli.main(["report", *map(str, words)])


def failure(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as exit_info:
        run(*words)
    assert exit_info.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    return message


def test_the_page_of_a_run_is_written_again(tmp_path: Path, capsys):
    results = stored_run(tmp_path / "run")
    run(tmp_path / "run")
    reader = read_page((results / "report.html").read_text(encoding="utf-8"))
    assert "Losses" in reader.words and "State of the adapters" in reader.words
    out = capsys.readouterr().out
    assert f"results: {results}" in out and f"page: {results / 'report.html'}" in out


def test_the_last_epoch_of_a_run_counts(tmp_path: Path):
    stored_run(tmp_path / "run", epoch=10)
    newest = stored_run(tmp_path / "later", epoch=9)
    shutil.move(newest.parent, tmp_path / "run/eval/eval_with_train/epoch_9")
    chosen = find_results(tmp_path / "run")
    assert chosen.folder.parent.name == "epoch_10" and chosen.num_others == 1
    assert find_results(chosen.record_file).folder == chosen.folder


def test_the_students_results_come_before_its_teachers(tmp_path: Path):
    results = stored_run(tmp_path / "run")
    teacher = tmp_path / "run" / "eval" / "teacher" / "val" / "default"
    shutil.copytree(results, teacher)
    assert find_results(tmp_path / "run").folder == results


def test_two_runs_in_one_page_without_their_data(tmp_path: Path, capsys):
    gt, det = random_evaluation()
    worse = [{**anno, "score": np.zeros_like(anno["score"])} for anno in det]
    stored_run(tmp_path / "a", collect(toy_evaluation(gt, det)))
    stored_run(tmp_path / "b", collect(toy_evaluation(gt, worse)))
    page = tmp_path / "both.html"
    run(tmp_path / "a", tmp_path / "b", "--out", page, "--names", "first", "second")
    reader = read_page(page.read_text(encoding="utf-8"))
    assert "first beside second" in reader.words
    assert "note: only frames that both reports hold are drawn" in capsys.readouterr().out


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    stored_run(tmp_path / "plain")
    stored_run(tmp_path / "distilled")
    run(tmp_path / "plain", tmp_path / "distilled", "--out", tmp_path)
    html = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "plain beside distilled" in read_page(html).words


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("plain (seed0), epoch 16", "init (seed1), epoch 16"), ["plain", "init"]),
        (("plain (seed0), epoch 16", "plain (seed1), epoch 80"), ["seed0", "seed1"]),
        (("plain (seed0), epoch 16", "plain (seed0), epoch 80"), ["epoch 16", "epoch 80"]),
        (("plain, epoch 16", "plain, epoch 80"), ["epoch 16", "epoch 80"]),
        (("plain, epoch 16", "plain (a), epoch 16"), ["plain, epoch 16", "plain (a), epoch 16"]),
        (("teacher of plain", "plain, epoch 80"), ["teacher of plain", "plain, epoch 80"]),
    ],
)
def test_labels_are_what_tells_two_runs_apart(names: tuple[str, str], labels: list[str]):
    assert shortest_names(names) == labels


def test_the_whole_name_of_a_run_stands_once_beside_its_label(tmp_path: Path):
    gt, det = random_evaluation()
    record = collect(toy_evaluation(gt, det))
    for name in ("plain", "init"):
        stored_run(tmp_path / name, replace(record, name=f"{name} (seed0), epoch 16"))
    run(tmp_path / "plain", tmp_path / "init", "--out", tmp_path)
    reader = read_page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert "plain beside init" in reader.words
    assert ["run", "plain (seed0), epoch 16", "init (seed0), epoch 16"] in reader.tables[0]


def test_results_of_two_data_sets_are_said_to_be(tmp_path: Path):
    stored_run(tmp_path / "a")
    stored_run(tmp_path / "b", collect(toy_evaluation(*random_evaluation(), data="other")))
    run(tmp_path / "a", tmp_path / "b", "--out", tmp_path)
    reader = read_page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert "cannot be compared number by number" in reader.words


@pytest.fixture(scope="module")
def old_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an earlier version: result.pkl and a yaml, but no data of a report."""
    folder = tmp_path_factory.mktemp("old")
    kitti = TinyKitti(folder / "kitti")
    fill(kitti)
    settings = ["DATA_CONFIG.DATA_PATH", str(kitti.root)]
    settings += ["DATA_CONFIG.INFO_PATH.test", "[kitti_infos_train.pkl]"]
    cfg = load_config(YAML, settings)
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=None, training=False)
    annotations = []
    for labels in dataset.lidar_labels():
        annotations.append(_annotation(labels, len(labels["name"])))
    run_folder = folder / "run"
    results = run_folder / "eval" / "epoch_2" / "val"
    results.mkdir(parents=True)
    write_log(run_folder)
    write_config(cfg, run_folder / "student.yaml")
    (results / "result.pkl").write_bytes(pickle.dumps(annotations))
    return run_folder


def _annotation(labels: dict, count: int) -> dict:
    """KITTI's annotation of a frame whose objects are found exactly; the image is left out."""
    boxes = labels["gt_boxes_lidar"]
    return {
        "frame_id": labels["frame_id"],
        "name": labels["name"],
        "score": np.linspace(0.9, 0.6, count),
        "boxes_lidar": boxes,
        "bbox": np.tile([0.0, 0.0, 50.0, 50.0], (count, 1)),
        "alpha": np.zeros(count),
        "location": np.zeros((count, 3)),
        "dimensions": np.ones((count, 3)),
        "rotation_y": np.zeros(count),
    }


def test_an_old_run_gets_its_page_from_the_data(old_run: Path):
    run(old_run)
    results = old_run / "eval" / "epoch_2" / "val"
    record = read_record(results / FILE)
    assert record.benchmark == "KITTI" and len(record.errors) == 6
    assert all(counts[1:] == [0, 0, 0] for counts in record.errors.values())
    assert record.command and record.config
    assert (results / "report.html").is_file()


def test_two_old_runs_are_drawn_from_the_data(old_run: Path, tmp_path: Path, capsys):
    other = tmp_path / "other"
    shutil.copytree(old_run, other)
    results = other / "eval" / "epoch_2" / "val"
    (results / FILE).unlink(missing_ok=True)
    annotations = pickle.loads((results / "result.pkl").read_bytes())
    annotations[1] = {key: value[:0] for key, value in annotations[1].items() if key != "frame_id"}
    annotations[1]["frame_id"] = read_frame(old_run)
    (results / "result.pkl").write_bytes(pickle.dumps(annotations))
    run(old_run, other, "--out", tmp_path, "--names", "all", "one frame missed")
    assert "note:" not in capsys.readouterr().out
    html = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    reader = read_page(html)
    assert f"Frame {annotations[1]['frame_id']}" in reader.words
    assert html.count("class='bev'") == 2  # that frame, for each of the two


def read_frame(old_run: Path) -> str:
    file = old_run / "eval" / "epoch_2" / "val" / "result.pkl"
    return str(pickle.loads(file.read_bytes())[1]["frame_id"])


@pytest.fixture
def text_run(old_run: Path, tmp_path: Path) -> Path:
    """The results of the old run as KITTI's result files, outside of its folder."""
    cfg = load_config(old_run / "student.yaml")
    dataset = build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=None, training=False)
    folder = tmp_path / "final_result" / "data"
    folder.mkdir(parents=True)
    for index, labels in enumerate(dataset.lidar_labels()):
        anno = anno_of_boxes(
            labels["gt_boxes_lidar"],
            np.linspace(0.9, 0.6, len(labels["name"])),
            labels["name"],
            calib=dataset.calibration(index),
            image_shape=np.array([375, 1242]),
        )
        write_result_file(folder / f"{labels['frame_id']}.txt", anno)
    return folder


def test_kittis_result_files_are_results(old_run: Path, text_run: Path, capsys):
    yaml = old_run / "student.yaml"
    run(text_run.parent, "--cfg_file", yaml)
    record = read_record(text_run.parent / FILE)
    assert record.benchmark == "KITTI" and len(record.errors) == 6
    assert all(counts[1:] == [0, 0, 0] for counts in record.errors.values())

    files = sorted(text_run.glob("*.txt"))
    files[0].write_text(files[0].read_text().replace(" 0.9000", " high"))
    assert "expected a finite number" in failure(capsys, text_run, "--cfg_file", yaml)
    files[0].unlink()
    message = failure(capsys, text_run, "--cfg_file", yaml)
    assert (
        f"1 of the 6 frames of the split have no result file, the first of them {files[0].name}"
        in message
    )
    assert "no yaml of a training above it" in failure(capsys, text_run)


class OtherDataset(DatasetTemplate):
    """A data set without cameras."""

    def __init__(self) -> None:
        """Nothing is read."""


def test_kittis_result_files_of_another_data_set(text_run: Path):
    with pytest.raises(DataError, match="need the calibration of a KittiDataset.*OtherDataset"):
        detections_of(Results(text_run), OtherDataset())


def test_bad_input_is_one_sentence(tmp_path: Path, capsys):
    assert "no such folder" in failure(capsys, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    message = failure(capsys, tmp_path / "empty")
    assert "no results in it; expected report_data.json or result.pkl" in message
    results = stored_run(tmp_path / "run")
    assert "expected one or two" in failure(capsys, *[tmp_path / "run"] * 3)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failure(
        capsys, tmp_path / "run", "--out", tmp_path / "file" / "page.html"
    )
    (results / FILE).write_text("{}")
    assert "not the data of a report" in failure(capsys, tmp_path / "run")
    (results / FILE).unlink()
    (results / "result.pkl").write_bytes(b"no pickle")
    assert "no yaml of a training above it" in failure(capsys, tmp_path / "run")


def test_results_are_looked_for_in_folders_alone(tmp_path: Path):
    with pytest.raises(DataError, match="no results in it"):
        (tmp_path / "note.txt").write_text("x")
        find_results(tmp_path / "note.txt")


def test_help_tells_both_forms(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "--distill" in capsys.readouterr().out
