"""A training that is interrupted and resumed ends as one that ran through, to the last bit.

Weights, optimizer and random states are compared.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy_engine
from interruptions import Killed, identical, kill_after

from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.engine import loop
from pcdet_distill.engine.checkpoints import FoundCheckpoint, files, resume_iteration
from pcdet_distill.engine.logging import LogValues, Progress
from pcdet_distill.engine.loop import Trainer
from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.models.trainable import CheckpointState
from pcdet_distill.types import BatchDict

pytestmark = pytest.mark.usefixtures("toys")
QUIET = logging.getLogger("quiet")
SAVE_ALWAYS = ["--ckpt_save_time_interval", "0"]


def train(folder: Path, *arguments: str) -> Path:
    """Train the toy with seed 666; returns its output folder."""
    common = ["--fix_random_seed", "--logger_iter_interval", "1"]
    return toy_engine.train_toy(folder, *common, *arguments)


def last_checkpoint(output: Path) -> CheckpointState:
    """The checkpoint of the third epoch."""
    return load_checkpoint(output / "ckpt" / "checkpoint_epoch_3.pth")


def checkpoint_names(output: Path) -> list[str]:
    """The files in the folder of checkpoints."""
    return sorted(path.name for path in (output / "ckpt").iterdir())


# --- Interrupted and resumed


@pytest.mark.parametrize("iterations", [1, 3, 5, 8])
@pytest.mark.parametrize(
    "extra", [[], ["--merge_all_iters_to_one_epoch"]], ids=["epochs", "merged"]
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iterations: int, extra: list[str]
) -> None:
    whole = last_checkpoint(train(tmp_path / "whole", *SAVE_ALWAYS, *extra))
    with monkeypatch.context() as patch:
        kill_after(patch, iterations)
        with pytest.raises(Killed):
            train(tmp_path / "parts", *SAVE_ALWAYS, *extra)
    resumed = last_checkpoint(train(tmp_path / "parts", *SAVE_ALWAYS, *extra))
    assert identical(resumed, whole)


def test_a_random_seed_is_kept_when_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --fix_random_seed the seed comes from the checkpoint, and with it the data order."""
    monkeypatch.setattr(toy_engine.setup, "draw_seed", lambda: 4321)
    toy_engine.train_toy(tmp_path, *SAVE_ALWAYS, "--extra_tag", "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, 4)
        with pytest.raises(Killed):
            toy_engine.train_toy(tmp_path, *SAVE_ALWAYS, "--extra_tag", "parts")
    monkeypatch.setattr(toy_engine.setup, "draw_seed", lambda: 99)
    toy_engine.train_toy(tmp_path, *SAVE_ALWAYS, "--extra_tag", "parts")
    resumed = last_checkpoint(toy_engine.output_of(tmp_path, "parts"))
    assert resumed["seed"] == 4321
    assert identical(resumed, last_checkpoint(toy_engine.output_of(tmp_path, "whole")))


def test_another_seed_gives_another_result(tmp_path: Path) -> None:
    """Guards the tests above: if nothing were random, they would pass too."""
    first = last_checkpoint(train(tmp_path / "a"))
    second = last_checkpoint(toy_engine.train_toy(tmp_path / "b"))
    assert not identical(first["model_state"], second["model_state"])


def wait_until_it_exists(path: Path) -> None:
    """Wait for a file, but not longer than a minute."""
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_kill_minus_nine(tmp_path: Path) -> None:
    """A real SIGKILL within an epoch, with loader workers, then the same command again.

    While the first process runs, a second one is refused.
    """
    whole = last_checkpoint(train(tmp_path / "whole", *SAVE_ALWAYS))
    config = toy_engine.write_config(tmp_path / "parts")
    output = toy_engine.output_of(tmp_path / "parts")
    command = [sys.executable, toy_engine.__file__, "train", "--cfg_file", str(config)]
    command += ["--fix_random_seed", "--workers", "1", *SAVE_ALWAYS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOY_STEP_SECONDS": "0.3"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    wait_until_it_exists(output / "ckpt" / "latest_model.pth")
    time.sleep(0.5)
    with pytest.raises(ConfigError, match="another training is running in it"):
        train(tmp_path / "parts", "--epochs", "1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "ckpt" / "checkpoint_epoch_3.pth").exists()

    train(tmp_path / "parts", *SAVE_ALWAYS)
    assert identical(last_checkpoint(output), whole)
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    iterations = [record["it"] for record in records if record["kind"] == "train"]
    # What was repeated is not recorded twice.
    assert iterations == sorted(set(iterations))


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_kill_before_an_epochs_own_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """Only latest_model.pth has seen the end of the epoch: the resumed training writes the file."""
    whole = train(tmp_path / "whole", *SAVE_ALWAYS)
    save = Trainer.save
    name = f"checkpoint_epoch_{epoch}.pth"

    def save_or_die(trainer: Trainer, path: Path, progress: Progress) -> None:
        if path.name == name:
            raise Killed
        save(trainer, path, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_or_die)
        with pytest.raises(Killed):
            train(tmp_path / "parts", *SAVE_ALWAYS)
    resumed = train(tmp_path / "parts", *SAVE_ALWAYS)
    assert checkpoint_names(resumed) == checkpoint_names(whole)
    written, expected = resumed / "ckpt" / name, whole / "ckpt" / name
    assert identical(load_checkpoint(written), load_checkpoint(expected))
    assert list(resumed.rglob("metrics.json"))


# --- When and which checkpoints are written


def seconds_of_latest_checkpoints(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, step_seconds: int, interval: str
) -> list[int]:
    """Train 24 steps in 2 epochs; returns the seconds at which latest_model.pth was saved."""
    seconds = 0
    saved_at: list[int] = []
    save = Trainer.save
    train_step = Trainer.train_step

    def slow_step(trainer: Trainer, batch: BatchDict) -> tuple[LogValues, list[str]]:
        nonlocal seconds
        seconds += step_seconds
        return train_step(trainer, batch)

    def noted_save(trainer: Trainer, path: Path, progress: Progress) -> None:
        if path.name == "latest_model.pth":
            saved_at.append(seconds)
        save(trainer, path, progress)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr(Trainer, "train_step", slow_step)
    monkeypatch.setattr(Trainer, "save", noted_save)
    train(folder, "--batch_size", "1", "--epochs", "2", "--ckpt_save_time_interval", interval)
    return saved_at


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        # Due first after 60 s. At 300 s an epoch ends, which saves a checkpoint and sets the clock.
        ("100", [75, 175, 275, 400, 500, 600]),
        ("300", [75, 600]),
        ("30", list(range(50, 601, 50))),
    ],
)
def test_the_first_checkpoint_within_an_epoch_comes_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: str, expected: list[int]
) -> None:
    saved_at = seconds_of_latest_checkpoints(
        monkeypatch, tmp_path, step_seconds=25, interval=interval
    )
    assert saved_at == expected


