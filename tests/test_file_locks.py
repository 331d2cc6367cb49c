"""Locks between processes: exclusive, shared, given back by a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pcdet_distill.errors import DataError
from pcdet_distill.file_locks import FileLock, is_locked

HOLD = """
import sys
from pathlib import Path
from pcdet_distill.file_locks import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.take()
if sys.argv[2] == "shared":
    lock.share()
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@contextmanager
def held_elsewhere(path: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock while inside."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder


def test_one_process_at_a_time(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "a.lock")
    with held_elsewhere(lock.path) as holder:
        assert not lock.take()
        assert is_locked(lock.path)
        assert lock.holder().startswith(f"process {holder.pid} on ")
    assert not lock.path.exists()
    assert not is_locked(lock.path)
    assert lock.take()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_gives_the_lock_back(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "a.lock")
    with held_elsewhere(lock.path) as holder:
        holder.kill()
    assert lock.path.exists()
    assert not is_locked(lock.path)
    assert lock.take()
    lock.release()


def test_one_process_has_a_lock_once(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert first.take()
    assert is_locked(first.path)
    assert not second.take()
    second.release()  # it holds none, so nothing is given back
    assert is_locked(first.path)
    with pytest.raises(RuntimeError, match="holds the lock already"), second:
        pass
    first.release()
    with second:
        assert is_locked(first.path)


def test_waiting_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with held_elsewhere(path) as holder:
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLD.replace("take()", "take(wait=True)"), str(path), "alone"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with waiting:
            assert holder.stdin is not None and waiting.stdout is not None
            holder.stdin.close()
            assert waiting.stdout.readline() == "held\n"
            assert is_locked(path)


def test_a_shared_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    mine, alone = FileLock(path), FileLock(path)
    with held_elsewhere(path, "shared"):
        assert not mine.take()
        assert mine.take(shared=True)
        mine.release()  # the other one still needs the file
        assert path.exists()
        assert not alone.take()
    assert not path.exists()
    assert alone.take()
    alone.release()


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
def test_what_is_no_lock_file_is_not_emptied(tmp_path: Path, kind: str) -> None:
    """A data set of somebody else can hold a link in the place of the lock."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    lock = FileLock(tmp_path / "a.lock")
    if kind == "symbolic link":
        lock.path.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, lock.path)
    else:
        os.mkfifo(lock.path)
    with pytest.raises(DataError, match="a.lock: is a.* remove it"):
        lock.take()
    assert precious.read_text() == "precious"


def test_a_link_to_nothing_makes_no_file(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "a.lock")
    lock.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a.lock: is a link"):
        lock.take()
    assert not (tmp_path / "elsewhere").exists()
