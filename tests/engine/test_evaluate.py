"""What an evaluation logs and writes, which checkpoints it takes, and when it waits."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy_engine
from torch import Tensor, nn
from toy_engine import evaluate_toy

from pcdet_distill.engine import evaluate
from pcdet_distill.engine.checkpoints import files
from pcdet_distill.engine.evaluate import evaluate_model
from pcdet_distill.engine.evaluation import Annotation
from pcdet_distill.engine.evaluation.report import recall_values, write_results
from pcdet_distill.errors import CheckpointError, ConfigError, DataError
from pcdet_distill.types import BatchDict

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The output folder of a training of three epochs, of which the last two were evaluated."""
    return toy_engine.train_toy(tmp_path, "--fix_random_seed", "--num_epochs_to_eval", "1")


def test_layout_after_training(trained: Path) -> None:
    """The files and folders of OpenPCDet, and ours beside them."""
    folder = trained / "eval" / "eval_with_train"
    assert (folder / "eval_list_val.txt").read_text().split() == ["2", "3"]
    for epoch in (2, 3):
        results = {path.name for path in (folder / f"epoch_{epoch}" / "val").iterdir()}
        assert results == {"result.pkl", "metrics.json", "report.html", "report_data.json"}
    assert list(folder.glob("tensorboard_val/events*"))
    assert list(trained.glob("tensorboard/events*"))
    assert list(trained.glob("train_*.log"))
    config = (trained / "toy.yaml").read_text()
    for part in ("# torch: ", "# git: ", "LR: 0.01"):
        assert part in config


def evaluate_with_all_options(trained: Path, tmp_path: Path) -> Path:
    """Evaluate epoch 2 once more; returns the folder of results."""
    checkpoint = str(trained / "ckpt" / "checkpoint_epoch_2.pth")
    options = ["--save_to_file", "--infer_time", "--eval_tag", "mine"]
    evaluate_toy(tmp_path, "--ckpt", checkpoint, *options)
    return trained / "eval" / "epoch_2" / "val" / "mine"


def test_log_of_one_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate_with_all_options(trained, tmp_path)
    output = capsys.readouterr().out
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
        assert line in output, line
    (log_file,) = folder.glob("log_eval_*.txt")
    assert "recall_rcnn_0.3" in log_file.read_text()


def test_files_of_one_checkpoint(trained: Path, tmp_path: Path) -> None:
    folder = evaluate_with_all_options(trained, tmp_path)
    annotations = pickle.loads((folder / "result.pkl").read_bytes())
    frame_ids = [annotation["frame_id"] for annotation in annotations]
    assert frame_ids == [f"{index:06d}" for index in range(12)]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["samples"] == 12
    assert metrics["recall/rcnn_0.3"] == 0.5
    assert metrics["infer_ms_per_sample"] > 0
    texts = list((folder / "final_result" / "data").glob("*.txt"))
    assert len(texts) == 12


