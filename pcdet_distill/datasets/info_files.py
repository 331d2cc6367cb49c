"""How info files and object databases are made: frame by frame, by several processes, whole.

Everything is written to a staging folder first and moved into place at the end. So an interrupted
run leaves the old files as they were. One process at a time may prepare a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tqdm import tqdm

from ..errors import DataError
from ..file_locks import FileLock

STAGING = ".create_data_unfinished"
LOCK = ".create_data.lock"
Info: TypeAlias = dict[str, Any]
Frame = TypeVar("Frame")  # a frame's name, or what else a task needs of it
Result = TypeVar("Result")


@contextmanager
def frame_results(
    task: Callable[[Frame], Result], frames: Sequence[Frame], workers: int
) -> Iterator[Iterator[Result]]:
    """The results of ``task`` for every frame, in order, from this process or several."""
    if workers <= 1 or len(frames) < 2:
        yield map(task, frames)
        return
    # Some frames at once save messages between processes; four parts each keep all of them busy.
    chunk = max(1, min(16, len(frames) // (4 * workers)))
    with ProcessPoolExecutor(min(workers, len(frames)), initializer=_use_one_thread) as pool:
        try:
            yield pool.map(task, frames, chunksize=chunk)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def collect_infos(
    task: Callable[[Frame], tuple[Info, list[Info]]],
    frames: Sequence[Frame],
    split: str,
    *,
    workers: int,
    show_progress: bool,
) -> tuple[list[Info], dict[str, list[Info]]]:
    """The infos of a split in the order of its frames, and its objects by class.

    Args:
        task: gives the info of a frame and the database entries of its objects.
        split: name of the split, for the progress bar.
    """
    infos: list[Info] = []
    objects: dict[str, list[Info]] = {}
    hidden = None if show_progress else True  # None: shown on a terminal only
    title = f"infos of {split}"
    with frame_results(task, frames, workers) as results:
        for info, frame_objects in tqdm(
            results, total=len(frames), desc=title, unit="frame", disable=hidden
        ):
            infos.append(info)
            for entry in frame_objects:
                objects.setdefault(entry["name"], []).append(entry)
    return infos, objects


def _use_one_thread() -> None:
    """Several processes of several threads each would compete for the same cores."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def staging_folder(root: Path, name: str = STAGING) -> Iterator[Path]:
    """An empty folder inside ``root`` that is removed afterwards, also after an error.

    No other process may prepare ``root`` in the meantime.
    """
    staging = root / name
    with preparing(root):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
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


def publish(staging: Path, root: Path) -> None:
    """Move everything into place. An older database is removed with the staging folder."""
    finished = sorted(staging.iterdir())
    for path in finished:
        older = root / path.name
        if older.is_dir():
            os.replace(older, staging / f"older_{path.name}")
    for path in finished:
        os.replace(path, root / path.name)
