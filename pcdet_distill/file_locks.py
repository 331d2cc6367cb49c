"""Locks between processes, on files: one process at a time, and a process that ended holds none.

The lock is the operating system's (``lockf``) and belongs to a process: a kill releases it, and
processes that it starts do not inherit it. Network file systems pass such locks on to other
machines. Where there are none (Windows, some file systems) everybody gets the lock.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from .errors import DataError

if sys.platform != "win32":
    import fcntl

# The files that this process has locked. The system would grant it the same lock twice, and drop
# it as soon as one of the two files is closed. They stay open even if a FileLock is forgotten.
_ours: dict[Path, TextIO] = {}
TAKEN = (errno.EACCES, errno.EAGAIN)


class FileLock:
    """The lock on one file, which exists only while some process holds or wants the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file: TextIO | None = None

    def take(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take the lock; False when another process holds it, or this one by another object.

        Args:
            shared: other processes may share it.
            wait: until other processes release it.

        Raises:
            OSError: the file cannot be written.
            DataError: something else than a lock file has its name.
        """
        if self.path in _ours:
            return False
        while True:
            file = _open(self.path)
            if not _lock(file, shared=shared, wait=wait):
                file.close()
                return False
            # Its last holder may have removed the file after it was opened here. Then this lock
            # protects nothing: another process can create the file and lock it as well.
            if _is_same_file(self.path, file):
                break
            file.close()
        self._file = file
        _ours[self.path] = file
        if not shared:
            _write_holder(file)
        return True

    def share(self) -> None:
        """From now on let others share the lock that this process holds alone."""
        assert self._file is not None, "the lock is not held"
        _lock(self._file, shared=True, wait=True)

    def release(self) -> None:
        """Give the lock back, if it is held, and remove its file."""
        if self._file is None:
            return
        # A file that others share must stay: a newcomer could lock a new one beside them.
        if _lock(self._file, shared=False, wait=False):
            with suppress(OSError):  # Windows removes no file that is open
                self.path.unlink()
        self._file.close()
        self._file = None
        _ours.pop(self.path, None)

    def holder(self) -> str:
        """Who took the lock, such as ``process 17 on node3``; ``another process`` if unknown."""
        try:
            return self.path.read_text().strip() or "another process"
        except OSError:
            return "another process"

    def __enter__(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.take(wait=True):
            raise RuntimeError(f"{self.path}: this process holds the lock already")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether some process, perhaps this one, holds the lock on a file."""
    path = path.absolute()
    if path in _ours:
        return True
    try:
        with path.open("r+") as file:
            return not _lock(file, shared=False, wait=False)
    except OSError:
        return False  # no file, so no lock


def _open(path: Path) -> TextIO:
    """Open the lock file, or make it.

    A link in its place is refused: somebody's file at its end would be emptied. A data set may
    come from anybody, with such a link in it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DataError(f"{path}: is a link, expected a lock file; remove it") from None
    opened = os.fstat(descriptor)
    if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
        os.close(descriptor)
        raise DataError(f"{path}: is another file's name or no file, expected a lock; remove it")
    return os.fdopen(descriptor, "a+")


def _lock(file: TextIO, *, shared: bool, wait: bool) -> bool:
    """Lock an open file; False when another process holds it."""
    if sys.platform == "win32":
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        # Any other error: a file system without locks.
        return error.errno not in TAKEN
    return True


def _is_same_file(path: Path, file: TextIO) -> bool:
    """Whether ``path`` still names the open ``file``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _write_holder(file: TextIO) -> None:
    """Say in the file who holds the lock; on a full disk it stays unsaid."""
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
