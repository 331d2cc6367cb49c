"""Trainings on nuScenes with class-balanced resampling: plain, with a cached teacher, resumed."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from easydict import EasyDict
from interruptions import Killed, identical, kill_after
from tiny_nuscenes import CLASSES, DATA_CONFIG, TinyNuScenes, fill, make_files

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.engine.train import add_train_arguments, run_training
from pcdet_distill.models import build_network
from pcdet_distill.models.trainable import CheckpointState
from pcdet_distill.types import ConfigDict, MutableConfig

SOURCE = "nuscenes_models/cbgs_dyn_pp_centerpoint.yaml"
HEADS = [["car", "truck"], ["pedestrian"], ["barrier"]]
SCORES = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
MAP = "backbone_2d@spatial_features_2d"
FEATURES = {"NAME": "GraphDistillLoss", "STUDENT": MAP, "TEACHER": MAP, "NUM_NODES": 32}
COMMON = ["--batch_size", "2", "--workers", "0", "--epochs", "2"]
COMMON += ["--fix_random_seed", "--logger_iter_interval", "1"]
NUM_ITEMS = 16  # four classes, each drawn four times
BATCHES = NUM_ITEMS // 2
EVALUATED = "eval/eval_with_train/epoch_2/val/metrics.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_PATH of the made-up version, with infos and database."""
    folder = tmp_path_factory.mktemp("frames") / "nuscenes"
    tiny = TinyNuScenes(folder)
    fill(tiny)
    make_files(tiny)
    return folder


class Experiment:
    """The yaml files of a narrow CenterPoint and of its teacher, beside an output folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data

    def config(self, width: int) -> MutableConfig:
        """OpenPCDet's yaml with ``width`` channels, for the made-up version and its range."""
        config = load_config(SOURCE)
        config.CLASS_NAMES = CLASSES
        config.DATA_CONFIG = EasyDict({**DATA_CONFIG, "DATA_PATH": str(self.data)})
        config.DATA_CONFIG.BALANCED_RESAMPLING = True
        step = {"NAME": "transform_points_to_voxels_placeholder", "VOXEL_SIZE": [0.4, 0.4, 8.0]}
        config.DATA_CONFIG.DATA_PROCESSOR = [*DATA_CONFIG["DATA_PROCESSOR"][:2], step]
        model = config.MODEL
        model.VFE.NUM_FILTERS = [width, width]
        model.MAP_TO_BEV.NUM_BEV_FEATURES = width
        model.BACKBONE_2D.update(LAYER_NUMS=[1, 1, 1], NUM_FILTERS=3 * [width])
        model.BACKBONE_2D.NUM_UPSAMPLE_FILTERS = 3 * [width]
        model.DENSE_HEAD.CLASS_NAMES_EACH_HEAD = HEADS
        model.DENSE_HEAD.SHARED_CONV_CHANNEL = width
        for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
            del config[key]
        return config

    def write(self, name: str, config: MutableConfig, **changes: ConfigDict) -> Path:
        path = self.folder / "cfgs" / "toys" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(to_plain({**config, **changes})))
        return path

    def write_distilled(self, term: ConfigDict, **teacher: object) -> None:
        """Yaml files of teacher and student, and weights of the teacher."""
        config = load_config(self.write("teacher", self.config(16)))
        torch.manual_seed(0)
        spec = DataSpec.from_config(config.DATA_CONFIG, CLASSES)
        network = build_network(config.MODEL, len(CLASSES), spec)
        for head in network.dense_head.heads_list:
            torch.nn.init.constant_(head.hm[-1].bias, 0.0)  # so that it predicts some boxes
        save_checkpoint({"model_state": network.state_dict()}, self.teacher_ckpt)
        distill = {"TEACHER": {"CFG_FILE": "teacher.yaml", **teacher}, "TERMS": {"TERM": term}}
        self.write("student", self.config(8), DISTILL=distill)

    @property
    def teacher_ckpt(self) -> Path:
        """The teacher's weights."""
        return self.folder / "teacher.pth"

    @property
    def output(self) -> Path:
        """The output folder of the training."""
        return self.folder / "output" / "toys" / "student" / "default"

    def train(self, *arguments: str) -> None:
        """Run tools/train.py in this process."""
        parser = add_train_arguments(argparse.ArgumentParser())
        files = ["--cfg_file", str(self.folder / "cfgs" / "toys" / "student.yaml")]
        if self.teacher_ckpt.is_file():
            files += ["--teacher_ckpt", str(self.teacher_ckpt)]
        run_training(parser.parse_args([*files, *COMMON, *arguments]))

    def last_checkpoint(self) -> CheckpointState:
        """The checkpoint of the second epoch."""
        return load_checkpoint(self.output / "ckpt" / "checkpoint_epoch_2.pth")

    def records(self, name: str) -> list[float]:
        """A number of the log at each step."""
        lines = (self.output / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [record[name] for record in records if name in record]


def test_from_tables_to_nds(tmp_path: Path, data: Path) -> None:
    """Infos, sweeps, resampling, two epochs, and the official numbers in metrics.json."""
    experiment = Experiment(tmp_path, data)
    experiment.write("student", experiment.config(8))
    experiment.train("--num_epochs_to_eval", "1", "--save_to_file")
    assert len(experiment.records("loss")) == 2 * BATCHES
    metrics = json.loads((experiment.output / EVALUATED).read_text())
    assert metrics["samples"] == 2
    assert metrics["primary"]["name"] == "NDS"
    assert 0 <= metrics["primary"]["value"] <= 1
    results = experiment.output / EVALUATED
    results = results.parent / "final_result" / "data" / "results_nusc.json"
    assert len(json.loads(results.read_text())["results"]) == 2


def interrupted(experiment: Experiment, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(Killed):
            experiment.train("--ckpt_save_time_interval", "0")


def check_same_ends(first: Experiment, second: Experiment) -> None:
    whole = first.last_checkpoint()
    resumed = second.last_checkpoint()
    for key in ("model_state", "optimizer_state"):
        assert whole[key], key
        assert identical(whole[key], resumed[key]), key


def test_a_cached_teacher_resumed_equals_uninterrupted(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames come several times an epoch; the teacher runs once on each, also after a restart."""
    experiments = []
    for name in ("whole", "parts"):
        experiment = Experiment(tmp_path / name, data)
        cache = str(tmp_path / name / "cache")
        experiment.write_distilled(SCORES, CACHE="predictions", CACHE_DIR=cache)
        experiments.append(experiment)
    whole, parts = experiments
    whole.train()
    log = capsys.readouterr().out
    assert "teacher cache: computing the predictions of 5 frames" in log
    assert "resampled to 16 by class" in log
    losses = whole.records("distill_term")
    assert len(losses) == 2 * BATCHES
    assert min(losses) > 0
    interrupted(parts, monkeypatch, BATCHES + 3)
    shutil.rmtree(parts.folder / "cache")
    parts.train("--ckpt_save_time_interval", "0", "--workers", "2")
    check_same_ends(whole, parts)


def test_reused_outputs_of_a_teacher_are_those_of_their_items(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REUSE repeats the batches of an epoch; the same frame in two items has two augmentations."""
    whole = Experiment(tmp_path / "whole", data)
    whole.write_distilled(FEATURES, REUSE=2)
    whole.train()
    losses = whole.records("distill_term")
    assert len(losses) == 2 * BATCHES
    parts = Experiment(tmp_path / "parts", data)
    parts.write_distilled(FEATURES, REUSE=2)
    interrupted(parts, monkeypatch, BATCHES + 3)
    parts.train("--ckpt_save_time_interval", "0")
    check_same_ends(whole, parts)
