"""One training per output folder, and nothing left of the lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pcdet_distill.engine.checkpoints.run_lock import exclusive_folder
from pcdet_distill.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from pcdet_distill.engine.checkpoints.run_lock import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ConfigError, match="another training is running in it"),
        exclusive_folder(tmp_path),
    ):
        pass
    assert (tmp_path / ".lock").exists()
    holder.kill()
    holder.wait()
    with exclusive_folder(tmp_path):  # a kill leaves the file, not the lock
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_errors_inside_keep_their_own_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), exclusive_folder(tmp_path):
        raise FileNotFoundError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_removed_by_its_last_holder_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcdet_distill.engine.checkpoints import run_lock

    lock, taken = run_lock._lock, []

    def lock_after_removal(file, folder: Path) -> None:
        if not taken:
            (folder / ".lock").unlink()
        taken.append(file)
        lock(file, folder)

    monkeypatch.setattr(run_lock, "_lock", lock_after_removal)
    with exclusive_folder(tmp_path):
        assert len(taken) == 2 and (tmp_path / ".lock").exists()
