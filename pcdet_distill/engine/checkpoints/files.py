"""The checkpoint files of a training: newest, next to evaluate, too many.

Names are OpenPCDet's: ``checkpoint_epoch_N.pth`` after N epochs, and ``latest_model.pth`` from
within an epoch. The optimizer of ``<name>.pth`` may be in a file of its own, ``<name>_optim.pth``.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...checkpoint import load_checkpoint, optimizer_state
from ...errors import CheckpointError
from ...models.trainable import CheckpointState

T = TypeVar("T")

LATEST = "latest_model.pth"
EPOCH_NAME = re.compile(r"checkpoint_epoch_(\d+)\.pth$")
POLL_SECONDS = 30.0


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that has been read.

    Attributes:
        path: its file.
        state: its content, with ``optimizer_state`` wherever that was stored.
    """

    path: Path
    state: CheckpointState


def epoch_path(folder: Path, epoch: int) -> Path:
    """The file of the checkpoint after ``epoch`` epochs."""
    return folder / f"checkpoint_epoch_{epoch}.pth"


def epoch_files(folder: Path) -> dict[int, Path]:
    """The epoch checkpoints in ``folder`` by number of epochs, ascending."""
    files = {}
    for path in folder.glob("*checkpoint_epoch_*.pth"):
        match = EPOCH_NAME.search(path.name)
        if match:
            files[int(match.group(1))] = path
    return dict(sorted(files.items()))


def prune(folder: Path, keep: int) -> None:
    """Delete the earliest epoch checkpoints until ``keep`` remain."""
    for path in list(epoch_files(folder).values())[:-keep]:
        path.unlink(missing_ok=True)


def read_with_optimizer(path: Path) -> FoundCheckpoint:
    """Read ``path``, with the optimizer state that may be in a file beside it."""
    state = load_checkpoint(path)
    return FoundCheckpoint(path, {**state, "optimizer_state": optimizer_state(state, path)})


def find_newest(folder: Path, logger: logging.Logger) -> FoundCheckpoint | None:
    """The checkpoint of ``folder`` with the most epochs and iterations; None when it has none.

    The time of a file does not count: it changes when files are copied. A broken file is skipped
    with a warning. When all files are broken this is an error, because training from the start
    would overwrite them.
    """
    reader = _FolderReader(folder, logger)
    candidates = [reader.newest_epoch(), reader.latest()]
    found = [checkpoint for checkpoint in candidates if checkpoint is not None]
    if found:
        return max(found, key=_epochs_and_iterations)
    if reader.broken:
        raise CheckpointError(
            f"{folder}: none of the checkpoints there can be read ({', '.join(reader.broken)}); "
            "delete them to train from the beginning, or choose another --extra_tag"
        )
    return None


class _FolderReader:
    """Reads the checkpoints of a folder; ``broken`` lists the files that could not be read."""

    def __init__(self, folder: Path, logger: logging.Logger) -> None:
        self.folder = folder
        self.logger = logger
        self.broken: list[str] = []

    def newest_epoch(self) -> FoundCheckpoint | None:
        """The readable epoch checkpoint with the highest number."""
        for path in reversed(epoch_files(self.folder).values()):
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def latest(self) -> FoundCheckpoint | None:
        """``latest_model.pth``, when it exists and can be read."""
        path = self.folder / LATEST
        return self._read(path) if path.is_file() else None

    def _read(self, path: Path) -> FoundCheckpoint | None:
        """The checkpoint, or None and a warning that cannot be missed."""
        try:
            return read_with_optimizer(path)
        except CheckpointError as error:
            self.broken.append(path.name)
            self.logger.warning(f"!!! CHECKPOINT UNUSABLE, taking the one before it: {error}")
            return None


def _epochs_and_iterations(checkpoint: FoundCheckpoint) -> tuple[int, int]:
    """How far the training of a checkpoint had come."""
    epochs = int(checkpoint.state.get("epoch") or 0)
    iterations = int(checkpoint.state.get("it") or 0)
    return epochs, iterations


def next_unevaluated(
    folder: Path, done: Iterable[int], start_epoch: int
) -> tuple[int, Path] | None:
    """The earliest epoch checkpoint from ``start_epoch`` on that is not in ``done``."""
    done = set(done)
    for epoch, path in epoch_files(folder).items():
        if epoch >= start_epoch and epoch not in done:
            return epoch, path
    return None


def wait_for(
    find: Callable[[], T | None], minutes: float, announce: Callable[[str], None], what: str
) -> T | None:
    """Call ``find`` until its result is not None, and return that.

    Args:
        find: called at once, then every ``POLL_SECONDS``.
        minutes: after so many the result is None; 0 calls ``find`` once.
        announce: receives a line each time before waiting.
        what: what is waited for, for these lines.
    """
    deadline = time.monotonic() + minutes * 60
    while True:
        found = find()
        remaining = deadline - time.monotonic()
        if found is not None or remaining <= 0:
            return found
        announce(f"waiting for {what}: {remaining / 60:.1f} of {minutes} minutes left")
        time.sleep(min(POLL_SECONDS, remaining))
