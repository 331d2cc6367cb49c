"""Slips in OPTIMIZATION, and in what turns predictions into detections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....types import ConfigDict
from ..case import Case
from ..finding import Finding, Severity, numbers, percent

CHECK = "training"
USUAL_LR = (1e-5, 2e-2)
FEW_STEPS = 1000
HIGH_SCORE = 0.35
LOOSE_NMS = 0.8
OUTSIDE = 0.01


def check_training(case: Case) -> Iterator[Finding]:
    """Whether the numbers of the training and of the detections can be meant."""
    optimization = case.cfg.get("OPTIMIZATION")
    if optimization:
        yield from _optimization(case, optimization)
    settings = case.head.get("POST_PROCESSING")
    path = "MODEL.DENSE_HEAD.POST_PROCESSING"
    if settings is None:
        settings, path = case.model.get("POST_PROCESSING"), "MODEL.POST_PROCESSING"
    if settings:
        yield from _detections(case, settings, path)
    yield from _centres(case)


def _optimization(case: Case, block: ConfigDict) -> Iterator[Finding]:
    rate = block.get("LR")
    is_adam = str(block.get("OPTIMIZER", "")).startswith("adam")
    if is_adam and rate is not None and not USUAL_LR[0] <= float(rate) <= USUAL_LR[1]:
        yield Finding(
            CHECK,
            Severity.WARNING if float(rate) < 10 * USUAL_LR[1] else Severity.ERROR,
            "OPTIMIZATION.LR",
            f"{rate} is unusual for {block['OPTIMIZER']}: detectors are trained with 0.001 to "
            "0.01; a larger rate makes the loss NaN, a smaller one learns nothing",
            fix="take the rate of a similar config",
            changes={"OPTIMIZATION.LR": 0.003},
        )
    yield from _schedule(block)
    batch = int(block.get("BATCH_SIZE_PER_GPU") or 0)
    epochs = int(block.get("NUM_EPOCHS") or 0)
    train = case.splits.get("train")
    if train is None or batch <= 0 or epochs <= 0:
        return
    frames = len(train.all_names)
    steps = -(-frames // batch) * epochs
    if steps < FEW_STEPS:
        yield Finding(
            CHECK,
            Severity.NOTE,
            "OPTIMIZATION.NUM_EPOCHS",
            f"{frames} frames, batches of {batch} and {epochs} epochs are {steps} steps; detectors "
            f"need thousands, so scores may stay low",
            fix=f"for 2000 steps: --epochs {-(-2000 * batch // frames)}",
        )


def _schedule(block: ConfigDict) -> Iterator[Finding]:
    start = block.get("PCT_START")
    if start is not None and not 0 < float(start) < 1:
        yield Finding(
            CHECK,
            Severity.ERROR,
            "OPTIMIZATION.PCT_START",
            f"{start} is not a share of the training between 0 and 1",
            fix="usual is 0.4",
            changes={"OPTIMIZATION.PCT_START": 0.4},
        )
    clip = block.get("GRAD_NORM_CLIP")
    if clip is not None and float(clip) <= 0:
        yield Finding(
            CHECK,
            Severity.ERROR,
            "OPTIMIZATION.GRAD_NORM_CLIP",
            f"{clip} sets every gradient to zero",
            fix="usual is 10",
            changes={"OPTIMIZATION.GRAD_NORM_CLIP": 10},
        )


def _detections(case: Case, settings: ConfigDict, path: str) -> Iterator[Finding]:
    score = settings.get("SCORE_THRESH")
    if isinstance(score, (int, float)) and score > HIGH_SCORE:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"{path}.SCORE_THRESH",
            f"detections below {score} are dropped before the evaluation, which cuts off recall; "
            "AP ranks detections by score itself",
            fix="0.1, and choose a threshold when the detector is used",
            changes={f"{path}.SCORE_THRESH": 0.1},
        )
    nms = settings.get("NMS_CONFIG") or {}
    overlap = nms.get("NMS_THRESH")
    if isinstance(overlap, (int, float)) and overlap > LOOSE_NMS:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"{path}.NMS_CONFIG.NMS_THRESH",
            f"boxes may overlap by {overlap} and both stay: each object is found several times, "
            "and all but one count as false",
            fix="usual is 0.01 to 0.2",
            changes={f"{path}.NMS_CONFIG.NMS_THRESH": 0.1},
        )
    most = max((_objects_in(frame) for frame in case.frames()), default=0)
    for key, holder, place in (
        ("NMS_POST_MAXSIZE", nms, f"{path}.NMS_CONFIG"),
        ("MAX_OBJ_PER_SAMPLE", settings, path),
    ):
        limit = holder.get(key)
        if isinstance(limit, int) and limit < most:
            yield Finding(
                CHECK,
                Severity.WARNING,
                f"{place}.{key}",
                f"{limit} detections of a frame are kept, but a frame has up to {most} objects",
                changes={f"{place}.{key}": 2 * most},
                fix="keep twice the objects of the fullest frame",
            )


def _objects_in(frame: object) -> int:
    objects = getattr(frame, "objects", None)
    return 0 if objects is None else len(objects.objects)


def _centres(case: Case) -> Iterator[Finding]:
    """CenterHead: its own range of detections, and the number of objects it can learn."""
    settings = case.head.get("POST_PROCESSING") or {}
    limits = settings.get("POST_CENTER_LIMIT_RANGE")
    boxes = case.boxes()
    if limits and len(boxes):
        own = np.array(case.data["POINT_CLOUD_RANGE"], dtype=float)
        low, high = np.array(limits, dtype=float).reshape(2, 3)
        in_range = np.asarray(((boxes[:, :3] >= own[:3]) & (boxes[:, :3] <= own[3:])).all(axis=1))
        outside = np.asarray(((boxes[:, :3] < low) | (boxes[:, :3] > high)).any(axis=1))
        share = float(outside[in_range].mean()) if in_range.any() else 0.0
        if share > OUTSIDE:
            new = [*(own[:3] - [0, 0, 1]), *(own[3:] + [0, 0, 1])]
            path = "MODEL.DENSE_HEAD.POST_PROCESSING.POST_CENTER_LIMIT_RANGE"
            yield Finding(
                CHECK,
                Severity.ERROR if share > 0.2 else Severity.WARNING,
                path,
                f"{percent(share)} of the objects in POINT_CLOUD_RANGE lie outside "
                f"{numbers(limits)}, where detections are dropped",
                fix="the POINT_CLOUD_RANGE with some room in z",
                changes={path: numbers(new)},
            )
    assigner = case.head.get("TARGET_ASSIGNER_CONFIG") or {}
    slots = assigner.get("NUM_MAX_OBJS")
    most = max((_objects_in(frame) for frame in case.frames()), default=0)
    if isinstance(slots, int) and slots < most:
        path = "MODEL.DENSE_HEAD.TARGET_ASSIGNER_CONFIG.NUM_MAX_OBJS"
        yield Finding(
            CHECK,
            Severity.WARNING,
            path,
            f"{slots} objects of a frame are learnt at most, but a frame has up to {most}",
            fix="take at least the objects of the fullest frame",
            changes={path: 2 * most},
        )
