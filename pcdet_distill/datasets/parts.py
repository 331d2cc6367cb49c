"""Info files made in parts by several commands (``--shard``), and put together by a last one.

A part works on its frames only. It keeps their results, and the points of their objects, in a
folder of its own. The merge runs the same code as a preparation in one piece, but reads the results
instead of working on frames. So it writes the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ..errors import DataError
from ..file_locks import FileLock
from ..parallel import Workers, as_engine
from ..parallel.engine import Item, Result
from ..parallel.shards import Shard, all_shards
from .safe_pickle import load_plain_pickle

FOLDER = ".create_data_shards"
STAGING = "staging"  # in the folder of a part: the databases of its objects
DONE = "done.pkl"  # written last, with what the part was made from


class PartIsReady(Exception):
    """A part is done, and there is nothing to publish yet. Its text says so to the user."""


class Part:
    """An engine that works on one part of the frames.

    Args:
        workers: what does the work.
        request: the command without what differs between parts; all parts need the same.
    """

    def __init__(self, workers: Workers, shard: Shard, request: str) -> None:
        self.workers = workers
        self.engine = as_engine(workers)
        self.shard = shard
        self.request = request
        self.folder = Path()
        self.num_calls = 0
        self.num_frames = 0

    @contextmanager
    def locked(self, root: Path) -> Iterator[None]:
        """One process for each part."""
        (root / FOLDER).mkdir(exist_ok=True)
        with _lock(root, self.shard):
            yield

    @contextmanager
    def staging_folder(self, root: Path) -> Iterator[Path]:
        """An empty folder; that of the part is removed after an error, and stays otherwise."""
        self.folder = root / FOLDER / self.shard.file_name
        with self.locked(root):
            shutil.rmtree(self.folder, ignore_errors=True)
            staging = self.folder / STAGING
            staging.mkdir(parents=True)
            try:
                yield staging
            finally:
                if not (self.folder / DONE).is_file():
                    shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def results(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Iterator[Result]]:
        """The results of the part's frames alone."""
        own = self.shard.of(items)
        kept: list[Result] = []

        def keep(results: Iterator[Result]) -> Iterator[Result]:
            for result in results:
                kept.append(result)
                yield result

        with self.engine.results(task, own) as results:
            yield keep(results)
        content = {"frames": _digest(items), "count": len(items), "results": kept}
        (self.folder / f"{self.num_calls}.pkl").write_bytes(pickle.dumps(content))
        self.num_calls += 1
        self.num_frames += len(own)

    def finish(self, staging: Path) -> None:
        """Keep the objects, and end the preparation here."""
        for path in staging.iterdir():
            if path.is_file():
                path.unlink()  # info files of a few frames
        (self.folder / DONE).write_bytes(pickle.dumps({"request": self.request}))
        raise self.ready(f"{self.num_frames} frames", "writes the info files")

    def ready(self, done: str, next_step: str) -> PartIsReady:
        """What a part that is done is ended with.

        Args:
            done: what it made, such as ``80 frames``.
            next_step: what the merge does.
        """
        return PartIsReady(
            f"shard {self.shard}: {done} are done; when all shards are, the same command with "
            f"--merge_shards instead of --shard {next_step}"
        )


class Merge:
    """An engine that finds the results of all parts.

    Args:
        request: the command, as in ``Part``.
        workers: what does the work that is not shared between the parts.
    """

    def __init__(self, request: str, workers: Workers = 1) -> None:
        self.request = request
        self.workers = workers
        self.folder = Path()
        self.staging = Path()
        self.shards: list[Shard] = []
        self.num_calls = 0

    def open(self, root: Path, staging: Path) -> None:
        """Check that all parts of one division are there, made by one command."""
        self.folder = root / FOLDER
        self.staging = staging
        names = sorted(path.name for path in self.folder.glob("*-of-*") if path.is_dir())
        counts = {name.rpartition("-of-")[2] for name in names}
        if not names:
            raise DataError(f"{root}: holds no shards; expected runs of --shard 1/N to N/N")
        if len(counts) > 1 or not counts <= {str(count) for count in range(1, 10**5)}:
            raise DataError(
                f"{self.folder}: holds parts of several divisions ({', '.join(names)}); delete "
                "those of the older one"
            )
        self.shards = all_shards(int(counts.pop()))
        missing = [str(each) for each in self.shards if not (self._part(each) / DONE).is_file()]
        if missing:
            raise DataError(f"{root}: not every shard is done; run --shard {', '.join(missing)}")
        for shard in self.shards:
            done = _read(self._part(shard) / DONE)
            if done.get("request") != self.request:
                raise DataError(f"{root}: --shard {shard} was another command; run it again")

    @contextmanager
    def results(
        self, task: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Iterator[Result]]:
        """The results of all frames, in their order."""
        by_place: dict[int, Any] = {}
        places = range(len(items))
        for shard in self.shards:
            path = self._part(shard) / f"{self.num_calls}.pkl"
            part = _read(path)
            own = shard.of(places)
            if part.get("frames") != _digest(items) or len(part.get("results", ())) != len(own):
                raise DataError(
                    f"{path}: of other frames than the folder has now; run --shard {shard}"
                )
            by_place.update(zip(own, part["results"]))
        self.num_calls += 1
        self._link_objects()
        yield (cast(Result, by_place[place]) for place in places)

    def finish(self) -> None:
        """Remove the parts, whose results are published now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self, root: Path) -> None:
        """Remove what parts left that wrote into ``root`` themselves."""
        shutil.rmtree(root / FOLDER, ignore_errors=True)

    def _link_objects(self) -> None:
        """Let the databases of the parts be one."""
        for shard in self.shards:
            for database in (self._part(shard) / STAGING).iterdir():
                target = self.staging / database.name
                for file in database.iterdir() if target.is_dir() else ():
                    if not (target / file.name).exists():
                        _link(file, target / file.name)

    def _part(self, shard: Shard) -> Path:
        return self.folder / shard.file_name


def within(workers: Workers) -> Workers:
    """What works on this machine: the workers themselves, or those inside a part or a merge."""
    return workers.workers if isinstance(workers, (Part, Merge)) else workers


def _digest(items: Sequence[Any]) -> str:
    """A hash of the frames, by which parts of other frames are noticed."""
    return hashlib.sha256("\n".join(str(item) for item in items).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """A file of a part."""
    content = load_plain_pickle(path, "run that --shard again")
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no part of a preparation; run that --shard again")
    return content


def _link(file: Path, target: Path) -> None:
    """The same file at a second place; a copy on file systems without such links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@contextmanager
def _lock(root: Path, shard: Shard) -> Iterator[None]:
    """One process for each part."""
    lock = FileLock(root / FOLDER / f"{shard.file_name}.lock")
    if not lock.take():
        raise DataError(f"{root}: {lock.holder()} works on --shard {shard}; wait for its end")
    try:
        yield
    finally:
        lock.release()
