"""Simulated folders made in parts by several commands (``--shard``), and finished by a last one.

A frame, or a scene, is written whole and depends on the seed and its number alone. So a part keeps
nothing of its own: it writes its frames into the folder, and the last command looks whether all are
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ...errors import DataError
from ...file_locks import FileLock
from ...parallel import Workers
from ..info_files import LOCK, preparing
from ..parts import Merge, Part


@contextmanager
def opening(root: Path, workers: Workers) -> Iterator[None]:
    """Of parts that start together, one after the other creates the folder."""
    lock = FileLock(root.absolute().with_name(f".{root.name}{LOCK}"))
    with lock if isinstance(workers, Part) else nullcontext():
        yield


@contextmanager
def writing(root: Path, workers: Workers) -> Iterator[None]:
    """One process writes the folder, or each part of it; a DataError when another one does."""
    with workers.locked(root) if isinstance(workers, Part) else preparing(root):
        yield


def own_numbers(missing: Sequence[int], total: int, workers: Workers, unit: str) -> list[int]:
    """The missing frames that this command makes: those of its part, none in a merge.

    Args:
        total: number of frames of the folder.
        unit: what a number stands for.

    Raises:
        DataError: a merge without all frames.
    """
    if isinstance(workers, Part):
        of_part = set(workers.shard.of(range(total)))
        return [number for number in missing if number in of_part]
    if isinstance(workers, Merge) and missing:
        raise DataError(
            f"{len(missing)} of {total} {unit}s are missing, the first is number {missing[0]}; "
            "run every --shard to its end first, or the command without it, which makes the rest"
        )
    return list(missing)


def end_part(root: Path, total: int, workers: Workers, unit: str) -> None:
    """End the command here if it makes a part; the last one forgets that there were parts.

    Raises:
        PartIsReady: ``workers`` does one part of the work.
    """
    if isinstance(workers, Part):
        raise workers.ready(
            f"{len(workers.shard.of(range(total)))} {unit}s", "completes the folder"
        )
    if isinstance(workers, Merge):
        workers.forget(root)
