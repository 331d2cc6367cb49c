"""Is this teacher one for these data? A look at a few labelled frames, before a day is spent on it.

Two things show it: whether the teacher finds the labelled objects and calls them by their names, and whether its batch
normalisation layers meet features like those they were trained on. Another intensity scale or a shifted origin shows in
the second long before it ruins the first.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..models import load_data_to_device
from ..models.trainable import TrainingData
from ..ops.boxes import boxes_iou3d
from ..types import BatchDict
from .teacher import Teacher

CHECKED_FRAMES = 8  # before a training starts
CHECK_SECONDS = 2.0  # then no further batch is checked
FOUND_IOU = 0.3  # 3D overlap from which a labelled box counts as found
ENOUGH_BOXES = 5  # labels of a class, to judge how it is found
MOST_OUTSIDE = 0.05  # share of the labels that may lie where the teacher does not look
LEAST_RECALL = 1 / 3  # trained detectors find nine in ten of the labels they were trained on
MOST_OFFSET = 2.0  # running deviations; a layer that fits stays below 0.5
MOST_SPREAD = 8.0  # factor between variances; a layer that fits stays below 2


@dataclasses.dataclass
class ClassRecall:
    """How the labelled boxes of one class were found.

    Attributes:
        boxes: how many there are.
        found: those overlapped by a detection of their class.
        taken_for: detections of other classes at boxes that were not found, by the name of that class.
    """

    boxes: int = 0
    found: int = 0
    taken_for: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> float:
        """Found share of the boxes."""
        return self.found / max(self.boxes, 1)

    @property
    def is_low(self) -> bool:
        """Whether there are enough boxes to say that too few are found."""
        return self.boxes >= ENOUGH_BOXES and self.share < LEAST_RECALL


@dataclasses.dataclass(frozen=True)
class LayerFit:
    """How a batch normalisation layer's input compares with its running statistics (medians over its channels).

    Attributes:
        name: the module.
        offset: difference of the means, in running standard deviations.
        spread: variance over running variance.
    """

    name: str
    offset: float
    spread: float

    @property
    def fits(self) -> bool:
        """Whether the layer was trained on features like these."""
        return self.offset <= MOST_OFFSET and 1 / MOST_SPREAD <= self.spread <= MOST_SPREAD


@dataclasses.dataclass(frozen=True)
class TeacherReport:
    """What ``check_teacher`` found.

    Attributes:
        frames: how many were looked at.
        recall: by class name, of the labels in the teacher's range; empty for frames without labels.
        outside: labels that are not in its range.
        layers: the batch normalisation layers that ran, in the order in which they did.
    """

    frames: int
    recall: dict[str, ClassRecall]
    outside: int
    layers: list[LayerFit]

    def __str__(self) -> str:
        found = ", ".join(
            f"{name} {entry.share:.0%} of {entry.boxes}" for name, entry in self.recall.items()
        )
        fitting = sum(layer.fits for layer in self.layers)
        parts = [f"finds {found} labelled boxes"] if found else []
        parts += (
            [f"{fitting} of {len(self.layers)} batch norm layers fit the data"]
            if self.layers
            else []
        )
        return (
            f"teacher check on {self.frames} frames: {'; '.join(parts) or 'nothing to judge it by'}"
        )

    def log(self, logger: logging.Logger) -> None:
        """What was found, and a warning for each thing that looks wrong."""
        logger.info(str(self))
        for warning in self.warnings:
            logger.warning("teacher check: %s", warning)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each thing that looks wrong."""
        low = {name: entry for name, entry in self.recall.items() if entry.is_low}
        return [
            *(_recall_warning(name, entry) for name, entry in low.items()),
            *self._range_warning(),
            *self._statistics_warning(),
        ]

    def _range_warning(self) -> Iterator[str]:
        """Labels where the teacher does not look."""
        boxes = self.outside + sum(entry.boxes for entry in self.recall.values())
        if self.outside > MOST_OUTSIDE * boxes:
            yield (
                f"{self.outside} of {boxes} labelled boxes are outside the teacher's POINT_CLOUD_RANGE, where it "
                "teaches nothing"
            )

    def _statistics_warning(self) -> Iterator[str]:
        """The first layer that does not fit; those behind it follow from it."""
        wrong = [layer for layer in self.layers if not layer.fits]
        if wrong:
            first, more = wrong[0], f" (and {len(wrong) - 1} more layers)" if len(wrong) > 1 else ""
            yield (
                f"the teacher's batch norm '{first.name}'{more} meets features unlike those it was trained on, with "
                f"means {first.offset:.1f} deviations off and {first.spread:.2g} times the variance: is it trained, "
                "on data like these and with the same intensity scale?"
            )


def _recall_warning(name: str, entry: ClassRecall) -> str:
    """A class that the teacher hardly finds."""
    sentence = f"the teacher finds only {entry.found} of {entry.boxes} labelled {name} boxes ({entry.share:.0%})"
    other = max(entry.taken_for, key=lambda taken: entry.taken_for[taken], default=None)
    if other is not None and entry.taken_for[other] > entry.boxes / 3:
        return (
            f"{sentence} and takes {entry.taken_for[other]} of them for {other}: are its CLASS_NAMES in the order "
            "of its training?"
        )
    return f"{sentence}: is it trained, and on data like these?"


