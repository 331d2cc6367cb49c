"""What the flags of tools/train.py do, and which checkpoints it starts from."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_engine
from easydict import EasyDict

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine import loop
from pcdet_distill.engine.cli.settings import batch_size_per_process, data_workers, run_name
from pcdet_distill.engine.distributed import World, world
from pcdet_distill.engine.resources.threads import CHOSEN_BY_USER
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.trainable import CheckpointState
from pcdet_distill.types import BatchDict

pytestmark = pytest.mark.usefixtures("toys")


def train(folder: Path, *arguments: str) -> Path:
    """Train the toy in ``folder`` with seed 666; returns its output folder."""
    return toy_engine.train_toy(folder, "--fix_random_seed", *arguments)


def checkpoint_file(output: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies."""
    return output / "ckpt" / f"checkpoint_epoch_{epoch}.pth"


def checkpoint(output: Path, epoch: int) -> CheckpointState:
    """The checkpoint of an epoch."""
    return load_checkpoint(checkpoint_file(output, epoch))


# --- Checkpoints to start from


def as_openpcdet_writes(ours: CheckpointState) -> CheckpointState:
    """Its five keys alone, with numpy learning rates.

    The weight decay in the optimizer is 0, because OpenPCDet decays weights by hand.
    """
    theirs = {key: ours[key] for key in ("epoch", "it", "model_state", "optimizer_state")}
    for group in theirs["optimizer_state"]["param_groups"]:
        group.update(lr=np.float64(group["lr"]), weight_decay=0)
    return {**theirs, "version": "pcdet+0.6.0+py0000000"}


def test_a_checkpoint_of_openpcdet_is_resumed(tmp_path: Path) -> None:
    """It is put into ckpt/, in PyTorch's older file format.

    The training continues as from our own checkpoint. Only random numbers would differ, because
    the file holds no random state.
    """
    toy_engine.install(dropout=0.0)
    whole = train(tmp_path / "whole")
    path = checkpoint_file(toy_engine.output_of(tmp_path / "parts"), 2)
    path.parent.mkdir(parents=True)
    state = as_openpcdet_writes(checkpoint(whole, 2))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    resumed = checkpoint(train(tmp_path / "parts"), 3)
    expected = checkpoint(whole, 3)
    assert expected["it"] == 9
    assert resumed["it"] == 9
    for key, value in expected["model_state"].items():
        torch.testing.assert_close(resumed["model_state"][key], value, rtol=0, atol=0)


def test_bare_weights_are_evaluated(tmp_path: Path) -> None:
    """A file that holds a state dict and nothing else."""
    output = train(tmp_path)
    weights = tmp_path / "weights.pth"
    model_state = checkpoint(output, 3)["model_state"]
    torch.save(model_state, weights, _use_new_zipfile_serialization=False)
    toy_engine.evaluate_toy(tmp_path, "--ckpt", str(weights), "--eval_tag", "bare")
    # One evaluation after the training, one of the bare weights.
    one, other = output.rglob("metrics.json")
    assert json.loads(one.read_text())["ap"] == json.loads(other.read_text())["ap"]


def test_checkpoints_can_be_read_by_the_strictest_loader(tmp_path: Path) -> None:
    """No numpy scalars and no objects: weights_only accepts tensors and plain containers."""
    output = train(tmp_path, "--epochs", "1")
    state = torch.load(checkpoint_file(output, 1), weights_only=True)
    assert {"epoch", "it", "model_state", "optimizer_state", "version"} <= state.keys()
    assert state["epoch"] == 1
    assert state["it"] == 3
    assert int(state["model_state"]["global_step"]) == 3


def test_pretrained_model_loads_what_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained = tmp_path / "before.pth"
    head = torch.full((1, 32), 0.5)
    weights_of_file = {"head.weight": head, "old.weight": torch.zeros(2)}
    torch.save({"model_state": weights_of_file}, pretrained)
    tiny_rate = ["--set", "OPTIMIZATION.LR", "1e-9"]
    output = train(tmp_path, "--epochs", "1", "--pretrained_model", str(pretrained), *tiny_rate)
    log = capsys.readouterr().out
    assert "loaded 1 of" in log
    assert "old.weight" in log
    weights = checkpoint(output, 1)["model_state"]
    torch.testing.assert_close(weights["head.weight"], head, rtol=0, atol=1e-6)


# --- Threads, precision, clipping


def test_threads_of_the_interrupted_run_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(world, "available_cores", lambda: 2)
    output = train(tmp_path, "--epochs", "1", "--device", "cpu")
    state = dict(checkpoint(output, 1))
    assert state["threads"] in (1, 2)
    assert "CPU threads: " in capsys.readouterr().out
    state["threads"] = 2
    torch.save(state, checkpoint_file(output, 1))
    train(tmp_path, "--epochs", "2", "--device", "cpu")
    assert "CPU threads: 2 (as before the interruption)" in capsys.readouterr().out
    assert checkpoint(output, 2)["threads"] == 2


