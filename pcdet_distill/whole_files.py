"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def whole_file(path: Path, partial_name: str | None = None) -> Iterator[Path]:
    """Give another path in the folder of ``path`` to write to, and rename it at the end.

    Renaming is atomic: other processes see the old file or the new one, never half of one. The
    unfinished file is deleted when the ``with`` block is left by an error or an interrupt.

    Args:
        path: the file.
        partial_name: its name while it is written; by default one that differs between processes.

    Raises:
        UserError: ``path`` is a device or a pipe: renaming would put a file in its place.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: a device or a pipe, which would be replaced; expected a file")
    partial = path.with_name(partial_name or f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError):
            _name_file(error, partial, path)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _name_file(error: OSError, partial: Path, path: Path) -> None:
    """Say which file could not be written: a full disk does not.

    An error without a number is left alone. Python shows its words only without a file name.
    """
    if error.errno is not None and error.filename in (None, str(partial)):
        error.filename = str(path)
