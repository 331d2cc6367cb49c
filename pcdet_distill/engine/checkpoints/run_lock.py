"""One training at a time in an output folder.

Two would overwrite each other's checkpoints and resume from each other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ConfigError
from ...file_locks import FileLock
from ..logging import make_folder, writing


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder`` while inside, and remove the lock file afterwards.

    Raises a ConfigError when another process has locked the folder.
    """
    lock = FileLock(make_folder(folder) / ".lock")
    with writing(lock.path):
        is_ours = lock.take()
    if not is_ours:
        raise ConfigError(
            f"output folder '{folder}': another training is running in it; "
            "wait for its end or choose another --extra_tag"
        )
    try:
        yield
    finally:
        lock.release()
