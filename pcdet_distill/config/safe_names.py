"""Names that stand in files of data, and the folder that they may not lead out of."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from ..errors import DataError


def inside(root: str | Path, name: str | Path, where: str | Path) -> Path:
    """The file that ``name`` names in the folder ``root``, never one outside of it.

    Frame ids and paths come from info files, split files and tables, which anybody may have
    written. So ``..``, absolute paths and symbolic links that lead out of ``root`` are refused.
    ``root`` itself may be a link, as a folder of data often is, and so may the folders in it, such
    as ``samples``: they are known by their names. What lies deeper may not lead out of them.

    Args:
        root: the folder.
        name: relative to ``root``.
        where: who names the file, for the error.
    """
    text = str(name)
    path = os.path.normpath(os.path.join(root, text))
    if "\0" in text or not _is_below(path, os.path.normpath(root)) or _leads_out(path, root):
        raise DataError(f"{where}: {_shown(text)} is not the name of a file inside {root}")
    check_regular(path)
    return Path(path)


def check_regular(path: str | Path) -> None:
    """Refuse a pipe, socket or device, from which reading may never end; other files pass."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # whoever opens it says what is wrong
    except ValueError:
        raise DataError(f"{path}: no file can have this name") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path}: is no regular file (a pipe or a device)")


def _is_below(path: str, root: str) -> bool:
    """Whether ``path`` begins with ``root``; both are normalised."""
    if root == os.curdir:
        return path not in (os.curdir, os.pardir) and not path.startswith((os.sep, "../"))
    prefix = root.rstrip(os.sep) + os.sep
    return path.startswith(prefix) and len(path) > len(prefix)


def _leads_out(path: str, root: str | Path) -> bool:
    """Whether links lead ``path`` out of ``root`` and out of the folder of ``root`` that it names.

    Folders are resolved once: an object database has ten thousand files in one folder.
    """
    target = os.path.join(_real_folder(os.path.dirname(path)), os.path.basename(path))
    if os.path.islink(target):
        target = os.path.realpath(target)
    first_folder = os.path.relpath(path, root).split(os.sep)[0]
    homes = (_real_folder(str(root)), _real_folder(os.path.join(root, first_folder)))
    return not any(_is_below(target, home) for home in homes)


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _shown(text: str) -> str:
    """A name in a message, cut when it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
