"""What a teacher said of a batch, kept for the epochs in which the very same batch comes again (DISTILL.TEACHER.REUSE).

An answer is found by the points it was given for, bit by bit: a batch that differs in anything is looked at anew, so
what the student learns is what it would learn without a memory. Answers lie in files that go when they have served,
or with the process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class TeacherMemory:
    """Answers by batch.

    Args:
        shows: how often a batch comes; its answer is forgotten after the last time.
    """

    def __init__(self, shows: int) -> None:
        self.shows = shows
        self._left: dict[str, int] = {}
        self._folder: tempfile.TemporaryDirectory | None = None

    def recall(
        self, points: Sequence[Tensor], asked: Sequence[str], answer: Callable[[], Any]
    ) -> Any:
        """What ``answer()`` gives, tensors in dicts and lists; it is not called again for the same ``points``.

        Args:
            points: what the teacher sees of a batch, at least one tensor.
            asked: what it is asked for.
        """
        key = _fingerprint(points, asked)
        if key not in self._left:
            said = answer()
            torch.save(said, self._file(key))
            self._left[key] = self.shows - 1
            return said
        said = torch.load(self._file(key), map_location=points[0].device, weights_only=True)
        self._left[key] -= 1
        if self._left[key] == 0:
            del self._left[key]
            self._file(key).unlink()
        return said

    def __len__(self) -> int:
        """Batches that will come again."""
        return len(self._left)

    def _file(self, key: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcdet_distill_teacher_")
        return Path(self._folder.name) / f"{key}.pt"


def _fingerprint(points: Sequence[Tensor], asked: Sequence[str]) -> str:
    """Of all bits of the tensors, and of what is asked."""
    found = hashlib.blake2b(repr(tuple(asked)).encode(), digest_size=16)
    for part in points:
        found.update(repr((part.dtype, tuple(part.shape))).encode())
        found.update(part.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
