"""Teacher: a trained detector that is looked at and never changes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import (
    TeacherOptions,
    errors_name_file,
    find_file,
    load_config,
    nearest,
    read_options,
)
from ..datasets.spec import DataSpec
from ..datasets.view import PointView, processing_of
from ..errors import ConfigError, DataError
from ..models import build_network
from ..models.taps import capture
from ..types import ConfigDict
from .classes import ClassMap
from .deprecated import warn_renamed
from .teacher_memory import TeacherMemory

MODES = ("eval", "train")
VIEW = "teacher"  # key of a batch: the same augmented points as the teacher's own DATA_PROCESSOR makes them
PROCESSED = frozenset({"points", "voxels", "voxel_coords", "voxel_num_points", "use_lead_xyz"})

BatchDict = Mapping[str, Any]
Feature = Any  # a tensor, a sparse tensor, or a dict of tensors


class Predictor(Protocol):
    """Knows where the objects of a batch are."""

    def predict(self, batch_dict: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        """Boxes of every frame, in the student's classes."""


@dataclasses.dataclass(frozen=True)
class TeacherOutput:
    """What one run of the teacher gives.

    Attributes:
        features: by tap path.
        batch_dict: the teacher's own batch, with everything that its modules added.
        boxes: of every frame, in the student's classes; empty when the run stopped at the last tap.
    """

    features: dict[str, Feature]
    batch_dict: dict[str, Any]
    boxes: list[dict[str, Tensor]] = dataclasses.field(default_factory=list)


class Teacher:
    """A frozen detector. A plain class: assigned to a module it is no submodule, so nothing trains, saves or wraps it.

    Args:
        model: a detector; of one without ``run_modules(batch_dict)`` the forward pass is run, as far as needed.
        mode: ``eval``, or ``train``: batch normalisation uses the statistics of the batch, as the published
            distillation code runs its teacher. The running statistics stay untouched in both.
        classes: which of its classes is which of the student's; None when they are the same.
        own_view: it needs batches whose entry ``teacher`` holds the points as its own DATA_PROCESSOR makes them.
        memory: keeps what it says of batches that come again; None where none does.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: str = "eval",
        classes: ClassMap | None = None,
        own_view: bool = False,
        memory: TeacherMemory | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"DISTILL.TEACHER.MODE: unknown value '{mode}'{nearest(mode, MODES)}")
        self.model = model.eval().requires_grad_(False)
        self.mode = mode
        self.classes = None if classes is None or classes.is_identity else classes
        self.own_view, self.memory = own_view, memory
        if mode == "train":
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
                    module.track_running_stats = False

    def own_batch(self, batch_dict: Mapping[str, Any]) -> dict[str, Any]:
        """What the teacher sees of a batch, in a dict of its own: the student's points, or those processed for it."""
        shared = {key: value for key, value in batch_dict.items() if key != VIEW}
        if VIEW not in batch_dict:
            if self.own_view:
                raise DataError(
                    f"the teacher processes points in another way than the student, but the batch has no "
                    f"'{VIEW}' entry; let the dataset make it: dataset.add_view('{VIEW}', PointView(...))"
                )
            return shared
        return {
            **{key: value for key, value in shared.items() if key not in PROCESSED},
            **batch_dict[VIEW],
        }

    def features(self, batch_dict: BatchDict, paths: Sequence[str]) -> dict[str, Feature]:
        """The features at the taps ``paths``. ``batch_dict`` stays as it is.

        The teacher runs no further than its last tap.
        """
        return self.run(batch_dict, paths).features

    def predict(self, batch_dict: BatchDict) -> list[dict[str, Tensor]]:
        """Decoded boxes of every frame, as the detector gives them in eval, with the student's labels."""
        return self.run(batch_dict, with_boxes=True).boxes

    @torch.no_grad()
    def run(
        self, batch_dict: BatchDict, paths: Sequence[str] = (), *, with_boxes: bool = False
    ) -> TeacherOutput:
        """Run the teacher once: to its end for boxes, otherwise as far as the last of the taps ``paths``."""
        own_batch = self.own_batch(batch_dict)
        if with_boxes:
            asked = ("boxes", *paths)
            boxes, features = self._remembered(
                batch_dict, asked, lambda: self._boxes_and_features(own_batch, paths)
            )
            return TeacherOutput(features, own_batch, boxes)
        if not paths:
            return TeacherOutput({}, own_batch)
        features = self._remembered(batch_dict, paths, lambda: self._features(own_batch, paths))
        return TeacherOutput(features, own_batch)

    def observe(self, batch_dict: BatchDict, paths: Sequence[str]) -> dict[str, Feature]:
        """The old name of ``features``."""
        warn_renamed("Teacher.observe", "Teacher.features")
        return self.features(batch_dict, paths)

    def _features(self, own_batch: dict[str, Any], paths: Sequence[str]) -> dict[str, Feature]:
        with capture(self.model, paths, stop_when_complete=True) as features:
            if hasattr(self.model, "run_for_taps"):
                self.model.run_for_taps(own_batch, paths)  # type: ignore[operator]
            else:
                getattr(self.model, "run_modules", self.model)(own_batch)
        return features

    def _boxes_and_features(self, own_batch: dict[str, Any], paths: Sequence[str]) -> list[Any]:
        own_batch.pop("gt_boxes", None)
        with capture(self.model, paths) as features:
            boxes = self.model(own_batch)[0]
        if self.classes is not None:
            boxes = [self.classes.relabel(frame) for frame in boxes]
        return [boxes, features]

    def _remembered(
        self, batch_dict: BatchDict, asked: Sequence[str], compute: Callable[[], Any]
    ) -> Any:
        """``compute()``, or its result for this very batch from the memory."""
        if self.memory is None:
            return compute()
        seen = batch_dict.get(VIEW, batch_dict)
        keys = ("points",) if "points" in seen else sorted(PROCESSED)
        inputs = [seen[key] for key in keys if isinstance(seen.get(key), Tensor)]
        return self.memory.recall(inputs, asked, compute)

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """What ``nn.Module.to`` and its like do to a submodule."""
        self.model._apply(function)


