"""What an evaluation says, writes and never waits for."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toy_engine

from pcdet_distill.engine.checkpoints import files
from pcdet_distill.engine.evaluate import evaluate_model
from pcdet_distill.engine.evaluation.report import recall_values
from pcdet_distill.errors import CheckpointError, ConfigError, DataError

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The output folder of a training of three epochs."""
    toy_engine.run(
        "train",
        [
            "--cfg_file",
            str(toy_engine.write_config(tmp_path)),
            "--workers",
            "0",
            "--fix_random_seed",
            "--num_epochs_to_eval",
            "1",
        ],
    )
    return tmp_path / "output" / "toys" / "toy" / "default"


def run_test(folder: Path, *arguments: str) -> None:
    toy_engine.run(
        "test",
        ["--cfg_file", str(folder / "cfgs" / "toys" / "toy.yaml"), "--workers", "0", *arguments],
    )


def test_layout_after_training(trained: Path) -> None:
    """OpenPCDet's: the epoch before the last is evaluated too with --num_epochs_to_eval 1."""
    folder = trained / "eval" / "eval_with_train"
    assert (folder / "eval_list_val.txt").read_text().split() == ["2", "3"]
    for epoch in (2, 3):
        assert {path.name for path in (folder / f"epoch_{epoch}" / "val").iterdir()} == {
            "result.pkl",
            "metrics.json",
        }
    assert list(folder.glob("tensorboard_val/events*")) and list(
        trained.glob("tensorboard/events*")
    )
    assert list(trained.glob("train_*.log"))
    text = (trained / "toy.yaml").read_text()
    assert "# torch: " in text and "# git: " in text and "LR: 0.01" in text


def test_one_checkpoint(trained: Path, tmp_path: Path, capsys: Any) -> None:
    run_test(
        tmp_path,
        "--ckpt",
        str(trained / "ckpt" / "checkpoint_epoch_2.pth"),
        "--save_to_file",
        "--infer_time",
        "--eval_tag",
        "mine",
    )
    folder = trained / "eval" / "epoch_2" / "val" / "mine"
    said = capsys.readouterr().out
    for line in (
        "*************** EPOCH 2 EVALUATION *****************",
        "*************** Performance of EPOCH 2 *****************",
        "Generate label finished(sec_per_example: ",
        "recall_roi_0.3: 0.000000",
        "recall_rcnn_0.3: 0.500000",
        "Average predicted number of objects(12 samples): 1.000",
        "toy score",
        "Average inference time: ",
        f"Result is saved to {folder}",
        "****************Evaluation done.*****************",
    ):
        assert line in said, line
    assert "recall_rcnn_0.3" in next(folder.glob("log_eval_*.txt")).read_text()
    annos = pickle.loads((folder / "result.pkl").read_bytes())
    assert [anno["frame_id"] for anno in annos] == [f"{index:06d}" for index in range(12)]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (
        metrics["samples"] == 12
        and metrics["recall/rcnn_0.3"] == 0.5
        and metrics["infer_ms_per_sample"] > 0
    )
    assert len(list((folder / "final_result" / "data").glob("*.txt"))) == 12