def check_teacher(
    teacher: Teacher, batches: Iterable[Mapping[str, Any]], class_names: Sequence[str]
) -> TeacherReport:
    """Look at what the teacher makes of some labelled batches.

    Args:
        teacher: its detections carry the student's labels.
        batches: batch dicts on the teacher's device; the last column of ``gt_boxes`` (B, G, 8) is the student's label.
        class_names: the student's classes. Those the teacher does not know are not asked for.
    """
    known = set(getattr(teacher.model, "class_names", class_names))
    limits = getattr(getattr(teacher.model, "dataset", None), "point_cloud_range", None)
    recall = {name: ClassRecall() for name in class_names if name in known}
    frames = outside = 0
    with _moments(teacher.model) as moments:
        for batch_dict in batches:
            frames += int(batch_dict["batch_size"])
            predictions = teacher.predict(batch_dict)
            for boxes, found in zip(batch_dict.get("gt_boxes", ()), predictions):
                boxes = boxes[boxes.ne(0).any(dim=1)]
                inside = _in_range(boxes, limits)
                outside += int((~inside).sum())
                _count(recall, class_names, boxes[inside], found)
    seen = any(entry.boxes for entry in recall.values())
    return TeacherReport(
        frames,
        recall if seen else {},
        outside,
        [entry.fit(name) for name, entry in moments.items()],
    )


def check_on_first_frames(
    teacher: Teacher, data: TrainingData, device: torch.device
) -> TeacherReport:
    """``check_teacher`` on the first ``CHECKED_FRAMES`` frames, as far as ``CHECK_SECONDS`` last."""
    batches = data.first_frames(CHECKED_FRAMES)
    return check_teacher(teacher, _until_time_is_up(batches, device), data.class_names)


def _until_time_is_up(batches: list[BatchDict], device: torch.device) -> Iterator[BatchDict]:
    """The batches on ``device``: always the first one, others while there is time."""
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        if number > 0 and time.perf_counter() - start >= CHECK_SECONDS:
            return
        load_data_to_device(batch, device)
        yield batch


def _in_range(boxes: Tensor, limits: Any) -> Tensor:
    """Whether the centre of each box (G, 8) lies within ``limits`` on the ground, (G,); None: everywhere."""
    if limits is None:
        return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    low, high = torch.as_tensor(limits, dtype=boxes.dtype, device=boxes.device).reshape(2, 3)[:, :2]
    return ((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all(dim=1)


def _count(
    recall: dict[str, ClassRecall],
    class_names: Sequence[str],
    boxes: Tensor,
    found: Mapping[str, Tensor],
) -> None:
    """Add one frame: labelled ``boxes`` (G, 8 or more) against the teacher's detections."""
    overlaps = boxes_iou3d(boxes[:, :7].float(), found["pred_boxes"][:, :7].float()) > FOUND_IOU
    for box, overlapping in zip(boxes, overlaps):
        name = class_names[int(box[-1]) - 1]
        if name not in recall:
            continue
        entry, labels = recall[name], found["pred_labels"][overlapping].tolist()
        entry.boxes += 1
        if int(box[-1]) in labels:
            entry.found += 1
        elif labels:
            taken = class_names[labels[0] - 1]
            entry.taken_for[taken] = entry.taken_for.get(taken, 0) + 1


class _Moments:
    """Sums over what one batch normalisation layer has seen."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm: Any = norm
        self.count, self.sum, self.squares = 0.0, torch.zeros(()), torch.zeros(())

    def add(self, features: Tensor, weight: Tensor | None) -> None:
        """Features (N, C), (N, C, ...); of a layer whose rows stand for several, ``weight`` (N,) says how many."""
        rows = features.detach().movedim(1, -1).reshape(-1, features.shape[1])
        # Around the running mean, so that float32 loses no digits.
        centred = rows.float() - self.norm.running_mean
        weight = centred.new_ones(len(rows)) if weight is None else weight.to(centred.dtype)
        self.count += float(weight.sum())
        self.sum = self.sum + (weight @ centred).double().cpu()
        self.squares = self.squares + (weight @ centred.square_()).double().cpu()

    def fit(self, name: str) -> LayerFit:
        """Compared with the running statistics."""
        variance = (self.norm.running_var + self.norm.eps).double().cpu()
        mean = self.sum / max(self.count, 1.0)
        found = (self.squares / max(self.count, 1.0) - mean.square()).clamp_min(0) + self.norm.eps
        offset = (mean.abs() / variance.sqrt()).median().item()
        return LayerFit(name, offset, math.exp((found / variance).log().median().item()))


@contextmanager
def _moments(model: nn.Module) -> Iterator[dict[str, _Moments]]:
    """Watch every batch normalisation layer that runs on its running statistics."""
    seen: dict[str, _Moments] = {}
    hooks = []
    for name, module in model.named_modules():
        if (
            not isinstance(module, nn.modules.batchnorm._BatchNorm)
            or module.training
            or module.running_mean is None
        ):
            continue

        def watch(norm: nn.Module, inputs: tuple, output: Tensor, name: str = name) -> None:
            if len(inputs[0]):
                seen.setdefault(name, _Moments(norm)).add(
                    inputs[0], inputs[1] if len(inputs) > 1 else None
                )

        hooks.append(module.register_forward_hook(watch))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
