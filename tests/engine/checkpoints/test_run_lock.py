"""One training in an output folder at a time, and no lock file left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest
import toy_engine

from pcdet_distill import file_locks
from pcdet_distill.engine import train
from pcdet_distill.engine.checkpoints.run_lock import exclusive_folder
from pcdet_distill.engine.run import Run
from pcdet_distill.errors import ConfigError

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from pcdet_distill.engine.checkpoints.run_lock import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ConfigError, match="another training is running in it"),
        exclusive_folder(tmp_path),
    ):
        pass
    assert (tmp_path / ".lock").exists()
    holder.kill()
    holder.wait()
    # A kill leaves the file, but not the lock.
    with exclusive_folder(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_errors_inside_are_passed_on_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), exclusive_folder(tmp_path):
        raise FileNotFoundError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_removed_by_its_last_holder_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = file_locks._lock
    locked_files = []

    def lock_after_removal(file: TextIO, **how: bool) -> bool:
        if not locked_files:
            (tmp_path / ".lock").unlink()
        locked_files.append(file)
        return lock(file, **how)

    monkeypatch.setattr(file_locks, "_lock", lock_after_removal)
    with exclusive_folder(tmp_path):
        assert len(locked_files) == 2
        assert (tmp_path / ".lock").exists()


@pytest.mark.usefixtures("toys")
def test_checkpoints_written_while_a_training_starts_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training may end between the choice of a checkpoint and the lock."""
    build = train.build_trainer

    def build_while_another_trains(run: Run) -> object:
        trainer = build(run)
        with monkeypatch.context() as patch:
            patch.setattr(train, "build_trainer", build)
            toy_engine.train_toy(tmp_path, "--epochs", "1")
        return trainer

    monkeypatch.setattr(train, "build_trainer", build_while_another_trains)
    with pytest.raises(ConfigError, match="another training wrote checkpoints there"):
        toy_engine.train_toy(tmp_path, "--epochs", "1")
