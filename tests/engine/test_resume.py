"""Stopping and starting again must change nothing: not one bit of the weights, the optimizer or the random state."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_engine

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine.checkpoints import FoundCheckpoint, files, resume_iteration
from pcdet_distill.engine.loop import Trainer
from pcdet_distill.errors import CheckpointError, ConfigError

SCRIPT = Path(toy_engine.__file__)
COMMON = ["--workers", "0", "--fix_random_seed", "--logger_iter_interval", "1"]


class Killed(BaseException):
    """Stands for a process that is gone: nothing in the engine may catch it."""


pytestmark = pytest.mark.usefixtures("toys")


def train(folder: Path, *arguments: str) -> Path:
    """Train the toy in ``folder``; gives the output folder."""
    toy_engine.run(
        "train", ["--cfg_file", str(toy_engine.write_config(folder)), *COMMON, *arguments]
    )
    return folder / "output" / "toys" / "toy" / "default"


def stop_after(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    """Make the trainer die as it begins the step after ``iterations``."""
    step = Trainer.train_step

    def dying_step(self: Trainer, batch: dict[str, Any]) -> Any:
        if self.iteration == iterations:
            raise Killed
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", dying_step)


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, tensors included."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def final(folder: Path) -> dict[str, Any]:
    return load_checkpoint(folder / "ckpt" / "checkpoint_epoch_3.pth")


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
@pytest.mark.parametrize(
    "extra", [[], ["--merge_all_iters_to_one_epoch"]], ids=["epochs", "merged"]
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, extra: list[str]
) -> None:
    whole = final(train(tmp_path / "whole", "--ckpt_save_time_interval", "0", *extra))
    with monkeypatch.context() as patch:
        stop_after(patch, stop)
        with pytest.raises(Killed):
            train(tmp_path / "parts", "--ckpt_save_time_interval", "0", *extra)
    resumed = final(train(tmp_path / "parts", "--ckpt_save_time_interval", "0", *extra))
    assert same(resumed, whole)


def test_a_drawn_seed_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --fix_random_seed the seed is in the checkpoint: data order and dropout go on."""
    config = [
        "--cfg_file",
        str(toy_engine.write_config(tmp_path)),
        "--workers",
        "0",
        "--ckpt_save_time_interval",
        "0",
    ]
    monkeypatch.setattr(toy_engine.setup, "draw_seed", lambda: 4321)
    toy_engine.run("train", [*config, "--extra_tag", "whole"])
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Killed):
            toy_engine.run("train", [*config, "--extra_tag", "parts"])
    monkeypatch.setattr(toy_engine.setup, "draw_seed", lambda: 99)
    toy_engine.run("train", [*config, "--extra_tag", "parts"])
    base = tmp_path / "output" / "toys" / "toy"
    assert final(base / "parts")["seed"] == 4321
    assert same(final(base / "parts"), final(base / "whole"))


def test_another_seed_gives_another_result(tmp_path: Path) -> None:
    """Guards the tests above: were everything constant, they would pass too."""
    first = final(train(tmp_path / "a"))
    toy_engine.run(
        "train", ["--cfg_file", str(toy_engine.write_config(tmp_path / "b")), "--workers", "0"]
    )
    second = final(tmp_path / "b" / "output" / "toys" / "toy" / "default")
    assert not same(first["model_state"], second["model_state"])


