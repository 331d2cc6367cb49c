"""Does this teacher fit these data? A check on a few labelled frames, before hours of training.

Two things show it. First, whether the teacher detects the labelled objects, with their classes.
Second, whether the inputs of its batch normalisation layers are like those that it was trained on:
another intensity scale or a shifted origin shows there even while most objects are still detected.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models import load_data_to_device
from ..models.trainable import TrainingData
from ..ops.boxes import boxes_iou3d
from ..types import BatchDict
from .labelled_boxes import without_padding
from .teacher import FrameBoxes, Teacher

CHECKED_FRAMES = 8  # before a training starts
CHECK_SECONDS = 2.0  # then no further batch is checked

FOUND_IOU = 0.3  # 3D overlap from which a labelled box counts as detected
ENOUGH_BOXES = 5  # labelled boxes of a class that are enough for a judgement
LEAST_RECALL = 1 / 3  # trained detectors detect nine in ten of the boxes they were trained on
MOST_OUTSIDE = 0.05  # accepted share of labelled boxes outside the teacher's range

# A layer that fits its data stays below 0.5 running standard deviations and a factor of 2.
MOST_OFFSET = 2.0  # accepted difference of the means, in running standard deviations
MOST_SPREAD = 8.0  # accepted factor between the variances


@dataclasses.dataclass
class ClassRecall:
    """Which of the labelled boxes of one class were detected.

    Attributes:
        boxes: number of labelled boxes.
        found: number of them that a detection of their class overlaps.
        taken_for: detections of other classes at the remaining boxes, counted by class.
    """

    boxes: int = 0
    found: int = 0
    taken_for: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> float:
        """Detected share of the boxes."""
        return self.found / max(self.boxes, 1)

    @property
    def is_low(self) -> bool:
        """Whether too few of enough boxes were detected."""
        return self.boxes >= ENOUGH_BOXES and self.share < LEAST_RECALL


@dataclasses.dataclass(frozen=True)
class LayerFit:
    """Input of a batch normalisation layer, compared with its running statistics.

    Both numbers are medians over the channels.

    Attributes:
        name: path of the module.
        offset: difference of the means, in running standard deviations.
        spread: variance divided by the running variance.
    """

    name: str
    offset: float
    spread: float

    @property
    def fits(self) -> bool:
        """Whether the layer may have been trained on such features."""
        return self.offset <= MOST_OFFSET and 1 / MOST_SPREAD <= self.spread <= MOST_SPREAD


@dataclasses.dataclass(frozen=True)
class TeacherReport:
    """The result of ``check_teacher``.

    Attributes:
        frames: number of checked frames.
        recall: by class, of the labelled boxes in the teacher's range; empty without labels.
        outside: number of labelled boxes outside its range.
        layers: the batch normalisation layers, in the order in which they ran.
    """

    frames: int
    recall: dict[str, ClassRecall]
    outside: int
    layers: list[LayerFit]

    def __str__(self) -> str:
        parts = []
        if self.recall:
            found = [
                f"{name} {entry.share:.0%} of {entry.boxes}" for name, entry in self.recall.items()
            ]
            parts.append(f"finds {', '.join(found)} labelled boxes")
        if self.layers:
            fitting = sum(layer.fits for layer in self.layers)
            parts.append(f"{fitting} of {len(self.layers)} batch norm layers fit the data")
        result = "; ".join(parts) or "nothing to judge it by"
        return f"teacher check on {self.frames} frames: {result}"

    def log(self, logger: logging.Logger) -> None:
        """Log the result, and a warning for each thing that looks wrong."""
        logger.info(str(self))
        for warning in self.warnings:
            logger.warning("teacher check: %s", warning)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each thing that looks wrong."""
        sentences = []
        for name, entry in self.recall.items():
            if entry.is_low:
                sentences.append(_recall_warning(name, entry))
        boxes = self.outside + sum(entry.boxes for entry in self.recall.values())
        if self.outside > MOST_OUTSIDE * boxes:
            sentences.append(
                f"{self.outside} of {boxes} labelled boxes are outside the teacher's "
                "POINT_CLOUD_RANGE, where it teaches nothing"
            )
        wrong = [layer for layer in self.layers if not layer.fits]
        if wrong:
            sentences.append(_layers_warning(wrong))
        return sentences


def _recall_warning(name: str, entry: ClassRecall) -> str:
    """The sentence for a class that the teacher hardly detects."""
    sentence = (
        f"the teacher finds only {entry.found} of {entry.boxes} labelled {name} boxes "
        f"({entry.share:.0%})"
    )
    if entry.taken_for:
        other, count = max(entry.taken_for.items(), key=lambda item: item[1])
        if count > entry.boxes / 3:
            return (
                f"{sentence} and takes {count} of them for {other}: are its CLASS_NAMES in the "
                "order of its training?"
            )
    return f"{sentence}: is it trained, and on data like these?"


def _layers_warning(wrong: list[LayerFit]) -> str:
    """The sentence for layers that do not fit. The first is shown, as the others follow from it."""
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more layers)" if len(wrong) > 1 else ""
    return (
        f"the teacher's batch norm '{first.name}'{more} meets features unlike those it was trained "
        f"on, with means {first.offset:.1f} deviations off and {first.spread:.2g} times the "
        "variance: is it trained, on data like these and with the same intensity scale?"
    )


