"""The locks of a study's processes, on one machine or on several with a shared disk.

A process holds the lock of each run that it works on. The lock is the operating system's: it is
free again as soon as the process has ended, however that happened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...config import to_plain
from ...errors import ConfigError
from ...file_locks import FileLock, is_locked
from ...whole_files import whole_file
from .plan import StudyPlan


class Locks:
    """The locks in one folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, FileLock] = {}

    def take(self, name: str) -> bool:
        """Take a lock; False when it is held already, by this process or another one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._path(name))
        if not lock.take():
            return False
        self._held[name] = lock
        return True

    def release(self, name: str) -> None:
        """Give a lock back, if it is held."""
        lock = self._held.pop(name, None)
        if lock is not None:
            lock.release()

    def release_all(self) -> None:
        """Give all locks back."""
        for name in list(self._held):
            self.release(name)

    def is_taken(self, name: str) -> bool:
        """Whether some process holds a lock, perhaps this one."""
        return is_locked(self._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lock"


@contextmanager
def same_version_only(plan: StudyPlan, folder: Path) -> Iterator[None]:
    """Let other processes work on the very same study; refuse to join one with another yaml.

    All of them share a lock. Who finds it free writes down the version that all others must have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = fingerprint(plan)
    lock = FileLock(folder / "work.lock")
    file = folder / "version.json"
    if lock.take():
        with whole_file(file) as part:
            part.write_text(json.dumps({"study": version, "by": lock.holder()}))
        lock.share()
    else:
        lock.take(shared=True, wait=True)
        first = json.loads(file.read_text())
        if first["study"] != version:
            lock.release()
            raise ConfigError(
                f"{plan.folder}: {first['by']} began to work there on another version of this "
                "study; wait for its end, or give this one another NAME"
            )
    try:
        yield
    finally:
        lock.release()


def fingerprint(plan: StudyPlan) -> str:
    """A short hash of everything that a study's yaml decides."""
    spec = {
        "rows": {name: to_plain(config) for name, config in plan.configs.items()},
        "study": repr((plan.spec.rows, plan.spec.data, plan.spec.evaluate, plan.spec.cost)),
    }
    text = json.dumps(spec, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
