"""Kind, channels and stride of a tap: as published, as stated in a term, or found on a batch.

A loss sizes its adapters and places its nodes by these. Detectors of this package publish them by
``taps()``. For another detector a term states them, or one batch is run through it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import nearest, refuse_unknown_keys
from ..errors import ConfigError
from ..models import load_data_to_device
from ..models.eval_mode import evaluating
from ..models.taps import TAP_KINDS, TapInfo, capture
from ..types import BatchDict, ConfigDict
from .node_converters import GRIDLESS_KINDS
from .nodes import NodeGrid
from .tap_source import Features

TAP_KEYS = ("PATH", "KIND", "CHANNELS", "STRIDE")

# Entries of a batch with one row for each row of a feature, and the kind of such a feature.
KIND_BY_COORDS = {
    "voxel_coords": "voxel",
    "point_coords": "point",
    "roi_point_coords": "roi",
}


class ExampleBatch:
    """A batch to try detectors on, made when it is first needed.

    Args:
        batch: the batch, a function that makes it, or None if there is none.
    """

    def __init__(self, batch: BatchDict | Callable[[], BatchDict] | None) -> None:
        self._batch = batch

    @property
    def is_given(self) -> bool:
        """Whether there is a batch."""
        return self._batch is not None

    def on(self, device: torch.device) -> BatchDict:
        """A copy on ``device``."""
        if callable(self._batch):
            self._batch = self._batch()
        copy = dict(self._batch or {})
        load_data_to_device(copy, device)
        return copy


@dataclasses.dataclass(frozen=True)
class _OpenTap:
    """A tap of which something is not stated.

    Attributes:
        path: the tap.
        where: key path of its entry, for errors.
        stated: what its entry states: KIND, CHANNELS, STRIDE.
    """

    path: str
    where: str
    stated: ConfigDict


def describe_taps(
    role: str,
    model: nn.Module,
    grid: NodeGrid | None,
    entries: Iterable[tuple[str, str | ConfigDict]],
    example: ExampleBatch,
) -> dict[str, TapInfo]:
    """All taps of a detector that it publishes or that the entries name.

    Args:
        role: ``student`` or ``teacher``, for errors.
        model: the detector.
        grid: the voxels of its data, if it has any.
        entries: key path and value of each tap in the terms: its path, or a block of TAP_KEYS.
        example: runs through the detector if entries leave something open.
    """
    publish = getattr(model, "taps", None)
    taps: dict[str, TapInfo] = dict(publish()) if callable(publish) else {}
    open_taps: dict[str, _OpenTap] = {}
    for where, entry in entries:
        path, stated = _read_entry(entry, where)
        complete = _complete_tap(path, stated)
        if complete is not None:
            taps[path] = complete
        elif path in taps:
            taps[path] = dataclasses.replace(taps[path], **_as_fields(stated))
        else:
            open_taps[path] = _OpenTap(path, where, stated)
    if open_taps and example.is_given:
        taps.update(_try_out(model, grid, list(open_taps.values()), example))
    elif open_taps and not taps:
        # With published taps the term itself raises an error that lists them.
        first = next(iter(open_taps.values()))
        raise ConfigError(
            f"{first.where}: the {role} does not publish what '{first.path}' gives; write "
            f"{{PATH: {first.path}, KIND: bev, CHANNELS: 64, STRIDE: 2}} with its own values, or "
            "give an example_batch"
        )
    return taps


def _read_entry(entry: object, where: str) -> tuple[str, ConfigDict]:
    """The path of a tap, and what its block states of it."""
    block = dict(entry) if isinstance(entry, Mapping) else {"PATH": entry}
    refuse_unknown_keys(block, TAP_KEYS, where)
    path = block.pop("PATH", None)
    if not isinstance(path, str):
        raise ConfigError(
            f"{where}: expected a tap path such as 'backbone_2d', or a block with PATH, "
            f"found {entry!r}"
        )
    if block.get("KIND", "bev") not in TAP_KINDS:
        raise ConfigError(
            f"{where}.KIND: unknown value '{block['KIND']}'{nearest(str(block['KIND']), TAP_KINDS)}"
        )
    for key in ("CHANNELS", "STRIDE"):
        value = block.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{where}.{key}: expected a whole number from 1 up, found {value!r}")
    return path, block


def _as_fields(stated: ConfigDict) -> dict[str, Any]:
    """The keys of a block as fields of TapInfo."""
    return {key.lower(): value for key, value in stated.items()}


def _complete_tap(path: str, stated: ConfigDict) -> TapInfo | None:
    """The tap, if its block states everything that its kind has."""
    kind = stated.get("KIND")
    channels = stated.get("CHANNELS")
    stride = stated.get("STRIDE")
    if kind is None or channels is None:
        return None
    if kind == "voxel":
        stride = 1
    elif kind in GRIDLESS_KINDS:
        stride = None
    elif stride is None:
        return None
    return TapInfo(path, channels, stride, kind)


def _try_out(
    model: nn.Module, grid: NodeGrid | None, open_taps: Sequence[_OpenTap], example: ExampleBatch
) -> dict[str, TapInfo]:
    """Describe taps by their features on the example batch. What a block states has precedence."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    batch_dict = example.on(device)
    features = _run_once(model, [tap.path for tap in open_taps], batch_dict)
    taps = {}
    for tap in open_taps:
        found = _describe(features[tap.path], batch_dict, grid, tap)
        taps[tap.path] = dataclasses.replace(found, **_as_fields(tap.stated))
    return taps