def check_teacher(
    teacher: Teacher, batches: Iterable[BatchDict], class_names: Sequence[str]
) -> TeacherReport:
    """Check what the teacher detects in some labelled batches.

    Args:
        teacher: its detections have the student's labels.
        batches: on the teacher's device. The last column of ``gt_boxes`` (B, G, 8) is the student's
            label.
        class_names: the student's classes. Those that the teacher does not predict are left out.
    """
    predicted = set(getattr(teacher.model, "class_names", class_names))
    limits = getattr(getattr(teacher.model, "dataset", None), "point_cloud_range", None)
    recall = {name: ClassRecall() for name in class_names if name in predicted}
    frames = 0
    outside = 0
    with _watch_norms(teacher.model) as norm_inputs:
        for batch_dict in batches:
            frames += int(batch_dict["batch_size"])
            detections = teacher.predict(batch_dict)
            for rows, detected in zip(batch_dict.get("gt_boxes", ()), detections):
                boxes = without_padding(rows)
                is_inside = _are_in_range(boxes, limits)
                outside += int((~is_inside).sum())
                _count_found(recall, class_names, boxes[is_inside], detected)
    has_labels = any(entry.boxes for entry in recall.values())
    return TeacherReport(
        frames=frames,
        recall=recall if has_labels else {},
        outside=outside,
        layers=[moments.compare(name) for name, moments in norm_inputs.items()],
    )


def check_on_first_frames(
    teacher: Teacher, data: TrainingData, device: torch.device
) -> TeacherReport:
    """``check_teacher`` on the first ``CHECKED_FRAMES`` frames, or fewer in ``CHECK_SECONDS``."""
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


def _are_in_range(boxes: Tensor, limits: np.ndarray | Sequence[float] | None) -> Tensor:
    """Whether the centre of each box (G, 8) lies within ``limits`` along x and y, (G,).

    Args:
        boxes: labelled boxes.
        limits: x, y, z minimum, then maximum; None for no limits.
    """
    if limits is None:
        return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    corners = torch.as_tensor(limits, dtype=boxes.dtype, device=boxes.device).reshape(2, 3)
    lowest, highest = corners[:, :2]
    return ((boxes[:, :2] >= lowest) & (boxes[:, :2] <= highest)).all(dim=1)


def _count_found(
    recall: dict[str, ClassRecall],
    class_names: Sequence[str],
    boxes: Tensor,
    detected: FrameBoxes,
) -> None:
    """Add one frame to ``recall``.

    Args:
        recall: by class name.
        class_names: of the labels from 1.
        boxes: (G, 8 or more) labelled boxes.
        detected: the teacher's boxes.
    """
    overlap = boxes_iou3d(boxes[:, :7].float(), detected["pred_boxes"][:, :7].float())
    for box, overlaps in zip(boxes, overlap > FOUND_IOU):
        label = int(box[-1])
        name = class_names[label - 1]
        if name not in recall:
            continue
        entry = recall[name]
        detected_labels = detected["pred_labels"][overlaps].tolist()
        entry.boxes += 1
        if label in detected_labels:
            entry.found += 1
        elif detected_labels:
            other = class_names[detected_labels[0] - 1]
            entry.taken_for[other] = entry.taken_for.get(other, 0) + 1


class _InputMoments:
    """Moments of the inputs of one batch normalisation layer, around its running mean.

    Sums over rows are taken in float32, of differences from the running mean so that few digits are
    lost; double precision would need twice the memory of the largest maps.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        self.running_mean = norm.running_mean
        self.running_var = norm.running_var
        self.eps = norm.eps
        self.count = 0.0
        self.sum = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, features: Tensor, row_weights: Tensor | None) -> None:
        """Add features (N, C) or (N, C, ...).

        Args:
            features: the input of the layer.
            row_weights: (N,) number of points in each row of (N, C); None for one each.
        """
        rows = features.detach().movedim(1, -1).reshape(-1, features.shape[1])
        difference = rows.float() - self.running_mean
        if row_weights is None:
            weights = difference.new_ones(len(rows))
        else:
            weights = row_weights.to(difference.dtype)
        self.count += float(weights.sum())
        self.sum = self.sum + (weights @ difference).double().cpu()
        self.squares = self.squares + (weights @ difference.square_()).double().cpu()

    def compare(self, name: str) -> LayerFit:
        """Mean and variance compared with the running statistics."""
        count = max(self.count, 1.0)
        running_variance = (self.running_var + self.eps).double().cpu()
        mean = self.sum / count
        variance = (self.squares / count - mean.square()).clamp_min(0) + self.eps
        offset = (mean.abs() / running_variance.sqrt()).median().item()
        spread = math.exp((variance / running_variance).log().median().item())
        return LayerFit(name, offset, spread)


@contextmanager
def _watch_norms(model: nn.Module) -> Iterator[dict[str, _InputMoments]]:
    """Record the inputs of every batch normalisation layer that uses its running statistics."""
    moments: dict[str, _InputMoments] = {}

    def record(name: str, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if len(inputs[0]) == 0:
            return
        if name not in moments:
            assert isinstance(norm, _BatchNorm)
            moments[name] = _InputMoments(norm)
        # Weighted batch norms get the number of points in each row as a second input.
        moments[name].add(inputs[0], inputs[1] if len(inputs) > 1 else None)

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            is_norm = isinstance(module, _BatchNorm)
            if is_norm and not module.training and module.running_mean is not None:
                handle = module.register_forward_hook(partial(record, name))
                hooks.callback(handle.remove)
        yield moments
