"""Teacher: a trained detector whose features and boxes are read and that never changes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ..config import nearest
from ..errors import ConfigError, DataError
from ..models.taps import capture
from ..models.trainable import Processes
from ..moved import forward_names, warn_renamed
from ..types import BatchDict, ConfigDict
from .classes import ClassMap
from .precision import check_precision, computing_in, in_float32
from .tap_source import Features
from .teacher_memory import TeacherMemory

MODES = ("eval", "train")

# Key of a batch: the same augmented points, processed as the teacher's DATA_PROCESSOR does it.
VIEW = "teacher"
# Entries of a batch that come from the DATA_PROCESSOR.
PROCESSED = frozenset({"points", "voxels", "voxel_coords", "voxel_num_points", "use_lead_xyz"})

# Boxes of one frame: pred_boxes (K, 7 + C), pred_scores (K,), pred_labels (K,) from 1.
FrameBoxes: TypeAlias = dict[str, Tensor]
Output = TypeVar("Output")


class Predictor(Protocol):
    """Predicts the objects of a batch."""

    def predict(self, batch_dict: BatchDict) -> list[FrameBoxes]:
        """Boxes of every frame, with the student's labels."""


@dataclasses.dataclass(frozen=True)
class TeacherOutput:
    """What one run of the teacher returns.

    Attributes:
        features: by tap path.
        batch_dict: the teacher's own batch, with everything that its modules added.
        boxes: of every frame, with the student's labels; empty if the run ended at the last tap.
    """

    features: Features
    batch_dict: BatchDict
    boxes: list[FrameBoxes] = dataclasses.field(default_factory=list)


