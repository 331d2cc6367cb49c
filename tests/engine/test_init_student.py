"""The model is initialised before the first step of a new training, and at no other time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.models.trainable import TrainingData
from pcdet_distill.types import BatchDict


class ToyInit:
    """An ``init_before_training`` that stores its batches and sets the head's weights to one."""

    def __init__(self) -> None:
        self.frames = 6
        self.calls: list[list[BatchDict]] = []

    def init(self, model: toy_engine.ToyDetector, data: TrainingData) -> None:
        self.calls.append(data.first_frames(self.frames))
        torch.nn.init.ones_(model.head.weight)
        # Random numbers that are drawn here must not change the training that follows.
        np.random.rand()
        torch.rand(1)


@pytest.fixture
def toy_init(toys: None, monkeypatch: pytest.MonkeyPatch) -> ToyInit:
    """Initialises every toy detector of the test."""
    toy_init = ToyInit()

    def init_before_training(
        model: toy_engine.ToyDetector, data: TrainingData, logger: logging.Logger
    ) -> None:
        toy_init.init(model, data)

    monkeypatch.setattr(toy_engine.ToyDetector, "init_before_training", init_before_training)
    return toy_init


def train(folder: Path, *arguments: str) -> Path:
    """Train with a rate so small that the first weights stay; returns the folder of checkpoints."""
    tiny_rate = ["--set", "OPTIMIZATION.LR", "1e-9"]
    output = toy_engine.train_toy(folder, "--fix_random_seed", *arguments, *tiny_rate)
    return output / "ckpt"


def test_a_new_training_inits_from_the_first_frames_of_its_first_epoch(
    tmp_path: Path, toy_init: ToyInit
) -> None:
    ckpt_dir = train(tmp_path / "a", "--epochs", "1")
    train(tmp_path / "b", "--epochs", "1")
    first, again = toy_init.calls
    assert [batch["batch_size"] for batch in first] == [4, 2]
    for batch, other in zip(first, again):
        assert np.array_equal(batch["values"], other["values"])
    frames = np.concatenate([batch["frame_id"] for batch in first])
    assert len(set(frames)) == 6
    weights = load_checkpoint(ckpt_dir / "checkpoint_epoch_1.pth")["model_state"]
    torch.testing.assert_close(weights["head.weight"], torch.ones(1, 32), rtol=0, atol=1e-4)


def test_more_frames_than_there_are(tmp_path: Path, toy_init: ToyInit) -> None:
    toy_init.frames = 100
    train(tmp_path, "--epochs", "1")
    assert sum(batch["batch_size"] for batch in toy_init.calls[0]) == toy_engine.FRAMES


def test_neither_a_resumed_nor_a_pretrained_model_is_initialised_again(
    tmp_path: Path, toy_init: ToyInit
) -> None:
    train(tmp_path, "--epochs", "1")
    ckpt_dir = train(tmp_path, "--epochs", "2")
    assert len(toy_init.calls) == 1
    weights = str(ckpt_dir / "checkpoint_epoch_2.pth")
    train(tmp_path / "other", "--epochs", "1", "--pretrained_model", weights)
    assert len(toy_init.calls) == 1


IN_TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, {tests_folder!r})
import torch
import toy_engine
from pcdet_distill.engine.loop import Trainer

def init_with_threes(model, data, logger):
    torch.nn.init.constant_(model.head.weight, 3.0)

run = Trainer.run

def write_weights_and_run(trainer, progress, stop):
    weights = trainer.model.head.weight.unique().tolist()
    Path(f"rank{{trainer.world.rank}}").write_text(str(weights))
    run(trainer, progress, stop)

toy_engine.ToyDetector.init_before_training = init_with_threes
Trainer.run = write_weights_and_run
toy_engine.main()
"""


def test_all_processes_get_the_weights_of_the_first(tmp_path: Path) -> None:
    toy_engine.write_config(tmp_path)
    tests_folder = str(Path(toy_engine.__file__).parent)
    (tmp_path / "toy.py").write_text(IN_TWO_PROCESSES.format(tests_folder=tests_folder))
    command = [sys.executable, "-m", "pcdet_distill.engine.distributed.launch", "2"]
    command += ["toy.py", "train", "--cfg_file", "cfgs/toys/toy.yaml", "--launcher", "pytorch"]
    command += ["--workers", "0", "--epochs", "1", "--fix_random_seed", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_PLAIN": "1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"rank{rank}").read_text() == "[3.0]"
