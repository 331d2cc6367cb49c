"""The boxes that a centre head proposes, before its limits and its NMS."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FrameCandidates(NamedTuple):
    """The best boxes of one head in one frame, before any limit.

    Attributes:
        head: number of the head.
        boxes: (K, 7 + C).
        scores: (K,).
        labels: (K,) int64 from 1.
        overlaps: (K,) what the branch ``iou`` predicts; None where scores are not corrected.
    """

    head: int
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    overlaps: Tensor | None = None


class ProposedBoxes(NamedTuple):
    """The K best boxes of one head in each frame, before any limit.

    Attributes:
        boxes: (B, K, 7 + C).
        scores: (B, K).
        labels: (B, K) int64 from 1.
        overlaps: (B, K) what the branch ``iou`` predicts; None where scores are not corrected.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    overlaps: Tensor | None

    def of_frame(self, head: int, frame: int) -> FrameCandidates:
        """Those of one frame, made by the head of that number."""
        overlaps = None if self.overlaps is None else self.overlaps[frame]
        return FrameCandidates(
            head, self.boxes[frame], self.scores[frame], self.labels[frame], overlaps
        )
