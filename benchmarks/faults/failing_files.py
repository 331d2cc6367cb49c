"""A disk that fails in the middle: from some write on, files of one folder refuse with an error.

No real disk is broken. In a child process Python's ``open``, ``os.fsync``, ``os.replace`` and
``os.mkdir`` are replaced, through which everything here is written (``torch.save`` too), and
``numpy.fromfile``, which reads point clouds.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class FailingDisk:
    """Errors for the files of some folders.

    Attributes:
        folders: whose files are on the disk that fails.
        first: number of the operation that fails first, from 1: a file is opened, renamed or
            flushed to the disk, or a folder is made. For ``reads``, a file that is read.
        code: of the error, such as ``errno.EIO``.
        lasting: whether everything after it fails too.
        in_write: the operation passes, and the first write after it fails.
        reads: whether point clouds fail to be read, in place of writes.
        count_file: receives the number of operations so far, for an undisturbed run.
    """

    folders: tuple[Path, ...]
    first: int
    code: int = errno.EIO
    lasting: bool = True
    in_write: bool = False
    reads: bool = False
    count_file: Path | None = None
    done: int = field(default=0, init=False)
    failed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._open = builtins.open

    def install(self) -> None:
        """Break the disk, in this process and for good."""
        if self.reads:
            np.fromfile = self._around(np.fromfile)  # type: ignore[assignment]
            return
        builtins.open = io.open = self._open_file  # type: ignore[assignment]
        os.replace = self._around(os.replace)  # type: ignore[assignment]
        os.mkdir = self._around(os.mkdir)  # type: ignore[assignment]
        os.fsync = self._fsync  # type: ignore[assignment]

    def operation(self, path: object) -> None:
        """Count an operation on ``path``, and let it fail if it is time."""
        if not self._is_here(path):
            return
        self.done += 1
        if self.count_file is not None:
            with self._open(self.count_file, "w") as file:
                file.write(str(self.done))
        if not (self.in_write and self.done == self.first):
            self.fail_if_due(path)

    def fail_if_due(self, path: object) -> None:
        """Raise the error, once or from now on."""
        is_due = self.done >= self.first if self.lasting else self.done == self.first
        if is_due and (self.lasting or not self.failed):
            self.failed = True
            raise OSError(self.code, os.strerror(self.code), str(path))

    def _is_here(self, path: object) -> bool:
        """Whether a path (not the number of an open file) lies in one of the folders."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        place = os.path.abspath(path) + os.sep
        return any(place.startswith(f"{folder}{os.sep}") for folder in self.folders)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose first argument is a path, and which may fail."""

        def failing(path: Any, *rest: Any, **named: Any) -> Any:
            self.operation(path)
            return function(path, *rest, **named)

        return failing

    def _fsync(self, number: int) -> None:
        """``os.fsync``, where a disk reports what it could not write before."""
        self.operation(os.readlink(f"/proc/self/fd/{number}"))

    def _open_file(self, file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        """``open`` that gives files whose writes may fail."""
        writes = any(letter in mode for letter in "wax+")
        if not writes or not self._is_here(file):
            return self._open(file, mode, *rest, **named)
        self.operation(file)
        raw = FailingFile(self, os.fspath(file), mode.replace("b", "").replace("t", ""))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, named.get("encoding"), line_buffering=True)


class FailingFile(io.FileIO):
    """A file on such a disk."""

    def __init__(self, disk: FailingDisk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, data: Any) -> int:
        self._disk.fail_if_due(self.name)
        return super().write(data)