def test_infer_time_is_the_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow data and slow writing must not be in it, and it must not change sec_per_example."""
    _, loader, _ = toy_engine.build_toy_dataloader(None, None, 4, training=False)
    write = toy_engine.ToyDataset.generate_prediction_dicts
    monkeypatch.setattr(
        toy_engine.ToyDataset,
        "generate_prediction_dicts",
        lambda self, *args, **kwargs: (time.sleep(0.04), write(*args, **kwargs))[1],
    )
    outcome = evaluate_model(toy_engine.ToyDetector(), loader, infer_time=True)
    assert outcome.infer_ms_per_sample is not None and outcome.infer_ms_per_sample < 10
    assert outcome.seconds_per_sample >= 3 * 0.04 / 12


def test_evaluation_leaves_the_mode_and_needs_no_gradient() -> None:
    _, loader, _ = toy_engine.build_toy_dataloader(None, None, 4, training=False)
    model = toy_engine.ToyDetector().train()
    first, second = (evaluate_model(model, loader).ret_dict for _ in range(2))
    assert first == second and model.training  # Dropout is off, BatchNorm's statistics do not move
    assert "recall/rcnn_0.3" in first and "Car_3d/moderate_R40" in first


def test_a_split_without_labels_still_gives_detections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_labels(self: Any, det_annos: Any) -> Any:
        raise DataError("the split 'test' has no labels")

    monkeypatch.setattr(toy_engine.ToyDataset, "evaluate", no_labels)
    _, loader, _ = toy_engine.build_toy_dataloader(None, None, 4, training=False)
    outcome = evaluate_model(toy_engine.ToyDetector(), loader, result_dir=tmp_path)
    assert outcome.result is None and "no labels" in outcome.text and outcome.table == ""
    assert len(pickle.loads((tmp_path / "result.pkl").read_bytes())) == 12


def test_recalls_of_nothing_are_zero() -> None:
    assert recall_values({"gt": 0, "rcnn_0.3": 0}) == {
        "recall/roi_0.3": 0.0,
        "recall/rcnn_0.3": 0.0,
    }
    assert recall_values({}) == {}


def test_eval_all_takes_each_once_and_does_not_wait(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: pytest.fail("it waits"))
    monkeypatch.setattr(files, "time", clock)
    run_test(tmp_path, "--eval_all", "--max_waiting_mins", "0", "--start_epoch", "2")
    folder = trained / "eval" / "eval_all_default" / "default"
    assert (folder / "eval_list_val.txt").read_text().split() == ["2", "3"]
    assert (folder / "epoch_2" / "val" / "result.pkl").is_file() and list(
        folder.glob("tensorboard_val/events*")
    )
    run_test(tmp_path, "--eval_all", "--max_waiting_mins", "0", "--start_epoch", "2")
    assert (folder / "eval_list_val.txt").read_text().split() == ["2", "3"]


def test_list_of_evaluated_epochs_that_is_something_else(trained: Path, tmp_path: Path) -> None:
    record = trained / "eval" / "eval_all_default" / "default" / "eval_list_val.txt"
    record.parent.mkdir(parents=True)
    record.write_text("2\nthree\n")
    with pytest.raises(
        ConfigError, match="eval_list_val.txt: expected the number of an epoch on each line"
    ):
        run_test(tmp_path, "--eval_all", "--max_waiting_mins", "0")


def test_eval_all_on_an_empty_folder_ends(tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="--eval_all: no checkpoint_epoch_N.pth"):
        run_test(
            tmp_path, "--eval_all", "--max_waiting_mins", "0", "--ckpt_dir", str(tmp_path / "none")
        )


def test_waiting_honours_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts from the start, found or not; a find ends it at once."""
    monkeypatch.setattr(files, "POLL_SECONDS", 0.01)
    said: list[str] = []
    start = time.monotonic()
    assert files.wait_for(lambda: None, 0.1 / 60, said.append, "x") is None
    assert time.monotonic() - start >= 0.1 and len(said) > 2
    looks = iter([None, None, "found"])
    assert files.wait_for(lambda: next(looks), 10, said.append, "x") == "found"


def test_what_is_missing_or_contradictory(tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path)
    with pytest.raises(CheckpointError, match="--ckpt: missing"):
        run_test(tmp_path)
    with pytest.raises(ConfigError, match="--eval_all"):
        run_test(tmp_path, "--eval_all", "--ckpt", "x.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        run_test(tmp_path, "--ckpt", str(tmp_path / "checkpoint_epoch_1.pth"))
    assert not (tmp_path / "output").exists()


def test_pretrained_model_completes_a_part(trained: Path, tmp_path: Path) -> None:
    """--ckpt with a part of the tensors fits only together with --pretrained_model."""
    whole = torch.load(trained / "ckpt" / "checkpoint_epoch_3.pth", weights_only=True)
    part = {key: value for key, value in whole["model_state"].items() if not key.startswith("head")}
    torch.save({"model_state": part}, tmp_path / "part_7.pth")
    with pytest.raises(CheckpointError, match="head.weight"):
        run_test(tmp_path, "--ckpt", str(tmp_path / "part_7.pth"))
    assert not (trained / "eval" / "epoch_7").exists()
    run_test(
        tmp_path,
        "--ckpt",
        str(tmp_path / "part_7.pth"),
        "--pretrained_model",
        str(trained / "ckpt" / "checkpoint_epoch_3.pth"),
    )
    expected = json.loads((trained / "eval/eval_with_train/epoch_3/val/metrics.json").read_text())[
        "ap"
    ]
    assert (
        json.loads((trained / "eval/epoch_7/val/default/metrics.json").read_text())["ap"]
        == expected
    )
