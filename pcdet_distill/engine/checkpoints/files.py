"""Which checkpoint files there are: newest, next, too many.

Names are OpenPCDet's: ``checkpoint_epoch_N.pth`` after N epochs and ``latest_model.pth`` from within an epoch;
``<name>_optim.pth`` may hold the optimizer of ``<name>.pth``.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...checkpoint import load_checkpoint, optimizer_state
from ...errors import CheckpointError

LATEST = "latest_model.pth"
EPOCH_NAME = re.compile(r"checkpoint_epoch_(\d+)\.pth$")
POLL_SECONDS = 30.0


def epoch_path(folder: Path, epoch: int) -> Path:
    """The file of the state after ``epoch`` epochs."""
    return folder / f"checkpoint_epoch_{epoch}.pth"


def epoch_files(folder: Path) -> dict[int, Path]:
    """The epoch checkpoints in ``folder``, by number of epochs, ascending."""
    found = (
        (EPOCH_NAME.search(path.name), path) for path in folder.glob("*checkpoint_epoch_*.pth")
    )
    return dict(sorted((int(match.group(1)), path) for match, path in found if match))


def prune(folder: Path, keep: int) -> None:
    """Delete the earliest epoch checkpoints until ``keep`` remain."""
    for path in list(epoch_files(folder).values())[:-keep]:
        path.unlink(missing_ok=True)


def load_with_optimizer(path: Path) -> dict[str, Any]:
    """The checkpoint at ``path``, with the optimizer state that may stand in a file beside it."""
    checkpoint = load_checkpoint(path)
    return {**checkpoint, "optimizer_state": optimizer_state(checkpoint, path)}


def _progress(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """How far a checkpoint's training had come: epochs, then iterations."""
    return int(checkpoint.get("epoch") or 0), int(checkpoint.get("it") or 0)


class _Candidates:
    """The files of a folder that training may continue from. Broken ones are reported as they are met."""

    def __init__(self, folder: Path, logger: logging.Logger) -> None:
        self.folder, self.logger = folder, logger
        self.broken: list[str] = []

    def read(self, path: Path) -> dict[str, Any] | None:
        """The checkpoint, or None and a loud warning."""
        try:
            return load_with_optimizer(path)
        except CheckpointError as error:
            self.broken.append(path.name)
            self.logger.warning(f"!!! CHECKPOINT UNUSABLE, taking the one before it: {error}")
            return None

    def newest_epoch(self) -> tuple[Path, dict[str, Any]] | None:
        """The readable epoch checkpoint with the highest number."""
        for path in reversed(epoch_files(self.folder).values()):
            checkpoint = self.read(path)
            if checkpoint is not None:
                return path, checkpoint
        return None

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """``latest_model.pth``, when it is there and readable."""
        path = self.folder / LATEST
        checkpoint = self.read(path) if path.is_file() else None
        return None if checkpoint is None else (path, checkpoint)


def find_newest(folder: Path, logger: logging.Logger) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint of ``folder`` that went furthest (epoch, then iteration; not the time of the file).

    A broken file is passed over loudly; when all are broken, starting afresh over them would be a surprise: an error.
    """
    candidates = _Candidates(folder, logger)
    found = [each for each in (candidates.newest_epoch(), candidates.latest()) if each is not None]
    if found:
        return max(found, key=lambda each: _progress(each[1]))
    if candidates.broken:
        raise CheckpointError(
            f"{folder}: none of the checkpoints there can be read ({', '.join(candidates.broken)}); "
            "delete them to train from the beginning, or choose another --extra_tag"
        )
    return None


def wait_for(
    find: Callable[[], Any], minutes: float, announce: Callable[[str], None], what: str
) -> Any:
    """What ``find`` returns as soon as it is not None; None when ``minutes`` have passed (0: one look)."""
    deadline = time.monotonic() + minutes * 60
    while True:
        found = find()
        remaining = deadline - time.monotonic()
        if found is not None or remaining <= 0:
            return found
        announce(f"waiting for {what}: {remaining / 60:.1f} of {minutes} minutes left")
        time.sleep(min(POLL_SECONDS, remaining))


def next_unevaluated(
    folder: Path, done: Iterable[int], start_epoch: int
) -> tuple[int, Path] | None:
    """The earliest epoch checkpoint from ``start_epoch`` on that is not in ``done``."""
    done = set(done)
    for epoch, path in epoch_files(folder).items():
        if epoch >= start_epoch and epoch not in done:
            return epoch, path
    return None
