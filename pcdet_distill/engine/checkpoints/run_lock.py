"""One training at a time in an output folder.

Two would overwrite each other's checkpoints and resume from each other's. The lock is the operating
system's and belongs to a process: a kill releases it, and data workers do not inherit it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ...errors import ConfigError
from ..logging import make_folder, writing

if sys.platform != "win32":
    import fcntl


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder`` while inside, and remove the lock file afterwards.

    Raises a ConfigError when another process has locked the folder.
    """
    path = make_folder(folder) / ".lock"
    while True:
        with writing(path):
            file = path.open("a")
        with file:
            _lock(file, folder)
            # The last holder may have removed the file after it was opened here. Then this lock
            # protects nothing: another process can create the file and lock it as well.
            if not _is_same_file(path, file):
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that is open
                    path.unlink()
            return


def _lock(file: TextIO, folder: Path) -> None:
    """Lock ``file`` without waiting."""
    if sys.platform == "win32":
        return  # it has no such locks, and trains without
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise ConfigError(
            f"output folder '{folder}': another training is running in it; "
            "wait for its end or choose another --extra_tag"
        ) from None
    except OSError:  # a file system without locks
        pass


def _is_same_file(path: Path, file: TextIO) -> bool:
    """Whether ``path`` still names the open ``file``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