class TeacherPass:
    """One batch of a training step. The teacher runs on it once, to its end if a batch transform needs boxes.

    Args:
        teacher: the teacher.
        paths: the taps whose features the losses compare.
    """

    def __init__(self, teacher: Teacher, paths: Sequence[str]) -> None:
        self.teacher = teacher
        self.paths = paths
        self._output: TeacherOutput | None = None

    def predict(self, batch_dict: BatchDict) -> list[dict[str, Tensor]]:
        """``Teacher.predict``; the same run also records the features."""
        if self._output is None:
            self._output = self.teacher.run(batch_dict, self.paths, with_boxes=True)
        return self._output.boxes

    def run(self, batch_dict: BatchDict) -> TeacherOutput:
        """The features at the taps, without a second run."""
        if self._output is None:
            self._output = self.teacher.run(batch_dict, self.paths)
        return self._output


def build_teacher(
    cfg: Mapping[str, Any],
    dataset: Any,
    checkpoint: str | Path | None = None,
    logger: logging.Logger | None = None,
    *,
    runs_in_training: bool = True,
) -> Teacher:
    """The teacher of a config's DISTILL.TEACHER block, with its weights.

    Args:
        cfg: the student's whole config.
        dataset: the student's dataset or DataSpec. When the teacher has other voxels, range or point features, the
            dataset is told to process its points for the teacher too.
        checkpoint: takes the place of DISTILL.TEACHER.CKPT.
        logger: told in what the teacher differs from the student.
        runs_in_training: False for a teacher that will only give its weights: then no points are processed for it.
    """
    teacher_cfg, file = find_teacher(cfg, checkpoint)
    spec = DataSpec.from_config(teacher_cfg["DATA_CONFIG"], teacher_cfg["CLASS_NAMES"])
    classes = ClassMap(cfg["CLASS_NAMES"], spec.class_names)
    _refuse_other_places(dataset, spec)
    with errors_name_file(teacher_cfg):  # type: ignore[arg-type]
        model = build_network(teacher_cfg["MODEL"], len(spec.class_names), spec)
        own_view = runs_in_training and _add_view(
            cfg["DATA_CONFIG"], dataset, teacher_cfg["DATA_CONFIG"]
        )
    load_model_state(
        model,
        load_checkpoint(file)["model_state"],
        strict=True,
        where=f"{file}, as the teacher of {teacher_cfg.get('CONFIG_FILE')}",
    )
    if logger is not None:
        _log_differences(logger, spec, classes, own_view)
    options = _teacher_options(cfg)
    memory = _memory(options.reuse, dataset, runs_in_training)
    return Teacher(model, options.mode, classes, own_view, memory)


def _teacher_options(cfg: ConfigDict) -> TeacherOptions:
    """The DISTILL.TEACHER block of the student's config."""
    return read_options(TeacherOptions, cfg["DISTILL"].get("TEACHER") or {}, "DISTILL.TEACHER")


