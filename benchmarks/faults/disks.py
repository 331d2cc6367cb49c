"""Disks that are full, read-only, limited, or fail in the middle."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pcdet_distill import cli
from pcdet_distill.errors import EXIT_USER_ERROR

from .children import Child
from .failing_files import FailingDisk
from .kills import remove
from .outcomes import HELD, LOST, SAID, Trial
from .small_training import SmallTraining

TAG = "disk"
ENOUGH_KIB = 65536
NEVER = 10**9
READS = 25  # of point clouds, fewer than happen before the end


@dataclass(frozen=True)
class DiskFault:
    """A kind of broken disk, drawn by a random generator."""

    name: str
    broken: Callable[[SmallTraining, random.Random], Child]


def disk_trials(training: SmallTraining, number: int, seed: int) -> Iterator[Trial]:
    """Every kind of broken disk ``number`` times, at random moments."""
    writes = count_writes(training)
    for fault in faults(writes):
        for attempt in range(seed, seed + number):
            yield disk_trial(training, fault, attempt)
    if may_mount():
        for attempt in range(seed, seed + number):
            yield full_tmpfs_trial(training, attempt)
        yield read_only_trial(training, seed)


def faults(writes: int) -> list[DiskFault]:
    """The disks that need no mount."""

    def failing(code: int, lasting: bool) -> Callable[[SmallTraining, random.Random], Child]:
        def start(training: SmallTraining, draw: random.Random) -> Child:
            disk = FailingDisk(
                written_folders(training),
                draw.randint(1, writes),
                code=code,
                lasting=lasting,
                in_write=draw.random() < 0.5,
            )
            return start_with(training, disk.install)

        return start

    return [
        DiskFault("disk full from some moment on (ENOSPC)", failing(errno.ENOSPC, True)),
        DiskFault("disk read-only from some moment on (EROFS)", failing(errno.EROFS, True)),
        DiskFault("disk fails from some moment on (EIO)", failing(errno.EIO, True)),
        DiskFault("disk fails in one write (EIO)", failing(errno.EIO, False)),
        DiskFault("a point cloud cannot be read (EIO)", unreadable_cloud),
        DiskFault("limit on the size of a file (EFBIG)", limited_files),
    ]


def start_with(training: SmallTraining, before: Callable[[], None]) -> Child:
    """Begin the distillation with a fault in place."""
    return Child(cli.train, training.arguments(TAG), training.logs / f"{TAG}-broken", before)


def unreadable_cloud(training: SmallTraining, draw: random.Random) -> Child:
    """One reading of a point cloud fails."""
    disk = FailingDisk((training.data,), draw.randint(1, READS), lasting=False, reads=True)
    return start_with(training, disk.install)


def limited_files(training: SmallTraining, draw: random.Random) -> Child:
    """No file may become larger than some size below that of a checkpoint."""
    limit = draw.randint(1000, 100_000)
    return start_with(training, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))


def written_folders(training: SmallTraining) -> tuple[Path, ...]:
    """Where a distillation writes."""
    return training.outputs() / TAG, training.cache(TAG)


def count_writes(training: SmallTraining) -> int:
    """How often an undisturbed run opens, renames or flushes what it writes."""
    counted = training.folder / "writes.txt"
    disk = FailingDisk(written_folders(training), NEVER, count_file=counted)
    child = start_with(training, disk.install)
    if child.wait() != 0:
        raise RuntimeError(f"the run that counts writes ended with {child.code}: {child.errors}")
    remove(training, TAG)
    return int(counted.read_text())


def disk_trial(training: SmallTraining, fault: DiskFault, seed: int) -> Trial:
    """Train on a broken disk, mend it, and train on."""
    child = fault.broken(training, random.Random(seed))
    child.wait()
    trial = outcome(training, fault.name, child, seed)
    remove(training, TAG)
    return trial


def outcome(training: SmallTraining, name: str, child: Child, seed: int) -> Trial:
    """What a run on a broken disk said, and what a restart on a whole one made of it."""
    problem = training.finish(TAG)
    if problem:
        return Trial(name, LOST, problem, seed)
    if child.code == 0:
        return Trial(name, HELD, "", seed)
    if child.code == EXIT_USER_ERROR and child.spoke_plainly():
        return Trial(name, SAID, child.sentence.replace(str(training.folder), "..."), seed)
    return Trial(name, LOST, f"exit code {child.code}: {child.sentence}", seed)


# --- Real mounts, where root may make them --------------------------------------------------------


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    folder = Path(f"/tmp/faults-mount-{os.getpid()}")
    folder.mkdir()
    try:
        with tmpfs(folder, 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        folder.rmdir()


@contextmanager
def tmpfs(folder: Path, kib: int) -> Iterator[None]:
    """A file system in memory at ``folder``."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def full_tmpfs_trial(training: SmallTraining, seed: int) -> Trial:
    """An output folder on a file system that becomes full; then it is made larger."""
    folder = training.outputs() / TAG
    folder.mkdir(parents=True)
    with tmpfs(folder, random.Random(seed).randint(4, 800)):
        child = training.start(TAG)
        child.wait()
        remount(folder, f"size={ENOUGH_KIB}k")
        trial = outcome(training, "full file system (tmpfs)", child, seed)
    remove(training, TAG)
    return trial


def read_only_trial(training: SmallTraining, seed: int) -> Trial:
    """An output folder on a file system that is read-only; then it is made writable."""
    folder = training.outputs() / TAG
    folder.mkdir(parents=True)
    with tmpfs(folder, ENOUGH_KIB):
        remount(folder, "ro")
        child = training.start(TAG)
        child.wait()
        remount(folder, "rw")
        trial = outcome(training, "read-only file system (tmpfs)", child, seed)
    shutil.rmtree(folder)
    remove(training, TAG)
    return trial
