"""``distill(student, teacher, terms)``: the distiller around any two detectors that speak the batch_dict protocol.

A detector is an ``nn.Module`` whose ``forward(batch_dict)`` returns ``({"loss": ...}, tb_dict, disp_dict)`` in training
and ``(pred_dicts, recall_dict)`` in eval. Detectors of this package say by ``taps()`` what of them can be compared; of
any other the terms say it, or one batch run through it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import nearest, refuse_unknown_keys
from ..errors import ConfigError
from ..models import load_data_to_device
from ..models.eval_mode import evaluating
from ..models.taps import TAP_KINDS, TapInfo, capture
from ..ops.voxels import grid_size_of
from .classes import ClassMap
from .distill_head import DistillHead
from .distiller import Distiller
from .losses import DistillLoss
from .losses.old_interface import reads_taps
from .nodes import NodeGrid, grid_of
from .tap_source import TapSource
from .teacher import Teacher
from .term_classes import find_term_class

TAP_KEYS = ("PATH", "KIND", "CHANNELS", "STRIDE")
KEYS_OF_TAPS = ("STUDENT", "TEACHER", "SCORE_TAP")  # of a term
PLACED_BY = {
    "voxel_coords": "voxel",
    "point_coords": "point",
    "roi_point_coords": "roi",
}  # rows of features
HAS_NO_STRIDE = ("point", "roi")
Batch = Mapping[str, Any]


class VoxelSpace:
    """Range and voxels of detectors that have no dataset at hand: enough to know where a feature stands.

    Args:
        voxel_size: edge lengths along x, y, z in metres.
        point_cloud_range: x, y, z minimum, then maximum.
        class_names: in the order of their labels, which begin at 1; needed where the two detectors differ in them.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        class_names: Sequence[str] = (),
    ) -> None:
        limits = np.array(point_cloud_range, dtype=np.float32)
        if len(voxel_size) != 3 or min(voxel_size) <= 0:
            raise ConfigError(f"VoxelSpace: voxel_size {list(voxel_size)} is not three lengths")
        if limits.shape != (6,) or not (limits[3:] > limits[:3]).all():
            raise ConfigError(
                f"VoxelSpace: point_cloud_range {list(point_cloud_range)} is not x, y, z minimum, then "
                "maximum"
            )
        self.voxel_size, self.point_cloud_range = list(voxel_size), limits
        self.grid_size = grid_size_of(limits, voxel_size)
        self.class_names = list(class_names)


def distill(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    terms: Mapping[str, Mapping[str, Any]],
    *,
    student_data: Any = None,
    teacher_data: Any = None,
    example_batch: Batch | Callable[[], Batch] | None = None,
    teacher_mode: str = "eval",
) -> Distiller:
    """The module to train in place of ``student``; ``.student`` gives it back afterwards.

    Args:
        student: the detector that learns.
        teacher: a trained one; it is frozen and stays as it is.
        terms: what is compared, as under DISTILL.TERMS in a yaml file. STUDENT and TEACHER are tap paths, or blocks
            ``{PATH: ..., KIND: bev, CHANNELS: 64, STRIDE: 2}`` for detectors without ``taps()``.
        student_data: what has the voxels of the student's batches and its class names: a dataset, a DataSpec or a
            VoxelSpace; ``student.dataset`` when left out.
        teacher_data: the teacher's; ``teacher.dataset``, else the student's.
        example_batch: a batch, or a function that makes one when it is needed: what PATHs alone leave open is found by
            running the detectors on it once, in eval mode.
        teacher_mode: ``eval``, or ``train``: batch normalisation uses the statistics of the batch.
    """
    student_data = _first(student_data, getattr(student, "dataset", None))
    model = teacher.model if isinstance(teacher, Teacher) else teacher
    teacher_data = _first(teacher_data, getattr(model, "dataset", None), student_data)
    if not isinstance(terms, Mapping) or not terms:
        raise ConfigError("distill: expected at least one term, as {'LOCAL_GRAPH': {'NAME': ...}}")
    sources = [_Source("student", student, student_data), _Source("teacher", model, teacher_data)]
    if not isinstance(teacher, Teacher):
        teacher = Teacher(teacher, teacher_mode, _class_map(*sources))
    example = _Example(example_batch)
    found = []
    for source, keys in zip(sources, (("STUDENT",), ("TEACHER", "SCORE_TAP"))):
        entries = [
            (f"DISTILL.TERMS.{name}.{key}", term[key])
            for name, term in terms.items()
            for key in keys
            if _names_a_tap(term, key)
        ]
        found.append(
            TapSource(
                source.role,
                source.taps(entries, example),
                source.grid,
                source.model,
                tuple(source.class_names),
            )
        )
    return Distiller(student, teacher, DistillHead.from_config(_paths_only(terms), *found))


