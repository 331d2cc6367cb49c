"""Who does what: claim files that several processes, on one machine or many, share in the study's folder.

A claim is a file that its owner touches now and then. One that has not been touched for long, or whose process on this
machine is gone, is nobody's: its owner was killed, and another may take over. Ages are read off the shared disk's own
clock, so that machines may disagree about the time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: goes without
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 300.0
TOUCH_SECONDS = 20.0


class Claims:
    """The claims in one folder. ``holding()`` keeps this process's own alive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: set[Path] = set()

    def take(self, name: str, content: dict[str, Any] | None = None) -> bool:
        """Claim ``name`` for this process; False when another has it."""
        path = self._path(name)
        with exclusive(self.folder):
            if self._is_alive(path):
                return False
            path.unlink(missing_ok=True)
            owner = {"host": socket.gethostname(), "pid": os.getpid(), **(content or {})}
            try:
                with path.open("x") as file:
                    json.dump(owner, file)
            except FileExistsError:  # on a disk without locks
                return False
        self._own.add(path)
        return True

    def release(self, name: str) -> None:
        """Give ``name`` back."""
        self._own.discard(self._path(name))
        self._path(name).unlink(missing_ok=True)

    def alive(self) -> dict[str, dict[str, Any]]:
        """What is claimed by processes that are at work, by name."""
        if not self.folder.is_dir():
            return {}
        return {
            path.stem: _read(path)
            for path in sorted(self.folder.glob("*.json"))
            if self._is_alive(path)
        }

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Touch this process's claims while inside; give them all back at the end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._keep_alive, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for path in list(self._own):
                self.release(path.stem)

    def _keep_alive(self, stop: threading.Event) -> None:
        while not stop.wait(TOUCH_SECONDS):
            for path in list(self._own):
                with suppress(OSError):
                    os.utime(path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _is_alive(self, path: Path) -> bool:
        """Whether the owner of a claim still works."""
        try:
            age = _now(self.folder) - path.stat().st_mtime
        except FileNotFoundError:
            return False
        owner = _read(path)
        if owner.get("host") == socket.gethostname() and not _is_running(owner.get("pid")):
            return False
        return age < STALE_SECONDS


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Only one process at a time is inside, as far as the disk knows of locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _now(folder: Path) -> float:
    """The time by the clock of the disk that holds ``folder``."""
    clock = folder / ".clock"
    clock.touch()
    return clock.stat().st_mtime


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing while it is being written."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_running(pid: Any) -> bool:
    """Whether this machine has a process of that number."""
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
