"""TeacherMemory: the teacher's outputs for batches that come again in later epochs (TEACHER.REUSE).

An output is found by the exact bits of the batch's points. The teacher runs on every batch that
differs in anything, so the student learns exactly what it would learn without a memory. Outputs are
kept in temporary files. A file is deleted after its last use, and all of them with the process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

Output = TypeVar("Output")


class TeacherMemory:
    """Outputs by batch.

    Args:
        shows: how often a batch comes. Its output is deleted after the last time.
    """

    def __init__(self, shows: int) -> None:
        self.shows = shows
        self._remaining_uses: dict[str, int] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def recall(
        self, points: Sequence[Tensor], requested: Sequence[str], compute: Callable[[], Output]
    ) -> Output:
        """The result of ``compute()``, which is called once only for the same ``points``.

        Args:
            points: the teacher's inputs of a batch, at least one tensor.
            requested: names of what ``compute`` returns.
            compute: returns tensors in dicts, lists and tuples.
        """
        key = _fingerprint(points, requested)
        if key not in self._remaining_uses:
            output = compute()
            torch.save(output, self._file(key))
            self._remaining_uses[key] = self.shows - 1
            return output
        output = torch.load(self._file(key), map_location=points[0].device, weights_only=True)
        self._remaining_uses[key] -= 1
        if self._remaining_uses[key] == 0:
            del self._remaining_uses[key]
            self._file(key).unlink()
        return output

    def __len__(self) -> int:
        """Number of batches that will come again."""
        return len(self._remaining_uses)

    def _file(self, key: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcdet_distill_teacher_")
        return Path(self._folder.name) / f"{key}.pt"


def _fingerprint(points: Sequence[Tensor], requested: Sequence[str]) -> str:
    """A hash of all bits of the tensors, and of what is requested."""
    digest = hashlib.blake2b(repr(tuple(requested)).encode(), digest_size=16)
    for part in points:
        digest.update(repr((part.dtype, tuple(part.shape))).encode())
        digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