def _first(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def _names_a_tap(term: Any, key: str) -> bool:
    """Whether a term compares nodes and names a tap under ``key``. What is wrong with it is said when it is built."""
    if not isinstance(term, Mapping) or not term.get(key):
        return False
    try:
        term_class = find_term_class(str(term.get("NAME")), key)
    except ConfigError:
        return False
    return issubclass(term_class, DistillLoss) and reads_taps(term_class)


def _paths_only(terms: Mapping[str, Any]) -> dict[str, Any]:
    """The terms with every tap's block replaced by its path."""

    def plain(term: Any) -> Any:
        if not isinstance(term, Mapping):
            return term
        return {
            key: value["PATH"] if key in KEYS_OF_TAPS and isinstance(value, Mapping) else value
            for key, value in term.items()
        }

    return {name: plain(term) for name, term in terms.items()}


def _class_map(student: _Source, teacher: _Source) -> ClassMap | None:
    """Which class is which; None when one of the two does not tell its classes."""
    if not student.class_names or not teacher.class_names:
        return None
    return ClassMap(student.class_names, teacher.class_names)


class _Example:
    """The example batch, made when it is first asked for."""

    def __init__(self, batch: Batch | Callable[[], Batch] | None) -> None:
        self._batch = batch

    def __bool__(self) -> bool:
        return self._batch is not None

    def on(self, device: torch.device) -> dict[str, Any]:
        """A copy of it on ``device``."""
        if callable(self._batch):
            self._batch = self._batch()
        copy = dict(self._batch or {})
        load_data_to_device(copy, device)
        return copy


@dataclasses.dataclass(frozen=True)
class _Source:
    """One of the two detectors, and what describes its voxels."""

    role: str
    model: nn.Module
    data: Any

    @property
    def grid(self) -> NodeGrid | None:
        """Of its voxels."""
        return grid_of(self.data) if hasattr(self.data, "voxel_size") else None

    @property
    def class_names(self) -> list[str]:
        """Of its data, else its own; empty when neither says."""
        names = _first(
            getattr(self.data, "class_names", None), getattr(self.model, "class_names", None)
        )
        return list(names or ())

    def taps(self, entries: Iterable[tuple[str, Any]], example: _Example) -> dict[str, TapInfo]:
        """What the detector publishes, what the ``entries`` (where, path or block) say, and what a batch shows."""
        publish = getattr(self.model, "taps", None)
        known: dict[str, TapInfo] = dict(publish()) if callable(publish) else {}
        open_ends: dict[str, tuple[str, dict[str, Any]]] = {}
        for where, entry in entries:
            block = _tap_block(entry, where)
            path = block.pop("PATH")
            info = _told(path, block)
            if info is not None:
                known[path] = info
            elif path not in known:
                open_ends[path] = where, block
            else:
                known[path] = dataclasses.replace(known[path], **_fields(block))
        if open_ends and not (example or known):
            raise ConfigError(_cannot_tell(self.role, *next(iter(open_ends.items()))))
        if open_ends and example:
            known.update(self._look(open_ends, example))
        return known

    def _look(
        self, open_ends: Mapping[str, tuple[str, dict[str, Any]]], example: _Example
    ) -> dict[str, TapInfo]:
        """Run the example batch and see; what a block says comes first."""
        device = next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))
        batch_dict = example.on(device)
        features = _observe_once(self.model, list(open_ends), batch_dict)
        found = {}
        for path, (where, block) in open_ends.items():
            seen = _describe(features[path], batch_dict, self.grid, where, block)
            found[path] = TapInfo(path, **{**seen, **_fields(block)})
        return found