def _memory(shows: int, dataset: Any, runs_in_training: bool) -> TeacherMemory | None:
    """The memory of a teacher whose batches come REUSE epochs in a row; the dataset is told to repeat them."""
    where = "DISTILL.TEACHER.REUSE"
    if shows == 1:
        return None
    if not runs_in_training:
        raise ConfigError(f"{where}: has no effect without DISTILL.TERMS; remove it")
    if not hasattr(dataset, "repeat_draws"):
        raise ConfigError(
            f"{where}: {type(dataset).__name__} cannot repeat its augmented frames; remove it"
        )
    try:
        dataset.repeat_draws(shows)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return TeacherMemory(shows)


def find_teacher(
    cfg: Mapping[str, Any], checkpoint: str | Path | None = None
) -> tuple[Mapping[str, Any], Path]:
    """The config that the teacher of a DISTILL.TEACHER block was trained with, and the file with its weights.

    Args:
        cfg: the student's whole config.
        checkpoint: takes the place of DISTILL.TEACHER.CKPT.
    """
    options = _teacher_options(cfg)
    file = _checkpoint_file(cfg, options, checkpoint)
    return _teacher_config(cfg, options, file), file


def _teacher_config(
    cfg: Mapping[str, Any], options: TeacherOptions, checkpoint: Path
) -> Mapping[str, Any]:
    """The config the teacher was trained with: CFG_FILE's, or this one with the teacher's MODEL block in it."""
    if options.cfg_file:
        return load_config(_found(options.cfg_file, cfg, "DISTILL.TEACHER.CFG_FILE"))
    if options.model:
        return {**cfg, "MODEL": options.model}
    raise ConfigError(
        f"DISTILL.TEACHER.CFG_FILE is missing: the yaml file the teacher {checkpoint} was trained with"
    )


def _checkpoint_file(
    cfg: Mapping[str, Any], options: TeacherOptions, given: str | Path | None
) -> Path:
    """``given``, or CKPT: relative to the working directory, else found as other files named in a config are."""
    if given:
        return Path(given)
    name = options.ckpt
    if not name:
        raise ConfigError(
            "DISTILL.TEACHER.CKPT: the teacher has no checkpoint; name one there or by --teacher_ckpt"
        )
    return Path(name) if Path(name).is_file() else _found(name, cfg, "DISTILL.TEACHER.CKPT")


def _found(name: str, cfg: Mapping[str, Any], where: str) -> Path:
    """A file named in a config; ``where`` is the key that names it."""
    try:
        return find_file(name, near=Path(cfg.get("CONFIG_FILE") or Path.cwd()))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _refuse_other_places(student: Any, teacher: Any) -> None:
    """Features meet by place: refuse ranges that share none."""
    own, theirs = (np.asarray(data.point_cloud_range) for data in (student, teacher))
    if not (np.maximum(own[:3], theirs[:3]) < np.minimum(own[3:], theirs[3:])).all():
        raise ConfigError(
            f"DISTILL.TEACHER: the teacher's POINT_CLOUD_RANGE {_numbers(theirs)} does not overlap the "
            f"student's {_numbers(own)}, so nothing can be compared"
        )


def _add_view(student_cfg: Mapping[str, Any], dataset: Any, teacher_cfg: Mapping[str, Any]) -> bool:
    """Let the dataset process its points for the teacher too where that makes a difference; whether it does.

    Pairs of values for training and testing are taken as the student's: voxels that only one of them keeps could not
    be compared.
    """
    training = bool(getattr(dataset, "training", True))
    if processing_of(teacher_cfg, training) == processing_of(student_cfg, training):
        return False
    view = PointView(teacher_cfg, dataset.point_feature_encoder.src_feature_list, training)
    if hasattr(dataset, "add_view"):
        dataset.add_view(VIEW, view)
    return True


def _log_differences(
    logger: logging.Logger, spec: DataSpec, classes: ClassMap, own_view: bool
) -> None:
    """One line for each thing in which the teacher is not like the student."""
    if own_view:
        voxels = (
            "no voxels" if spec.voxel_size is None else f"voxels of {_numbers(spec.voxel_size)} m"
        )
        logger.info(
            "teacher: the points are processed for it too (%s, range %s, features %s)",
            voxels,
            _numbers(spec.point_cloud_range),
            ", ".join(spec.point_feature_encoder.used_feature_list),
        )
    if classes.missing:
        logger.info(
            "teacher: it does not know %s, so what compares classes leaves them out",
            ", ".join(classes.missing),
        )
    if classes.surplus:
        logger.info(
            "teacher: the student has no %s, so the teacher's are left out",
            ", ".join(classes.surplus),
        )


def _numbers(values: Any) -> list[float]:
    """Readable whatever the float type."""
    return [round(float(value), 5) for value in values]
