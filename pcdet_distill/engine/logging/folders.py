"""Output folders and files: created, or refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ConfigError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None


def make_folder(folder: Path) -> Path:
    """Create ``folder`` and return it. Raises a ConfigError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from None
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Raise a ConfigError when ``folder`` could not be created or written. Creates nothing."""
    existing = folder
    while not (existing.exists() or existing.is_symlink()):
        existing = existing.parent
    if not existing.is_dir():
        raise _unwritable(folder, f"'{existing}' is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"no permission to write in '{existing}'")


def _unwritable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"output folder '{folder}' cannot be written: {reason}; expected a folder you may write in"
    )
