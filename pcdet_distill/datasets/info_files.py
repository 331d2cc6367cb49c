"""How info files and object databases are made: frame by frame, by an engine, whole.

Everything is written to a staging folder first and moved into place at the end. So an interrupted
run leaves the old files as they were. One process at a time may prepare a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tqdm import tqdm

from ..errors import DataError
from ..file_locks import FileLock
from ..parallel import Workers, as_engine
from .parts import Merge, Part

STAGING = ".create_data_unfinished"
LOCK = ".create_data.lock"
Info: TypeAlias = dict[str, Any]
Frame = TypeVar("Frame")  # a frame's name, or what else a task needs of it


def collect_infos(
    task: Callable[[Frame], tuple[Info, list[Info]]],
    frames: Sequence[Frame],
    split: str,
    *,
    workers: Workers,
    show_progress: bool,
) -> tuple[list[Info], dict[str, list[Info]]]:
    """The infos of a split in the order of its frames, and its objects by class.

    Args:
        task: gives the info of a frame and the database entries of its objects.
        split: name of the split, for the progress bar.
        workers: processes, or the engine that works on the frames.
    """
    infos: list[Info] = []
    objects: dict[str, list[Info]] = {}
    hidden = None if show_progress else True  # None: shown on a terminal only
    title = f"infos of {split}"
    with as_engine(workers).results(task, frames) as results:
        for info, frame_objects in tqdm(
            results, total=len(frames), desc=title, unit="frame", disable=hidden
        ):
            infos.append(info)
            for entry in frame_objects:
                objects.setdefault(entry["name"], []).append(entry)
    return infos, objects


@contextmanager
def staging_folder(root: Path, workers: Workers = 1, name: str = STAGING) -> Iterator[Path]:
    """An empty folder inside ``root`` that is removed afterwards, also after an error.

    No other process may prepare ``root`` in the meantime. A part of the work has its own folder.
    """
    if isinstance(workers, Part):
        with workers.staging_folder(root) as staging:
            yield staging
        return
    staging = root / name
    with preparing(root):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            if isinstance(workers, Merge):
                workers.open(root, staging)
            yield staging
        except OSError as error:
            raise DataError(f"{root}: cannot be written: {error}") from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def preparing(root: Path, lock_file: Path | None = None) -> Iterator[None]:
    """Lock a data set while it is prepared; a DataError when another process prepares it.

    Args:
        lock_file: of a folder that does not exist yet; by default one inside ``root``.
    """
    lock = FileLock(lock_file or root / LOCK)
    try:
        is_ours = lock.take()
    except OSError as error:
        raise DataError(f"{root}: cannot be written: {error}") from None
    if not is_ours:
        raise DataError(
            f"{root}: {lock.holder()} prepares this folder at the moment; wait for its end"
        )
    try:
        yield
    finally:
        lock.release()


def publish(staging: Path, root: Path, workers: Workers = 1) -> None:
    """Move everything into place. An older database is removed with the staging folder.

    Raises:
        PartIsReady: ``workers`` does one part of the work.
    """
    if isinstance(workers, Part):
        workers.finish(staging)
    finished = sorted(staging.iterdir())
    for path in finished:
        older = root / path.name
        if older.is_dir():
            os.replace(older, staging / f"older_{path.name}")
    for path in finished:
        os.replace(path, root / path.name)
    if isinstance(workers, Merge):
        workers.finish()