class Teacher:
    """A frozen detector.

    It is a plain class. As attribute of a module it is no submodule, so it is not trained, not
    saved and not wrapped by DDP.

    Args:
        model: a detector. Without a method ``run_modules(batch_dict)`` its forward pass is run, as
            far as needed.
        mode: ``eval``, or ``train``: batch normalisation uses the statistics of the batch, as in
            the published code of several methods. The running statistics never change.
        classes: translates its labels to the student's; None if they are the same.
        own_view: it needs batches whose entry ``teacher`` has the points as its own DATA_PROCESSOR
            makes them.
        memory: keeps its outputs for batches that come again; None if no batch does.
        precision: the number format in which it computes, a key of ``PRECISIONS``.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: str = "eval",
        classes: ClassMap | None = None,
        own_view: bool = False,
        memory: TeacherMemory | None = None,
        *,
        precision: str = "training",
    ) -> None:
        check_precision(precision)
        if mode not in MODES:
            raise ConfigError(f"DISTILL.TEACHER.MODE: unknown value '{mode}'{nearest(mode, MODES)}")
        self.model = model.eval().requires_grad_(False)
        self.mode = mode
        self.classes = None if classes is None or classes.is_identity else classes
        self.own_view = own_view
        self.memory = memory
        self.precision = precision
        if mode == "train":
            _use_batch_statistics(model)

    def features(self, batch_dict: BatchDict, paths: Sequence[str]) -> Features:
        """The features at the taps ``paths``. ``batch_dict`` stays as it is.

        The teacher runs no further than its last tap.
        """
        return self.run(batch_dict, paths).features

    def predict(self, batch_dict: BatchDict) -> list[FrameBoxes]:
        """Decoded boxes of every frame, as of the detector in eval, with the student's labels."""
        return self.run(batch_dict, with_boxes=True).boxes

    @torch.no_grad()
    def run(
        self, batch_dict: BatchDict, paths: Sequence[str] = (), *, with_boxes: bool = False
    ) -> TeacherOutput:
        """Run the teacher once: to its end for boxes, otherwise as far as the last of the taps.

        Args:
            batch_dict: the batch; it stays as it is.
            paths: the taps whose features are captured.
            with_boxes: predict boxes too.
        """
        own_batch = self.own_batch(batch_dict)
        if with_boxes:
            boxes, features = self._remembered(
                batch_dict, ("boxes", *paths), lambda: self._run_to_end(own_batch, paths)
            )
            return TeacherOutput(features, own_batch, boxes)
        if not paths:
            return TeacherOutput({}, own_batch)
        features = self._remembered(batch_dict, paths, lambda: self._run_for_taps(own_batch, paths))
        return TeacherOutput(features, own_batch)

    def observe(self, batch_dict: BatchDict, paths: Sequence[str]) -> Features:
        """The old name of ``features``."""
        warn_renamed("Teacher.observe", "Teacher.features")
        return self.features(batch_dict, paths)

    def look(self, batch_dict: BatchDict, paths: Sequence[str]) -> tuple[Features, BatchDict]:
        """The old form of ``run``: the features and the teacher's own batch."""
        warn_renamed("Teacher.look", "Teacher.run")
        output = self.run(batch_dict, paths)
        return output.features, output.batch_dict

    def predict_and_look(
        self, batch_dict: BatchDict, paths: Sequence[str]
    ) -> tuple[list[FrameBoxes], Features, BatchDict]:
        """The old form of ``run(..., with_boxes=True)``."""
        warn_renamed("Teacher.predict_and_look", "Teacher.run(..., with_boxes=True)")
        output = self.run(batch_dict, paths, with_boxes=True)
        return output.boxes, output.features, output.batch_dict

    def own_batch(self, batch_dict: BatchDict) -> BatchDict:
        """A new dict with the teacher's inputs: the student's points, or those of its own view."""
        shared = {key: value for key, value in batch_dict.items() if key != VIEW}
        if VIEW in batch_dict:
            unprocessed = {key: value for key, value in shared.items() if key not in PROCESSED}
            return {**unprocessed, **batch_dict[VIEW]}
        if self.own_view:
            raise DataError(
                "the teacher processes points differently from the student, but the batch has "
                f"no '{VIEW}' entry; let the dataset make it: "
                f"dataset.add_view('{VIEW}', PointView(...))"
            )
        return shared

    def prepare_data(
        self, processes: Processes, device: torch.device, logger: logging.Logger
    ) -> None:
        """Before any batch is loaded. A teacher that runs in every step needs nothing."""

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """What ``nn.Module.to`` and its like do to a submodule."""
        self.model._apply(function)

    def _run_for_taps(self, own_batch: BatchDict, paths: Sequence[str]) -> Features:
        with (
            computing_in(self.precision, own_batch),
            capture(self.model, paths, stop_when_complete=True) as features,
        ):
            if hasattr(self.model, "run_for_taps"):
                self.model.run_for_taps(own_batch, paths)  # type: ignore[operator]
            else:
                getattr(self.model, "run_modules", self.model)(own_batch)
        return self._for_losses(features)

    def _for_losses(self, features: Features) -> Features:
        """Features as a loss gets them: without half precision, unless the training has it."""
        return features if self.precision == "training" else in_float32(features)

    def _run_to_end(
        self, own_batch: BatchDict, paths: Sequence[str]
    ) -> tuple[list[FrameBoxes], Features]:
        boxes, features = self.detect(own_batch, paths)
        return self.with_students_labels(boxes), features

    @torch.no_grad()
    def detect(
        self, own_batch: BatchDict, paths: Sequence[str] = ()
    ) -> tuple[list[FrameBoxes], Features]:
        """Boxes of every frame with the teacher's own labels, and the features at ``paths``.

        Args:
            own_batch: the teacher's own batch; receives what its modules add.
            paths: the taps whose features are captured.
        """
        # A detector in eval with labels at hand would compute recalls, which are not used.
        own_batch.pop("gt_boxes", None)
        with computing_in(self.precision, own_batch), capture(self.model, paths) as features:
            boxes = self.model(own_batch)[0]
        return boxes, self._for_losses(features)

    def with_students_labels(self, boxes: list[FrameBoxes]) -> list[FrameBoxes]:
        """Boxes of every frame, of the student's classes only, with the student's labels."""
        if self.classes is None:
            return boxes
        return [self.classes.relabel(frame) for frame in boxes]

    def _remembered(
        self, batch_dict: BatchDict, requested: Sequence[str], compute: Callable[[], Output]
    ) -> Output:
        """``compute()``, or its earlier result for this very batch.

        Args:
            batch_dict: the batch; its points identify it.
            requested: what ``compute`` returns.
            compute: runs the teacher.
        """
        if self.memory is None:
            return compute()
        inputs: ConfigDict = batch_dict.get(VIEW, batch_dict)
        # Voxels follow from the points. Batches of voxels alone are identified by these.
        keys = ["points"] if "points" in inputs else sorted(PROCESSED)
        tensors = [inputs[key] for key in keys if isinstance(inputs.get(key), Tensor)]
        return self.memory.recall(tensors, requested, compute)


class TeacherPass:
    """The teacher on the batch of one training step. It runs once.

    A batch transform may need its boxes before the student runs, the losses need its features
    afterwards: if boxes come first, the same run captures the features.

    Args:
        teacher: the teacher.
        paths: the taps whose features the losses compare.
    """

    def __init__(self, teacher: Teacher, paths: Sequence[str]) -> None:
        self.teacher = teacher
        self.paths = paths
        self._output: TeacherOutput | None = None

    def predict(self, batch_dict: BatchDict) -> list[FrameBoxes]:
        """``Teacher.predict``."""
        if self._output is None:
            self._output = self.teacher.run(batch_dict, self.paths, with_boxes=True)
        return self._output.boxes

    def run(self, batch_dict: BatchDict) -> TeacherOutput:
        """The features at the taps, without a second run."""
        if self._output is None:
            self._output = self.teacher.run(batch_dict, self.paths)
        return self._output


def _use_batch_statistics(model: nn.Module) -> None:
    """Let batch normalisation use the statistics of the batch; the running ones stay."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.track_running_stats = False


__getattr__ = forward_names(__name__, "pcdet_distill.distill", ["build_teacher", "find_teacher"])