def _tap_block(entry: Any, where: str) -> dict[str, Any]:
    """``{PATH: ...}`` of a path or a block, checked."""
    block = dict(entry) if isinstance(entry, Mapping) else {"PATH": entry}
    refuse_unknown_keys(block, TAP_KEYS, where)
    if not isinstance(block.get("PATH"), str):
        raise ConfigError(
            f"{where}: expected a tap path such as 'backbone_2d', or a block with PATH, found {entry!r}"
        )
    if block.get("KIND", "bev") not in TAP_KINDS:
        raise ConfigError(
            f"{where}.KIND: unknown value '{block['KIND']}'{nearest(block['KIND'], TAP_KINDS)}"
        )
    for key in ("CHANNELS", "STRIDE"):
        value = block.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{where}.{key}: expected a whole number from 1 up, found {value!r}")
    return block


def _fields(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block as TapInfo names its fields."""
    return {key.lower(): value for key, value in block.items()}


def _told(path: str, block: Mapping[str, Any]) -> TapInfo | None:
    """The tap, when its block leaves nothing open."""
    kind, channels, stride = (block.get(key) for key in ("KIND", "CHANNELS", "STRIDE"))
    if kind is None or channels is None:
        return None
    if kind in HAS_NO_STRIDE or kind == "voxel":
        stride = 1 if kind == "voxel" else None
    elif stride is None:
        return None
    return TapInfo(path, channels, stride, kind)


def _cannot_tell(role: str, path: str, entry: tuple[str, dict[str, Any]]) -> str:
    """What to say of a tap that nothing describes."""
    return (
        f"{entry[0]}: the {role} does not say what '{path}' gives; write "
        f"{{PATH: {path}, KIND: bev, CHANNELS: 64, STRIDE: 2}} with its own values, or give an example_batch"
    )


@torch.no_grad()
def _observe_once(
    model: nn.Module, paths: Sequence[str], batch_dict: dict[str, Any]
) -> dict[str, Any]:
    """The features at ``paths``; the model is left as it was."""
    with evaluating(model), capture(model, paths, stop_when_complete=True) as features:
        getattr(model, "run_modules", model)(batch_dict)
    return features


def _describe(
    feature: Any, batch_dict: Batch, grid: NodeGrid | None, where: str, block: Mapping[str, Any]
) -> dict[str, Any]:
    """Kind, channels and stride of a feature that was seen."""
    kind = block.get("KIND") or _kind_of(feature, batch_dict, where)
    if kind == "sparse":
        return {
            "kind": kind,
            "channels": feature.features.shape[1],
            "stride": block.get("STRIDE") or _stride(grid, feature.spatial_shape, where),
        }
    if kind == "bev":
        return {
            "kind": kind,
            "channels": feature.shape[1],
            "stride": block.get("STRIDE") or _stride(grid, feature.shape, where),
        }
    return {"kind": kind, "channels": feature.shape[-1], "stride": 1 if kind == "voxel" else None}


def _kind_of(feature: Any, batch_dict: Batch, where: str) -> str:
    """What a feature must be, judged by its shape."""
    if isinstance(getattr(feature, "features", None), Tensor) and hasattr(feature, "spatial_shape"):
        return "sparse"
    if isinstance(feature, Tensor) and feature.dim() == 4:
        return "bev"
    if isinstance(feature, Tensor) and feature.dim() == 2:
        for key, kind in PLACED_BY.items():
            if key in batch_dict and len(batch_dict[key]) == len(feature):
                return kind
    seen = (
        f"a tensor {tuple(feature.shape)}"
        if isinstance(feature, Tensor)
        else f"a {type(feature).__name__}"
    )
    raise ConfigError(
        f"{where}: {seen} is neither a map (B, C, H, W), nor a sparse tensor, nor a row (N, C) for each "
        f"of {' or '.join(PLACED_BY)}; tap something else, or say its KIND"
    )


def _stride(grid: NodeGrid | None, shape: Sequence[int], where: str) -> int:
    """How many voxels a cell of a map (..., H, W) covers along x and y."""
    if grid is None:
        raise ConfigError(
            f"{where}: without the voxels of its data the stride of a map is not known; "
            "give STRIDE, and student_data or teacher_data"
        )
    width, height = int(shape[-1]), int(shape[-2])
    stride = max(1, round(grid.size[0] / width))
    coarse = grid.coarsen(stride).size
    if coarse[:2] != (width, height):
        raise ConfigError(
            f"{where}: a map of {width} x {height} cells does not divide the {grid.size[0]} x "
            f"{grid.size[1]} voxels evenly; give its STRIDE"
        )
    return stride