def test_infer_time_is_the_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow writing does not count for the model, but it does for seconds_per_sample."""
    generate = toy_engine.ToyDataset.generate_prediction_dicts

    def generate_slowly(
        self: toy_engine.ToyDataset,
        batch: BatchDict,
        pred_dicts: list[dict[str, Tensor]],
        class_names: list[str],
        output_path: Path | None = None,
    ) -> list[Annotation]:
        time.sleep(0.04)
        return generate(batch, pred_dicts, class_names, output_path)

    monkeypatch.setattr(toy_engine.ToyDataset, "generate_prediction_dicts", generate_slowly)
    outcome = evaluate_model(toy_engine.ToyDetector(), toy_engine.eval_loader(), infer_time=True)
    assert outcome.infer_ms_per_sample is not None
    assert outcome.infer_ms_per_sample < 10
    # Three batches of four samples.
    assert outcome.seconds_per_sample >= 3 * 0.04 / 12


def test_evaluation_changes_neither_mode_nor_model() -> None:
    """Dropout is off, the statistics of BatchNorm do not move, and the mode is restored."""
    loader = toy_engine.eval_loader()
    model = toy_engine.ToyDetector().train()
    first = evaluate_model(model, loader).ret_dict
    second = evaluate_model(model, loader).ret_dict
    assert first == second
    assert model.training
    assert "recall/rcnn_0.3" in first
    assert "Car_3d/moderate_R40" in first


def test_a_split_without_labels_still_gives_detections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def evaluate_without_labels(self: toy_engine.ToyDataset, det_annos: list[Annotation]) -> None:
        raise DataError("the split 'test' has no labels")

    monkeypatch.setattr(toy_engine.ToyDataset, "evaluate", evaluate_without_labels)
    loader = toy_engine.eval_loader()
    outcome = evaluate_model(toy_engine.ToyDetector(), loader, result_dir=tmp_path)
    assert outcome.result is None
    assert "no labels" in outcome.text
    assert outcome.table == ""
    annotations = pickle.loads((tmp_path / "result.pkl").read_bytes())
    assert len(annotations) == 12


def test_recalls_without_labels_are_zero() -> None:
    expected = {"recall/roi_0.3": 0.0, "recall/rcnn_0.3": 0.0}
    assert recall_values({"gt": 0, "rcnn_0.3": 0}) == expected
    assert recall_values({}) == {}


def test_eval_all_takes_each_checkpoint_once_and_does_not_wait(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_to_sleep(seconds: float) -> None:
        pytest.fail("it waits")

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=refuse_to_sleep)
    monkeypatch.setattr(files, "time", clock)
    folder = trained / "eval" / "eval_all_default" / "default"
    # The second time nothing is left to evaluate.
    for _ in range(2):
        evaluate_toy(tmp_path, "--eval_all", "--max_waiting_mins", "0", "--start_epoch", "2")
        assert (folder / "eval_list_val.txt").read_text().split() == ["2", "3"]
    assert (folder / "epoch_2" / "val" / "result.pkl").is_file()
    assert list(folder.glob("tensorboard_val/events*"))


def test_a_list_of_epochs_that_is_something_else(trained: Path, tmp_path: Path) -> None:
    record = trained / "eval" / "eval_all_default" / "default" / "eval_list_val.txt"
    record.parent.mkdir(parents=True)
    record.write_text("2\nthree\n")
    message = "eval_list_val.txt: expected the number of an epoch on each line"
    with pytest.raises(ConfigError, match=message):
        evaluate_toy(tmp_path, "--eval_all", "--max_waiting_mins", "0")


def test_eval_all_on_an_empty_folder_ends(tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="--eval_all: no checkpoint_epoch_N.pth"):
        evaluate_toy(tmp_path, "--eval_all", "--max_waiting_mins", "0", "--ckpt_dir", str(empty))


def test_waiting_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "POLL_SECONDS", 0.01)
    lines: list[str] = []
    start = time.monotonic()
    assert files.wait_for(lambda: None, 0.1 / 60, lines.append, "x") is None
    assert time.monotonic() - start >= 0.1
    assert len(lines) > 2


def test_waiting_ends_when_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "POLL_SECONDS", 0.01)
    results = iter([None, None, "found"])
    assert files.wait_for(lambda: next(results), 10, lambda line: None, "x") == "found"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], CheckpointError, "--ckpt: missing"),
        (["--eval_all", "--ckpt", "x.pth"], ConfigError, "--eval_all"),
        (["--ckpt", "{folder}/checkpoint_epoch_1.pth"], CheckpointError, "no such checkpoint"),
    ],
)
def test_missing_or_contradictory_flags(
    arguments: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    toy_engine.write_config(tmp_path)
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with pytest.raises(error, match=message):
        evaluate_toy(tmp_path, *arguments)
    assert not (tmp_path / "output").exists()


def test_compile_compiles_the_evaluated_model(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ckpt = str(trained / "ckpt" / "checkpoint_epoch_3.pth")
    compiled = []
    monkeypatch.setattr(
        evaluate, "compile_dense_part", lambda model, device: compiled.append((model, device.type))
    )
    evaluate_toy(tmp_path, "--ckpt", ckpt)
    assert compiled == []
    evaluate_toy(tmp_path, "--ckpt", ckpt, "--compile", "--device", "cpu")
    ((model, device),) = compiled
    assert isinstance(model, nn.Module) and device == "cpu"


def test_compile_refuses_a_detector_without_a_dense_part(trained: Path, tmp_path: Path) -> None:
    ckpt = str(trained / "ckpt" / "checkpoint_epoch_3.pth")
    with pytest.raises(ConfigError, match="--compile: .* has no dense part to compile"):
        evaluate_toy(tmp_path, "--ckpt", ckpt, "--compile")


def test_pretrained_model_completes_a_part(trained: Path, tmp_path: Path) -> None:
    """A --ckpt without some of the tensors is evaluated only together with --pretrained_model."""
    whole = trained / "ckpt" / "checkpoint_epoch_3.pth"
    weights = torch.load(whole, weights_only=True)["model_state"]
    part = {}
    for key, value in weights.items():
        if not key.startswith("head"):
            part[key] = value
    part_file = str(tmp_path / "part_7.pth")
    torch.save({"model_state": part}, part_file)
    with pytest.raises(CheckpointError, match="head.weight"):
        evaluate_toy(tmp_path, "--ckpt", part_file)
    assert not (trained / "eval" / "epoch_7").exists()
    evaluate_toy(tmp_path, "--ckpt", part_file, "--pretrained_model", str(whole))
    expected = trained / "eval/eval_with_train/epoch_3/val/metrics.json"
    completed = trained / "eval/epoch_7/val/default/metrics.json"
    assert json.loads(completed.read_text())["ap"] == json.loads(expected.read_text())["ap"]


def test_result_files_of_one_and_several_processes_are_equal(tmp_path: Path) -> None:
    """Detections of another process come as a copy, in which nothing is shared with the rest."""
    annotations = [{"name": ["Car"], "frame_id": "000001"}, {"name": ["Car"], "frame_id": "000002"}]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_results(tmp_path / "one", annotations, {})
    gathered = [annotations[0], pickle.loads(pickle.dumps(annotations[1]))]
    write_results(tmp_path / "two", gathered, {})
    one = (tmp_path / "one" / "result.pkl").read_bytes()
    assert pickle.dumps(gathered) != one
    assert (tmp_path / "two" / "result.pkl").read_bytes() == one
