"""Claim files, by which several processes on one machine or many share the work of a study.

Claiming a run means creating a file for it in a shared folder. Its owner touches the file every
``TOUCH_SECONDS``. A claim has expired when it was not touched for ``STALE_SECONDS``, or when its
owner was a process of this machine that has ended; then another process may take the run over.
Ages are measured by the clock of the shared disk, because the clocks of the machines may differ.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no file locks of this kind
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 300.0
TOUCH_SECONDS = 20.0
Owner = dict[str, object]  # host and pid of the process, and what it added


class Claims:
    """The claims in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: set[Path] = set()

    def take(self, name: str, content: Mapping[str, object] | None = None) -> bool:
        """Claim ``name`` for this process; False when another process holds it.

        Args:
            content: written into the claim beside the owner, for other processes to read.
        """
        path = self._path(name)
        with exclusive(self.folder):
            if self._is_held(path):
                return False
            path.unlink(missing_ok=True)
            owner = {"host": socket.gethostname(), "pid": os.getpid(), **(content or {})}
            try:
                with path.open("x") as file:
                    json.dump(owner, file)
            except FileExistsError:  # a file system without locks: another process was faster
                return False
        self._held.add(path)
        return True

    def release(self, name: str) -> None:
        """Give ``name`` back."""
        path = self._path(name)
        self._held.discard(path)
        path.unlink(missing_ok=True)

    def held(self) -> dict[str, Owner]:
        """Every valid claim, of this and of other processes: name -> owner."""
        if not self.folder.is_dir():
            return {}
        owners = {}
        for path in sorted(self.folder.glob("*.json")):
            if self._is_held(path):
                owners[path.stem] = _read_owner(path)
        return owners

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Touch this process's claims while inside; release all of them at the end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._touch_until, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for path in list(self._held):
                self.release(path.stem)

    def _touch_until(self, stop: threading.Event) -> None:
        while not stop.wait(TOUCH_SECONDS):
            for path in list(self._held):
                with suppress(OSError):
                    os.utime(path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _is_held(self, path: Path) -> bool:
        """Whether a claim exists and has not expired."""
        try:
            age_s = _disk_time(self.folder) - path.stat().st_mtime
        except FileNotFoundError:
            return False
        owner = _read_owner(path)
        is_ours = owner.get("host") == socket.gethostname()
        if is_ours and not _is_running(owner.get("pid")):
            return False
        return age_s < STALE_SECONDS


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time inside, where the file system supports locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _disk_time(folder: Path) -> float:
    """The time by the clock of the disk that holds ``folder``: that of a file written now."""
    clock = folder / ".clock"
    clock.touch()
    return clock.stat().st_mtime


def _read_owner(path: Path) -> Owner:
    """The owner that a claim names; empty while the file is being written."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_running(pid: object) -> bool:
    """Whether this machine has a process of that number. Unknown counts as running."""
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)  # signal 0 only asks whether the process exists
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
