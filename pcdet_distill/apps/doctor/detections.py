"""What a trained model sees: its detections at a low score, beside the labelled objects."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ...checkpoint import load_checkpoint, load_model_state
from ...config import errors_name_file
from ...datasets.labelled_objects import LabelledObject
from ...inference import Detections as FoundBoxes
from ...inference import predict_batch
from ...models import Detector3DTemplate, build_network
from ...ops.boxes import boxes_iou3d, limit_period, mask_boxes_outside_range
from ...types import ConfigDict
from .case import Case
from .frames import Frame
from .single_frame import batch_of

LOW_SCORE = 0.05
FRAMES = {"val": 16, "train": 8}
NEAR_M = 1.5  # a detection belongs to an object when their centres are nearer than that,
NEAR_SHARE = 0.5  # or than this share of the object's length


class Detections(NamedTuple):
    """The detections of one frame, best first."""

    frame: Frame
    boxes: np.ndarray  # (K, 7)
    scores: np.ndarray  # (K,)
    names: np.ndarray  # (K,)


@dataclass(frozen=True)
class Sight:
    """One labelled object and the detection that belongs to it, if any does.

    Attributes:
        split: of its frame.
        labelled: the object.
        found: number of the detection; -1 for none.
        name: class of the detection.
        score: of the detection.
        offset: (3,) place of the detection relative to the object, metres.
        turn_rad: heading of the detection relative to the object, -pi to pi.
        ratio: (3,) sizes of the detection, of those of the object.
        iou: 3D IoU of both.
    """

    split: str
    frame: str
    labelled: LabelledObject
    found: int = -1
    name: str = ""
    score: float = 0.0
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    turn_rad: float = 0.0
    ratio: np.ndarray = field(default_factory=lambda: np.ones(3))
    iou: float = 0.0


@dataclass
class Seen:
    """Everything that a checkpoint detects in some frames.

    Attributes:
        detections: of every frame.
        sights: of every labelled object in the range that holds points.
    """

    detections: list[Detections]
    sights: list[Sight]


def load_model(case: Case, checkpoint: Path) -> Detector3DTemplate:
    """The model of a case with the weights of a checkpoint, which keeps detections of low scores.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the model.
    """
    weights = load_checkpoint(checkpoint)["model_state"]
    with errors_name_file(case.cfg):
        model = build_network(with_low_scores(case.model), len(case.class_names), case.spec)
    load_model_state(model, weights, strict=True, where=str(checkpoint))
    return model.eval()


def with_low_scores(model_cfg: ConfigDict) -> ConfigDict:
    """The MODEL block with score thresholds of LOW_SCORE."""
    changed = copy.deepcopy(dict(model_cfg))
    for block in (changed.get("POST_PROCESSING"), changed.get("DENSE_HEAD", {})):
        settings = (block or {}).get("POST_PROCESSING", block) or {}
        if "SCORE_THRESH" in settings:
            settings["SCORE_THRESH"] = LOW_SCORE
    return changed


def chosen_frames(case: Case) -> list[Frame]:
    """Labelled frames of both splits that the model runs on."""
    frames: list[Frame] = []
    for split, number in FRAMES.items():
        if split in case.splits:
            clouds = case.splits[split].clouds
            labelled = [frame for frame in clouds if frame.objects and frame.num_points]
            frames += labelled[:number]
    return frames


def look(case: Case, model: Detector3DTemplate) -> Seen:
    """Run the model on some frames."""
    detections = [detect(case, model, frame) for frame in chosen_frames(case)]
    sights: list[Sight] = []
    for found in detections:
        sights += sights_of(case, found)
    return Seen(detections, sights)


def detect(
    case: Case, model: Detector3DTemplate, frame: Frame, intensity_factor: float = 1.0
) -> Detections:
    """The detections of one frame, with its intensities multiplied by a factor."""
    batch = batch_of(case, frame, intensity_factor=intensity_factor)
    predictions, _ = predict_batch(model, batch, torch.device("cpu"))
    found = FoundBoxes.from_prediction(predictions[0], case.class_names)
    return Detections(frame, found.boxes[:, :7], found.scores, found.names)


def sights_of(case: Case, found: Detections) -> list[Sight]:
    """Each visible object of a frame with the nearest free detection, the best scores first."""
    assert found.frame.objects is not None
    objects = visible(case, found.frame.objects.objects)
    if not objects:
        return []
    places = np.array([labelled.box[:2] for labelled in objects])
    reach = np.array([max(NEAR_M, NEAR_SHARE * labelled.box[3]) for labelled in objects])
    owner = np.full(len(objects), -1)
    for number, box in enumerate(found.boxes):
        distance = np.hypot(*(places - box[:2]).T)
        distance[(owner >= 0) | (distance > reach)] = np.inf
        nearest = int(distance.argmin())
        if np.isfinite(distance[nearest]):
            owner[nearest] = number
    return [_sight(found, one, int(number)) for one, number in zip(objects, owner)]


def visible(case: Case, objects: Sequence[LabelledObject]) -> list[LabelledObject]:
    """The trained objects that hold points, inside the range."""
    chosen = []
    for labelled in objects:
        box = labelled.box[None, :7]
        inside = mask_boxes_outside_range(box, case.data["POINT_CLOUD_RANGE"])[0]
        has_volume = (labelled.box[3:6] > 0).all()
        if labelled.name in case.class_names and labelled.num_points and inside and has_volume:
            chosen.append(labelled)
    return chosen


def _sight(found: Detections, labelled: LabelledObject, number: int) -> Sight:
    frame = found.frame
    if number < 0:
        return Sight(frame.split, frame.name, labelled)
    box = found.boxes[number].astype(np.float64)
    own = labelled.box[:7]
    pair = torch.from_numpy(np.stack([box, own]).astype(np.float32))
    return Sight(
        split=frame.split,
        frame=frame.name,
        labelled=labelled,
        found=number,
        name=str(found.names[number]),
        score=float(found.scores[number]),
        offset=box[:3] - own[:3],
        turn_rad=float(limit_period(np.array(box[6] - own[6]), 0.5, 2 * np.pi)),
        ratio=box[3:6] / own[3:6],
        iou=float(boxes_iou3d(pair[:1], pair[1:])[0, 0]),
    )