def test_a_broken_newest_file_is_reported_and_the_one_before_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = train(tmp_path)
    newest = output / "ckpt" / "checkpoint_epoch_3.pth"
    before = last_checkpoint(output)
    newest.write_bytes(newest.read_bytes()[:1000])
    train(tmp_path)
    assert "CHECKPOINT UNUSABLE" in capsys.readouterr().out
    assert identical(last_checkpoint(output), before)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    output = train(tmp_path, "--epochs", "1")
    (output / "ckpt" / ".latest_model.pth.partial").write_bytes(b"half of it")
    train(tmp_path, "--epochs", "2")
    assert checkpoint_names(output) == ["checkpoint_epoch_1.pth", "checkpoint_epoch_2.pth"]


def test_only_broken_files_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_epoch_1.pth").write_bytes(b"junk")
    (tmp_path / "latest_model.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the checkpoints there can be read"):
        files.find_newest(tmp_path, QUIET)


def write_checkpoint(path: Path, *, epoch: int, it: int, age_s: int) -> None:
    """A small checkpoint that looks as if it had been written ``age_s`` seconds ago."""
    state = {"epoch": epoch, "it": it, "model_state": {"w": torch.zeros(1)}}
    torch.save(state, path)
    written_at = 1e9 - age_s
    os.utime(path, (written_at, written_at))


def newest_name(folder: Path) -> str:
    """The name of the checkpoint that a training would resume."""
    newest = files.find_newest(folder, QUIET)
    assert newest is not None
    return newest.path.name


def test_newest_goes_by_progress_not_by_time(tmp_path: Path) -> None:
    latest = tmp_path / "latest_model.pth"
    write_checkpoint(tmp_path / "checkpoint_epoch_2.pth", epoch=2, it=20, age_s=0)
    write_checkpoint(tmp_path / "checkpoint_epoch_10.pth", epoch=10, it=100, age_s=500)
    write_checkpoint(latest, epoch=9, it=95, age_s=1)
    assert newest_name(tmp_path) == "checkpoint_epoch_10.pth"
    write_checkpoint(latest, epoch=10, it=105, age_s=1000)
    assert newest_name(tmp_path) == "latest_model.pth"


def test_a_limited_number_is_kept_and_the_last_is_always_written(tmp_path: Path) -> None:
    output = train(tmp_path, "--epochs", "5", "--ckpt_save_interval", "3")
    assert checkpoint_names(output) == ["checkpoint_epoch_3.pth", "checkpoint_epoch_5.pth"]
    train(tmp_path, "--epochs", "7", "--max_ckpt_save_num", "2")
    assert list(files.epoch_files(output / "ckpt")) == [6, 7]
    evaluated = output / "eval" / "eval_with_train" / "eval_list_val.txt"
    assert evaluated.read_text().split() == ["5", "7"]


# --- The iteration to go on from


def found(**state: object) -> FoundCheckpoint:
    """A checkpoint in the file ``f``."""
    return FoundCheckpoint(Path("f"), state)


def test_an_epoch_of_another_length_starts_from_its_beginning() -> None:
    checkpoint = found(epoch=2, it=25, iterations_per_epoch=10)
    assert resume_iteration(checkpoint, 10, QUIET) == 25
    # Two epochs of five iterations were complete.
    assert resume_iteration(checkpoint, 5, QUIET) == 10


def test_a_checkpoint_of_openpcdet_is_from_the_end_of_an_epoch() -> None:
    assert resume_iteration(found(epoch=2, it=20), 10, QUIET) == 20


def test_an_epoch_that_is_no_number() -> None:
    message = "f: expected whole numbers as 'epoch' and 'it', found 'two' and 20"
    with pytest.raises(CheckpointError, match=message):
        resume_iteration(found(epoch="two", it=20), 10, QUIET)


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"model_state": toy_engine.ToyDetector().state_dict()}, weights)
    with pytest.raises(CheckpointError, match="--pretrained_model"):
        train(tmp_path, "--ckpt", str(weights))
