"""Two processes on gloo do what one does with the same total batch; a wrong launch is a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.distributed import World, join_world, share_batch_norm
from pcdet_distill.errors import ConfigError

COMMON = ["--workers", "0", "--fix_random_seed", "--logger_iter_interval", "1", "--save_to_file"]


def run_two(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``toy_engine.py ARGUMENTS`` in two processes."""
    command = [
        sys.executable,
        "-m",
        "pcdet_distill.engine.distributed.launch",
        "2",
        toy_engine.__file__,
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_PLAIN": "1"}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 frames a batch: as 4 in one process, as 2 + 2 in two."""
    for name in ("one", "two"):
        toy_engine.write_config(tmp_path / name)
    with monkeypatch.context() as patch:
        for module, name in toy_engine.REPLACED:
            patch.setattr(module, name, getattr(module, name))
        toy_engine.install(batch_norm=False, dropout=0.0)
        toy_engine.run(
            "train",
            ["--cfg_file", str(tmp_path / "one/cfgs/toys/toy.yaml"), "--batch_size", "4", *COMMON],
        )
    two = run_two(
        tmp_path / "two",
        "train",
        "--cfg_file",
        "cfgs/toys/toy.yaml",
        "--launcher",
        "pytorch",
        "--batch_size",
        "4",
        *COMMON,
    )
    assert two.returncode == 0, two.stderr
    folders = [tmp_path / name / "output" / "toys" / "toy" / "default" for name in ("one", "two")]
    states = [load_checkpoint(folder / "ckpt" / "checkpoint_epoch_3.pth") for folder in folders]
    for key, value in states[0]["model_state"].items():
        torch.testing.assert_close(states[1]["model_state"][key], value, rtol=1e-5, atol=1e-6)
    assert [len(state["random_states"]) for state in states] == [1, 2]
    results = [folder / "eval" / "eval_with_train" / "epoch_3" / "val" for folder in folders]
    metrics = [json.loads((result / "metrics.json").read_text()) for result in results]
    assert [metric["samples"] for metric in metrics] == [toy_engine.FRAMES] * 2
    assert metrics[1]["recall/rcnn_0.3"] == metrics[0]["recall/rcnn_0.3"]
    assert metrics[1]["ap"]["Car_3d/moderate_R40"] == pytest.approx(
        metrics[0]["ap"]["Car_3d/moderate_R40"], rel=1e-5
    )
    assert len(list((results[1] / "final_result" / "data").glob("*.txt"))) == toy_engine.FRAMES
    assert two.stdout.count("epoch 1/3  it 1/3") == 1  # rank 0 alone speaks


def test_a_bad_frame_of_one_process_ends_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that met it names the file; the other one is left alone in the middle of a step."""
    toy_engine.write_config(tmp_path)
    monkeypatch.setenv("TOY_BAD_FRAME", "7")
    answer = run_two(
        tmp_path, "train", "--cfg_file", "cfgs/toys/toy.yaml", "--launcher", "pytorch", *COMMON
    )
    assert answer.returncode == 2
    lines = answer.stderr.splitlines()
    assert "error: velodyne/000007.bin: 7 bytes, expected a multiple of 16" in lines
    assert all(line.startswith("error: ") for line in lines), lines
    assert not list(tmp_path.rglob("checkpoint_epoch_*"))


def test_missing_launcher_environment_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "SLURM_NTASKS",
        "SLURM_NODELIST",
        "MASTER_ADDR",
    ):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(
            ConfigError, match="--launcher pytorch: the environment variable WORLD_SIZE is not set"
        ),
        join_world("pytorch", "cpu", 18888),
    ):
        pass
    with (
        pytest.raises(
            ConfigError, match="--launcher slurm: the environment variable SLURM_NODELIST"
        ),
        join_world("slurm", "cpu", 18888),
    ):
        pass


def test_local_rank_counts_when_the_launcher_does_not_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_PORT", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with join_world("pytorch", "cpu", 0, local_rank=3) as world:
        assert (world.local_rank, world.rank, world.size) == (3, 0, 1)


def test_slurm_world(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with join_world("slurm", "cpu", 0) as world:
        assert world == World(rank=0, size=1, local_rank=0, local_size=1)


def test_one_process_talks_to_itself() -> None:
    world = World()
    assert world.broadcast("x") == "x" and world.gather("x") == ["x"] and world.is_main


def test_sync_bn_is_refused_where_it_cannot_work() -> None:
    with pytest.raises(ConfigError, match="--sync_bn.*CUDA only"):
        share_batch_norm(torch.nn.BatchNorm1d(1), World(size=2), torch.device("cpu"))
