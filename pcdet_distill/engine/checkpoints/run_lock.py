"""One training for one output folder: two would overwrite each other's checkpoints and resume from each other's.

The lock is the operating system's and belongs to a process: a kill releases it, and data workers do not inherit it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ...errors import ConfigError
from ..logging import make_folder, writing

try:
    import fcntl
except ImportError:  # Windows: goes without
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Hold ``folder`` while inside; a ConfigError when another process holds it. Nothing stays behind."""
    path = make_folder(folder) / ".lock"
    while True:
        with writing(path):
            file = path.open("a")
        with file:
            _lock(file, folder)
            if not _is_still(path, file):  # its last holder removed it after it was opened here
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that is open
                    path.unlink()
            return


def _lock(file: IO[Any], folder: Path) -> None:
    """Take the lock of ``file``, or say that another process has it."""
    if fcntl is None:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise ConfigError(
            f"output folder '{folder}': another training is running in it; wait for its end or choose "
            "another --extra_tag"
        ) from None
    except OSError:  # a file system without locks
        pass


def _is_still(path: Path, file: IO[Any]) -> bool:
    """Whether ``path`` names the open ``file``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
