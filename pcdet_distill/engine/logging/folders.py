"""Folders and files of a run: created, or refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ConfigError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full or vanished disk is one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None


def make_folder(folder: Path) -> Path:
    """Create ``folder``, or say in one sentence why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from None
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Raise ConfigError when ``folder`` could not be made or written. Creates nothing."""
    existing = next(
        path for path in (folder, *folder.parents) if path.exists() or path.is_symlink()
    )
    if not existing.is_dir():
        raise _unwritable(folder, f"'{existing}' is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"no permission to write in '{existing}'")


def _unwritable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"output folder '{folder}' cannot be written: {reason}; expected a folder you may write in"
    )
