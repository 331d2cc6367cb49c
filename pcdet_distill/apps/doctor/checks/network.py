"""The model itself: whether it can be built, run and trained on a frame of these data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ....errors import UserError
from ....models import Detector3DTemplate, build_network
from ..case import Case
from ..finding import Finding, Severity
from ..frames import Frame
from ..single_frame import batch_of
from .voxels import map_stride

CHECK = "network"
BACKBONE = "backbone_2d"


def check_network(case: Case) -> Iterator[Finding]:
    """Build the model with random weights, and run it on one frame in both modes."""
    frame = _fullest(case)
    if not case.model or frame is None or not case.runs_model:
        return
    try:
        torch.manual_seed(0)
        model = build_network(case.model, len(case.class_names), case.spec)
    except (UserError, AssertionError, ValueError, TypeError, KeyError, RuntimeError) as error:
        yield _failed("it cannot be built", error)
        return
    yield from _runs(case, model, frame)


def _failed(what: str, error: Exception) -> Finding:
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return Finding(CHECK, Severity.ERROR, "MODEL", f"{what}: {name}{error}")


def _fullest(case: Case) -> Frame | None:
    """The frame with the most objects of those whose points are at hand."""
    frames = [frame for split in case.splits.values() for frame in split.clouds]
    frames = [frame for frame in frames if frame.num_points and frame.objects is not None]
    return max(frames, key=lambda frame: len(frame.objects.objects), default=None)  # type: ignore[union-attr]


def _runs(case: Case, model: Detector3DTemplate, frame: Frame) -> Iterator[Finding]:
    try:
        model.eval()
        with torch.no_grad():
            stride = _true_stride(case, model, frame)
        if stride is not None:
            yield stride
            return
        with torch.no_grad():
            model(batch_of(case, frame))
        model.train()
        loss = model(batch_of(case, frame))[0]["loss"]
    except Exception as error:  # noqa: BLE001 (a wrong shape can fail anywhere)
        yield _failed(f"it fails on frame {frame.name}", error)
        return
    if not torch.isfinite(loss):
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"MODEL, frame {frame.name}",
            f"the loss of the untrained model is {float(loss)}",
            fix="look at the boxes and points of this frame for impossible numbers",
            frames=(frame.name,),
        )


def _true_stride(case: Case, model: Detector3DTemplate, frame: Frame) -> Finding | None:
    """feature_map_stride against the map that the backbone makes."""
    wanted = map_stride(case)
    if not wanted or model.backbone_2d is None or case.spec.grid_size is None:
        return None
    with contextlib.suppress(KeyError):
        batch = model.run_modules(batch_of(case, frame), until=BACKBONE)
        width = int(batch["spatial_features_2d"].shape[-1])
        stride = round(int(case.spec.grid_size[0]) / width)
        if stride == wanted:
            return None
        return _wrong_stride(case, wanted, stride)
    return None


def _wrong_stride(case: Case, wanted: int, stride: int) -> Finding:
    changes: dict[str, object] = {}
    entries = case.head.get("ANCHOR_GENERATOR_CONFIG") or ()
    for number in range(len(entries)):
        path = f"MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG.{number}.feature_map_stride"
        changes[path] = stride
    if not entries:
        changes["MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG.FEATURE_MAP_STRIDE"] = stride
    return Finding(
        CHECK,
        Severity.ERROR,
        "MODEL.DENSE_HEAD, feature_map_stride",
        f"the head expects a cell of {wanted} voxels, but the backbone makes cells of {stride}: "
        "anchors and features do not lie on each other",
        fix="write the stride of the backbone's map",
        changes=changes,
    )