def test_kill_minus_nine(tmp_path: Path) -> None:
    """A real SIGKILL in mid-epoch, with loader workers, then the same command again; not beside the first one."""
    whole = final(train(tmp_path / "whole", "--ckpt_save_time_interval", "0"))
    command = [
        sys.executable,
        str(SCRIPT),
        "train",
        "--cfg_file",
        str(toy_engine.write_config(tmp_path / "parts")),
        "--fix_random_seed",
        "--workers",
        "1",
        "--ckpt_save_time_interval",
        "0",
    ]
    folder = tmp_path / "parts" / "output" / "toys" / "toy" / "default"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_STEP_SECONDS": "0.3"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "ckpt" / "latest_model.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    with pytest.raises(ConfigError, match="another training is running in it"):
        train(tmp_path / "parts", "--epochs", "1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "ckpt" / "checkpoint_epoch_3.pth").exists()
    train(tmp_path / "parts", "--ckpt_save_time_interval", "0")
    assert same(final(folder), whole)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    iterations = [record["it"] for record in records if record["kind"] == "train"]
    assert iterations == sorted(set(iterations))  # what was repeated is not recorded twice


def test_broken_newest_file_is_reported_and_the_one_before_taken(
    tmp_path: Path, capsys: Any
) -> None:
    folder = train(tmp_path)
    newest = folder / "ckpt" / "checkpoint_epoch_3.pth"
    before = final(folder)
    newest.write_bytes(newest.read_bytes()[:1000])
    train(tmp_path)
    assert "CHECKPOINT UNUSABLE" in capsys.readouterr().out
    assert same(final(folder), before)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = train(tmp_path, "--epochs", "1")
    (folder / "ckpt" / ".latest_model.pth.partial").write_bytes(b"half of it")
    train(tmp_path, "--epochs", "2")
    assert sorted(path.name for path in (folder / "ckpt").iterdir()) == [
        "checkpoint_epoch_1.pth",
        "checkpoint_epoch_2.pth",
    ]


def test_only_broken_files_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_epoch_1.pth").write_bytes(b"junk")
    (tmp_path / "latest_model.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the checkpoints there can be read"):
        files.find_newest(tmp_path, logging.getLogger("quiet"))


def test_newest_goes_by_progress_not_by_time(tmp_path: Path) -> None:
    def write(name: str, epoch: int, it: int, age_s: int) -> None:
        torch.save(
            {"epoch": epoch, "it": it, "model_state": {"w": torch.zeros(1)}}, tmp_path / name
        )
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))

    write("checkpoint_epoch_2.pth", 2, 20, age_s=0)
    write("checkpoint_epoch_10.pth", 10, 100, age_s=500)
    write("latest_model.pth", 9, 95, age_s=1)
    newest = files.find_newest(tmp_path, logging.getLogger("quiet"))
    assert newest is not None and newest.path.name == "checkpoint_epoch_10.pth"
    write("latest_model.pth", 10, 105, age_s=1000)
    newest = files.find_newest(tmp_path, logging.getLogger("quiet"))
    assert newest is not None and newest.path.name == "latest_model.pth"


def test_only_so_many_are_kept_and_the_last_is_always_written(tmp_path: Path) -> None:
    folder = train(tmp_path, "--epochs", "5", "--ckpt_save_interval", "3")
    assert sorted(path.name for path in (folder / "ckpt").iterdir()) == [
        "checkpoint_epoch_3.pth",
        "checkpoint_epoch_5.pth",
    ]
    train(tmp_path, "--epochs", "7", "--max_ckpt_save_num", "2")
    assert list(files.epoch_files(folder / "ckpt")) == [6, 7]
    assert (folder / "eval" / "eval_with_train" / "eval_list_val.txt").read_text().split() == [
        "5",
        "7",
    ]


def found(**state: object) -> FoundCheckpoint:
    """A checkpoint in the file ``f``."""
    return FoundCheckpoint(Path("f"), state)


def test_position_in_an_epoch_of_another_length() -> None:
    quiet = logging.getLogger("quiet")
    checkpoint = found(epoch=2, it=25, iterations_per_epoch=10)
    assert resume_iteration(checkpoint, 10, quiet) == 25
    assert resume_iteration(checkpoint, 5, quiet) == 10
    # OpenPCDet's own, written at the end of an epoch.
    assert resume_iteration(found(epoch=2, it=20), 10, quiet) == 20


def test_position_that_is_no_number() -> None:
    with pytest.raises(
        CheckpointError, match="f: expected whole numbers as 'epoch' and 'it', found 'two' and 20"
    ):
        resume_iteration(found(epoch="two", it=20), 10, logging.getLogger("quiet"))


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    torch.save({"model_state": toy_engine.ToyDetector().state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="--pretrained_model"):
        train(tmp_path, "--ckpt", str(tmp_path / "weights.pth"))