@pytest.mark.parametrize("when", ["training", "prediction"])
def test_a_gpu_that_is_full_is_a_sentence(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of frames, and the options that need less memory."""
    forward = toy_engine.ToyDetector.forward

    def forward_on_a_full_gpu(model: toy_engine.ToyDetector, batch: BatchDict) -> tuple:
        if model.training == (when == "training"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(model, batch)

    monkeypatch.setattr(toy_engine.ToyDetector, "forward", forward_on_a_full_gpu)
    message = rf"^{when}: \w+(:0)? ran out of memory with 4 frames at once.*; lower --batch_size"
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, "--epochs", "1")


def test_amp_on_a_cpu_is_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = train(tmp_path, "--epochs", "1", "--use_amp", "--device", "cpu")
    assert "mixed precision is for CUDA" in capsys.readouterr().out
    for value in checkpoint(output, 1)["model_state"].values():
        if value.is_floating_point():
            assert value.dtype == torch.float32


def test_loss_scaling_starts_where_the_yaml_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = []
    make_grad_scaler = loop.make_grad_scaler

    def note_scale(enabled: bool, scale: float) -> torch.amp.GradScaler:
        scales.append(scale)
        return make_grad_scaler(enabled, scale)

    monkeypatch.setattr(loop, "make_grad_scaler", note_scale)
    train(tmp_path / "a", "--epochs", "1")
    train(tmp_path / "b", "--epochs", "1", "--set", "OPTIMIZATION.LOSS_SCALE_FP16", "32")
    assert scales == [65536.0, 32.0]


def test_the_yaml_names_the_type_of_mixed_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here on a CPU it is off, but the type arrives."""
    found = []
    autocast = torch.autocast

    def note_type(device: str, *args: Any, **options: Any) -> torch.autocast:
        if device == "cuda":
            found.append(options["dtype"])
        return autocast(device, *args, **options)

    monkeypatch.setattr(torch, "autocast", note_type)
    train(tmp_path, "--epochs", "1", "--set", "OPTIMIZATION.AMP_DTYPE", "bfloat16")
    assert set(found) == {torch.bfloat16}


def first_moments_with_clip(folder: Path, largest_norm: str) -> float:
    """Sum of the norms of Adam's first moments after an epoch with this GRAD_NORM_CLIP."""
    output = train(folder, "--epochs", "1", "--set", "OPTIMIZATION.GRAD_NORM_CLIP", largest_norm)
    entries = checkpoint(output, 1)["optimizer_state"]["state"].values()
    return sum(float(entry["exp_avg"].norm()) for entry in entries)


def test_gradient_clipping_is_applied(tmp_path: Path) -> None:
    free = first_moments_with_clip(tmp_path / "a", "1000")
    clipped = first_moments_with_clip(tmp_path / "b", "0.001")
    assert clipped < 0.01 * free


# --- Augmentations of the last epochs


@pytest.fixture
def disabled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int]]:
    """The calls of ``disable_augmentations``: names, and the first epoch without them."""
    calls: list[tuple[list[str], int]] = []

    def note_call(self: toy_engine.ToyDataset, names: Sequence[str], from_epoch: int) -> None:
        calls.append((list(names), from_epoch))

    monkeypatch.setattr(toy_engine.ToyDataset, "disable_augmentations", note_call)
    return calls


def train_without_last_augmentations(folder: Path, *arguments: str) -> None:
    """Three epochs, the last two without gt_sampling."""
    config = toy_engine.write_config(folder)
    hook = "{DisableAugmentationHook: {DISABLE_AUG_LIST: [gt_sampling], NUM_LAST_EPOCHS: 2}}"
    config.write_text(f"{config.read_text()}HOOK: {hook}\n")
    common = ["--cfg_file", str(config), "--workers", "0", "--epochs", "3"]
    toy_engine.run("train", [*common, *arguments])


def test_augmentations_are_disabled_for_the_last_epochs(
    tmp_path: Path, disabled: list[tuple[list[str], int]]
) -> None:
    train_without_last_augmentations(tmp_path)
    assert disabled == [(["gt_sampling"], 1)]


def test_one_merged_epoch_has_no_last_epochs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--merge_all_iters_to_one_epoch"):
        train_without_last_augmentations(tmp_path, "--merge_all_iters_to_one_epoch")


# --- Batches, workers, names

TWO_PROCESSES = World(size=2, local_size=2)
FOUR_A_GPU = EasyDict(OPTIMIZATION={"BATCH_SIZE_PER_GPU": 4})


@pytest.mark.parametrize(("given", "expected"), [(None, 4), (6, 3)])
def test_a_given_batch_size_counts_all_processes(given: int | None, expected: int) -> None:
    arguments = argparse.Namespace(batch_size=given)
    assert batch_size_per_process(arguments, FOUR_A_GPU, TWO_PROCESSES) == expected


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    arguments = argparse.Namespace(batch_size=5)
    with pytest.raises(ConfigError, match="--batch_size 5: expected a multiple of the 2 processes"):
        batch_size_per_process(arguments, FOUR_A_GPU, TWO_PROCESSES)


@pytest.mark.parametrize(
    ("given", "processes", "expected"),
    [(16, World(), 4), (16, TWO_PROCESSES, 2), (0, World(), 0)],
)
def test_no_more_workers_than_cores(
    given: int, processes: World, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "available_cores", lambda: 4)
    assert data_workers(argparse.Namespace(workers=given), processes) == expected


@pytest.mark.parametrize(
    ("group", "name"), [("kitti_models", "kitti_models/second (mine)"), ("", "second (mine)")]
)
def test_the_name_of_a_run_has_no_stray_slash(group: str, name: str) -> None:
    assert run_name(EasyDict(EXP_GROUP_PATH=group, TAG="second"), "mine") == name


@pytest.mark.parametrize(
    ("module", "message"), [("train", "--cfg_file: missing"), ("evaluate", "--ckpt: missing")]
)
def test_the_modules_are_tools_too(module: str, message: str) -> None:
    command = [sys.executable, "-m", f"pcdet_distill.engine.{module}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
