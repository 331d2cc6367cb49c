"""Hub folders: load_detector reads them back, and nothing of this machine is in them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_detectors import CONFIG, random_cloud, write_checkpoint

from pcdet_distill.cli import export
from pcdet_distill.config import load_config
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.export.card_facts import evaluation_beside, facts_of, read_results
from pcdet_distill.export.hub import config_text, portable_data_path, write_hub_folder
from pcdet_distill.inference import Detector, load_detector

pytest.importorskip("safetensors")

STUDENT = "synthetic/pointpillar_student_init.yaml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hub") / "model.pth")


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> Detector:
    return load_detector(CONFIG, checkpoint, device="cpu")


def test_the_folder_gives_the_same_boxes(
    detector: Detector, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "hub"
    write_hub_folder(detector, folder, facts_of(detector, checkpoint))
    assert sorted(os.listdir(folder)) == ["README.md", "config.yaml", "model.safetensors"]
    again = load_detector(folder, device="cpu")
    for name, tensor in detector.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    found = 0
    for seed in range(3):
        expected, boxes = detector(random_cloud(seed)), again(random_cloud(seed))
        np.testing.assert_array_equal(boxes.boxes, expected.boxes)
        np.testing.assert_array_equal(boxes.scores, expected.scores)
        assert list(boxes.names) == list(expected.names)
        found += len(boxes)
    assert found > 0


@pytest.mark.parametrize(
    "name",
    [
        "kitti_models/pointpillar.yaml",
        "kitti_models/second.yaml",
        "kitti_distill/pointpillar_4x_init.yaml",
        "nuscenes_models/cbgs_pp_multihead.yaml",
        "synthetic/centerpoint_pillar.yaml",
    ],
)
def test_the_yaml_is_complete(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(name)
    monkeypatch.chdir(tmp_path)  # no file of the project is near
    (tmp_path / "config.yaml").write_text(config_text(cfg))
    again = load_config(tmp_path / "config.yaml")
    for key in ("CLASS_NAMES", "MODEL", "OPTIMIZATION"):
        assert again[key] == cfg[key], key
    for key, value in cfg.DATA_CONFIG.items():
        assert key == "DATA_PATH" or again.DATA_CONFIG[key] == value, key
    assert "DISTILL" not in again
    assert "_BASE_CONFIG_" not in (tmp_path / "config.yaml").read_text()


def test_no_folder_of_this_machine_is_written(tmp_path: Path) -> None:
    cfg = load_config(CONFIG)
    cfg.DATA_CONFIG.DATA_PATH = str(tmp_path / "secret" / "scans")
    text = config_text(cfg)
    assert str(tmp_path) not in text and str(cfg.ROOT_DIR) not in text
    assert yaml.safe_load(text)["DATA_CONFIG"]["DATA_PATH"] == "../data/scans"
    assert portable_data_path({"DATA_PATH": "../data/kitti"}) == "../data/kitti"
    assert portable_data_path({}) == "data"


def test_facts_of_a_student(checkpoint: Path, tmp_path: Path) -> None:
    student = write_checkpoint(tmp_path / "student.pth", STUDENT)
    detector = load_detector(STUDENT, student, device="cpu")
    facts = facts_of(detector, student, batch=detector.batch(random_cloud()))
    assert facts.name == "pointpillar_student_init"
    assert facts.parameters == 165_192  # docs/results/quickstart.json
    assert facts.gflops == pytest.approx(0.19, abs=0.02)
    assert facts.teacher == "pointpillar_teacher"
    assert facts.distill["INIT_STUDENT"] == "SLICE"
    assert "CKPT" not in facts.distill["TEACHER"]
    assert facts.results is None


def metrics_of(car: float, cyclist: float | None) -> dict[str, object]:
    """metrics.json of a KITTI evaluation, as far as the card reads it."""

    def by_difficulty(value: float | None) -> dict[str, object]:
        return {"R40": {"moderate": value}}

    ap = {}
    for name, value in {"Car": car, "Cyclist": cyclist}.items():
        kinds = {kind: by_difficulty(value) for kind in ("bev", "3d")}
        ap[name] = {"strict": kinds}
    return {"samples": 40, "ap": ap}


def test_the_evaluation_beside_the_checkpoint_is_told(detector: Detector, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ckpt = write_checkpoint(run / "ckpt" / "checkpoint_epoch_8.pth")
    assert evaluation_beside(ckpt) is None
    for epoch, value in ((8, 61.5), (80, 99.0)):
        folder = run / "eval" / "eval_with_train" / f"epoch_{epoch}" / "val"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics_of(value, None)))
    facts = facts_of(detector, ckpt)
    assert facts.results is not None
    # A class without objects has no AP; the column is left out.
    assert facts.results.runs == [{"bev": {"Car": 61.5}, "3d": {"Car": 61.5}}]
    assert facts.results.frames == 40


def test_results_of_several_seeds_share_their_classes(detector: Detector, tmp_path: Path) -> None:
    files = []
    for seed, cyclist in ((0, 50.0), (1, None)):
        files.append(tmp_path / f"seed{seed}.json")
        files[-1].write_text(json.dumps(metrics_of(60.0 + seed, cyclist)))
    results = read_results(files, detector.cfg)
    assert results is not None
    assert [run["3d"] for run in results.runs] == [{"Car": 60.0}, {"Car": 61.0}]


def test_wrong_results(detector: Detector, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        facts_of(detector, checkpoint, results=[tmp_path / "none.json"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="holds no AP of Car"):
        facts_of(detector, checkpoint, results=[tmp_path / "other.json"])


def test_a_folder_that_cannot_be_written(
    detector: Detector, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    facts = facts_of(detector, checkpoint)
    with pytest.raises(DataError, match="file: cannot be written"):
        write_hub_folder(detector, tmp_path / "file", facts)


def test_without_safetensors_nothing_is_written(
    detector: Detector, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    facts = facts_of(detector, checkpoint)
    with pytest.raises(ConfigError, match=r"pcdet_distill\[hub\]"):
        write_hub_folder(detector, tmp_path / "hub", facts)
    assert not (tmp_path / "hub").exists()


def test_the_command(checkpoint: Path, tmp_path: Path, capsys) -> None:
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps(metrics_of(61.5, 40.0)))
    random_cloud().tofile(tmp_path / "cloud.bin")
    words = ["--format", "hub", "--cfg_file", CONFIG, "--ckpt", str(checkpoint)]
    words += ["--out", str(tmp_path / "hub"), "--results", str(metrics), "--license", "mit"]
    words += ["--data", "my own scans", "--data_path", str(tmp_path / "cloud.bin")]
    export(words)
    card = (tmp_path / "hub" / "README.md").read_text()
    for phrase in ("license: mit", "my own scans", "61.5", "40.0", "multiply-adds"):
        assert phrase in card, phrase
    assert "load_detector" in capsys.readouterr().out
    # A hub folder is a checkpoint too, so it can be written again with another card.
    words[words.index(str(checkpoint))] = str(tmp_path / "hub")
    words[words.index("--out") + 1] = str(tmp_path / "again")
    export(words)
    first = (tmp_path / "hub" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format", "hub", "--opset", "18"], "--opset belongs to --format onnx, not to hub"),
        (["--license", "mit"], "--license belongs to --format hub, not to onnx"),
        (["--format", "hub", "--data_path", "none.bin"], "none.bin"),
    ],
)
def test_flags_that_cannot_be_used(
    checkpoint: Path, tmp_path: Path, capsys, flags: list[str], sentence: str
) -> None:
    words = ["--cfg_file", CONFIG, "--ckpt", str(checkpoint), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        export([*words, *flags])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
