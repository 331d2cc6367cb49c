"""One training for one output folder: two would overwrite each other's checkpoints and resume from each other's.

The lock is the operating system's and belongs to a process: a kill releases it, and data workers do not inherit it.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError
from .logging import make_folder, writing

try:
    import fcntl
except ImportError:      # Windows: goes without
    fcntl = None  # type: ignore[assignment]


@contextmanager
def folder_to_itself(folder: Path) -> Iterator[None]:
    """Hold ``folder`` while inside; a ConfigError when another process holds it."""
    path = make_folder(folder) / ".lock"
    with writing(path), path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise ConfigError(f"output folder '{folder}': another training is running in it; wait for its end or "
                                  "choose another --extra_tag") from None
            except OSError:      # a file system without locks
                pass
        yield