def _run_once(model: nn.Module, paths: Sequence[str], batch_dict: BatchDict) -> Features:
    """The features at ``paths``; the model is left as it was."""
    with evaluating(model), capture(model, paths, stop_when_complete=True) as features:
        getattr(model, "run_modules", model)(batch_dict)
    return features


def _describe(feature: Any, batch_dict: BatchDict, grid: NodeGrid | None, tap: _OpenTap) -> TapInfo:
    """Kind, channels and stride of a captured feature."""
    kind = tap.stated.get("KIND") or _kind_of(feature, batch_dict, tap.where)
    stride: int | None = tap.stated.get("STRIDE")
    if kind == "sparse":
        channels = feature.features.shape[1]
        stride = stride or _stride_of(grid, feature.spatial_shape, tap.where)
    elif kind == "bev":
        channels = feature.shape[1]
        stride = stride or _stride_of(grid, feature.shape, tap.where)
    else:
        channels = feature.shape[-1]
        stride = 1 if kind == "voxel" else None
    return TapInfo(tap.path, channels, stride, kind)


def _kind_of(feature: Any, batch_dict: BatchDict, where: str) -> str:
    """The kind of a feature, from its type and shape."""
    if isinstance(getattr(feature, "features", None), Tensor) and hasattr(feature, "spatial_shape"):
        return "sparse"
    if isinstance(feature, Tensor) and feature.dim() == 4:
        return "bev"
    if isinstance(feature, Tensor) and feature.dim() == 2:
        for key, kind in KIND_BY_COORDS.items():
            if key in batch_dict and len(batch_dict[key]) == len(feature):
                return kind
    shown = f"a {type(feature).__name__}"
    if isinstance(feature, Tensor):
        shown = f"a tensor {tuple(feature.shape)}"
    raise ConfigError(
        f"{where}: {shown} is neither a map (B, C, H, W), nor a sparse tensor, nor a row (N, C) "
        f"for each of {' or '.join(KIND_BY_COORDS)}; tap something else, or state its KIND"
    )


def _stride_of(grid: NodeGrid | None, shape: Sequence[int], where: str) -> int:
    """How many voxels a cell of a map (..., H, W) covers along x and y."""
    if grid is None:
        raise ConfigError(
            f"{where}: without the voxels of its data the stride of a map is not known; "
            "give STRIDE, and student_data or teacher_data"
        )
    height = int(shape[-2])
    width = int(shape[-1])
    stride = max(1, round(grid.size[0] / width))
    coarse = grid.coarsen(stride).size
    if coarse[:2] != (width, height):
        raise ConfigError(
            f"{where}: a map of {width} x {height} cells does not divide the {grid.size[0]} x "
            f"{grid.size[1]} voxels evenly; give its STRIDE"
        )
    return stride
