"""What the page is made of: the two students, and each frame as everything sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor

from ...types import BatchDict
from ...visualize import Limits
from .boxes import Boxes
from .draw import Scene
from .features import TermSpaces, labels_of
from .frames import Frame
from .sides import Sides
from .terms import FrameOfSide, look_at, teacher_boxes


@dataclasses.dataclass(frozen=True)
class Shown:
    """Everything that the page is made of.

    Attributes:
        cfg: of the distilled student.
        frames: that are shown.
        spaces: by the name of the term.
        score: least score of a shown box.
        files: checkpoints by role.
    """

    cfg: EasyDict
    sides: Sides
    frames: Sequence[Frame]
    spaces: dict[str, TermSpaces]
    device: torch.device
    score: float
    files: dict[str, str | None]


@dataclasses.dataclass(frozen=True)
class FrameData:
    """One frame as both students and the teacher see it."""

    scene: Scene
    batch: BatchDict
    sides: dict[str, FrameOfSide]  # by the name of the side
    boxes: dict[str, Boxes]  # of the teacher and of both sides
    labels: Boxes


def read_frame(shown: Shown, frame: Frame) -> FrameData:
    """Run everything on one frame."""
    batch = frame.batch(shown.device)
    x0, y0, _, x1, y1, _ = (float(value) for value in frame.dataset.point_cloud_range)
    labels = labels_of(batch).cpu().numpy()
    names = np.array(shown.cfg.CLASS_NAMES, dtype=str)
    truth = Boxes(labels[:, :-1], np.ones(len(labels)), names[labels[:, -1].astype(int) - 1])
    points = batch["points"][:, 1:4].cpu().numpy()
    scene = Scene(frame.name, points, labels, Limits(x0, y0, x1, y1))
    sides = {side.name: look_at(side, batch) for side in shown.sides.both}
    found = teacher_boxes(shown.sides.after.distiller, batch)
    boxes = {"teacher": named_boxes(*found, names).above(shown.score)}
    for name, seen in sides.items():
        detected = named_boxes(seen.boxes, seen.scores, seen.labels, names)
        boxes[name] = detected.above(shown.score)
    return FrameData(scene, batch, sides, boxes, truth)


def named_boxes(boxes: Tensor, scores: Tensor, labels: Tensor, names: np.ndarray) -> Boxes:
    """Detections as arrays with the names of their classes."""
    return Boxes(
        boxes.detach().cpu().numpy(),
        scores.detach().cpu().numpy(),
        names[labels.cpu().numpy().astype(int) - 1],
    )
