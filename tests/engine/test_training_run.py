"""What the flags of tools/train.py do, and which checkpoints it starts from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_engine
from easydict import EasyDict

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine import loop
from pcdet_distill.engine.cli.settings import batch_size_per_process, data_workers
from pcdet_distill.engine.distributed import World, world
from pcdet_distill.engine.resources.threads import CHOSEN_BY_USER
from pcdet_distill.errors import ConfigError

pytestmark = pytest.mark.usefixtures("toys")


def train(folder: Path, *arguments: str) -> Path:
    """Train the toy in ``folder`` with seed 666; gives the output folder."""
    toy_engine.run(
        "train",
        [
            "--cfg_file",
            str(toy_engine.write_config(folder)),
            "--workers",
            "0",
            "--fix_random_seed",
            *arguments,
        ],
    )
    return folder / "output" / "toys" / "toy" / "default"


def as_openpcdet_writes(ours: dict[str, Any]) -> dict[str, Any]:
    """Its five keys alone, numpy learning rates, and a weight decay of 0 in the optimizer (it decays by hand)."""
    theirs = {key: ours[key] for key in ("epoch", "it", "model_state", "optimizer_state")}
    for group in theirs["optimizer_state"]["param_groups"]:
        group.update(lr=np.float64(group["lr"]), weight_decay=0)
    return {**theirs, "version": "pcdet+0.6.0+py0000000"}


def test_a_checkpoint_of_openpcdet_is_resumed(tmp_path: Path) -> None:
    """Dropped into ckpt/, in PyTorch's older file format. The rest of the training is as from our own checkpoint,
    but for the random numbers it does not hold."""
    toy_engine.install(dropout=0.0)
    whole = load_checkpoint(train(tmp_path / "whole") / "ckpt" / "checkpoint_epoch_3.pth")
    second = load_checkpoint(tmp_path / "whole/output/toys/toy/default/ckpt/checkpoint_epoch_2.pth")
    path = tmp_path / "parts/output/toys/toy/default/ckpt/checkpoint_epoch_2.pth"
    path.parent.mkdir(parents=True)
    torch.save(as_openpcdet_writes(second), path, _use_new_zipfile_serialization=False)
    resumed = load_checkpoint(train(tmp_path / "parts") / "ckpt" / "checkpoint_epoch_3.pth")
    assert resumed["it"] == whole["it"] == 9
    for key, value in whole["model_state"].items():
        torch.testing.assert_close(resumed["model_state"][key], value, rtol=0, atol=0)


def test_bare_weights_are_evaluated(tmp_path: Path) -> None:
    folder = train(tmp_path)
    weights = load_checkpoint(folder / "ckpt" / "checkpoint_epoch_3.pth")["model_state"]
    torch.save(weights, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    toy_engine.run(
        "test",
        [
            "--cfg_file",
            str(tmp_path / "cfgs/toys/toy.yaml"),
            "--workers",
            "0",
            "--ckpt",
            str(tmp_path / "weights.pth"),
            "--eval_tag",
            "bare",
        ],
    )
    results = [json.loads(path.read_text())["ap"] for path in sorted(folder.rglob("metrics.json"))]
    assert len(results) == 2 and results[0] == results[1]


def test_checkpoints_can_be_read_by_the_strictest_loader(tmp_path: Path) -> None:
    """No numpy scalars, no objects: torch.load with weights_only and nothing allowed beside tensors."""
    folder = train(tmp_path, "--epochs", "1")
    state = torch.load(folder / "ckpt" / "checkpoint_epoch_1.pth", weights_only=True)
    assert {"epoch", "it", "model_state", "optimizer_state", "version"} <= state.keys()
    assert state["epoch"] == 1 and state["it"] == 3
    assert int(state["model_state"]["global_step"]) == 3


def test_pretrained_model_takes_what_fits(tmp_path: Path, capsys: Any) -> None:
    state = {"model_state": {"head.weight": torch.full((1, 32), 0.5), "old.weight": torch.zeros(2)}}
    torch.save(state, tmp_path / "before.pth")
    train(
        tmp_path,
        "--epochs",
        "1",
        "--pretrained_model",
        str(tmp_path / "before.pth"),
        "--set",
        "OPTIMIZATION.LR",
        "1e-9",
    )
    said = capsys.readouterr().out
    assert "loaded 1 of" in said and "old.weight" in said
    weights = load_checkpoint(tmp_path / "output/toys/toy/default/ckpt/checkpoint_epoch_1.pth")[
        "model_state"
    ]
    torch.testing.assert_close(weights["head.weight"], torch.full((1, 32), 0.5), rtol=0, atol=1e-6)


def test_threads_of_the_interrupted_run_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(world, "available_cores", lambda: 2)
    folder = train(tmp_path, "--epochs", "1")
    path = folder / "ckpt" / "checkpoint_epoch_1.pth"
    state = load_checkpoint(path)
    assert state["threads"] in (1, 2) and "CPU threads: " in capsys.readouterr().out
    state["threads"] = 2
    torch.save(state, path)
    train(tmp_path, "--epochs", "2")
    assert "CPU threads: 2 (as before the interruption)" in capsys.readouterr().out
    assert load_checkpoint(folder / "ckpt" / "checkpoint_epoch_2.pth")["threads"] == 2


def test_amp_on_a_cpu_is_said_and_left_out(tmp_path: Path, capsys: Any) -> None:
    folder = train(tmp_path, "--epochs", "1", "--use_amp", "--device", "cpu")
    assert "mixed precision is for CUDA" in capsys.readouterr().out
    state = load_checkpoint(folder / "ckpt" / "checkpoint_epoch_1.pth")
    assert all(
        value.dtype == torch.float32
        for value in state["model_state"].values()
        if value.is_floating_point()
    )


def test_loss_scaling_starts_where_the_yaml_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = []
    build = loop.make_grad_scaler

    def noting(enabled: bool, scale: float) -> Any:
        scales.append(scale)
        return build(enabled, scale)

    monkeypatch.setattr(loop, "make_grad_scaler", noting)
    train(tmp_path / "a", "--epochs", "1")
    train(tmp_path / "b", "--epochs", "1", "--set", "OPTIMIZATION.LOSS_SCALE_FP16", "32")
    assert scales == [65536.0, 32.0]


def test_gradient_clipping_is_applied(tmp_path: Path) -> None:
    arguments = [
        "--epochs",
        "1",
        "--logger_iter_interval",
        "1",
        "--set",
        "OPTIMIZATION.GRAD_NORM_CLIP",
    ]
    free = load_checkpoint(
        train(tmp_path / "a", *arguments, "1000") / "ckpt/checkpoint_epoch_1.pth"
    )
    clipped = load_checkpoint(
        train(tmp_path / "b", *arguments, "0.001") / "ckpt/checkpoint_epoch_1.pth"
    )
    moments = [
        sum(entry["exp_avg"].norm() for entry in state["optimizer_state"]["state"].values())
        for state in (free, clipped)
    ]
    assert moments[1] < 0.01 * moments[0]


def test_disable_augmentation_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        toy_engine.ToyDataset,
        "disable_augmentations",
        lambda self, names, from_epoch: made.append((list(names), from_epoch)),
    )
    config = toy_engine.write_config(tmp_path)
    config.write_text(
        config.read_text() + "HOOK: {DisableAugmentationHook: "
        "{DISABLE_AUG_LIST: [gt_sampling], NUM_LAST_EPOCHS: 2}}\n"
    )
    arguments = ["--cfg_file", str(config), "--workers", "0", "--epochs", "3"]
    toy_engine.run("train", arguments)
    assert made == [(["gt_sampling"], 1)]
    with pytest.raises(ConfigError, match="--merge_all_iters_to_one_epoch"):
        toy_engine.run(
            "train", [*arguments, "--extra_tag", "merged", "--merge_all_iters_to_one_epoch"]
        )


def test_batch_size_counts_all_processes() -> None:
    cfg = EasyDict(OPTIMIZATION={"BATCH_SIZE_PER_GPU": 4})
    pair = World(size=2, local_size=2)
    assert batch_size_per_process(argparse.Namespace(batch_size=None), cfg, pair) == 4
    assert batch_size_per_process(argparse.Namespace(batch_size=6), cfg, pair) == 3
    with pytest.raises(ConfigError, match="--batch_size 5: expected a multiple of the 2 processes"):
        batch_size_per_process(argparse.Namespace(batch_size=5), cfg, pair)


def test_no_more_workers_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "available_cores", lambda: 4)
    assert data_workers(argparse.Namespace(workers=16), World()) == 4
    assert data_workers(argparse.Namespace(workers=16), World(size=2, local_size=2)) == 2
    assert data_workers(argparse.Namespace(workers=0), World()) == 0
