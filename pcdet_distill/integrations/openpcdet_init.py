"""DISTILL.INIT_STUDENT around OpenPCDet's detectors: the student's first weights.

The channels are found by running the detector, and dropped in plain layers: linear ones,
convolutions, batch norms. OpenPCDet's are the same as ours, or spconv's with the same layout.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import nn

from ..distill.init import InitOptions, init_student
from ..models import Detector3DTemplate, load_data_to_device
from ..types import BatchDict, ConfigDict
from .openpcdet_dataset import OpenPCDetDataset

BATCH_FRAMES = 4
# The last layers of OpenPCDet's heads that give class scores, by the end of their name.
SCORE_LAYERS = ("conv_cls", "cls_layers", "hm")
HEAD_SLOTS = ("dense_head", "point_head")


class RunnableDetector:
    """An OpenPCDet detector with the two methods by which INIT_STUDENT runs and reads ours.

    Everything else is the detector's own.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_modules(self, batch_dict: BatchDict) -> BatchDict:
        """The slots one after the other, without losses and without post-processing."""
        modules: Any = self._model.module_list
        for module in modules:
            batch_dict = module(batch_dict)
        return batch_dict

    def score_taps(self) -> list[str]:
        """Paths of the modules whose outputs are class logits."""
        paths = []
        for name, _ in self._model.named_modules():
            is_score_layer = name.rpartition(".")[2] in SCORE_LAYERS
            if is_score_layer and name.startswith(HEAD_SLOTS):
                paths.append(name)
        return paths


def init_openpcdet_student(
    student: nn.Module,
    teacher: nn.Module,
    block: ConfigDict,
    train_set: OpenPCDetDataset,
    logger: logging.Logger,
) -> None:
    """Set the student's weights as DISTILL.INIT_STUDENT says.

    It happens before train.py loads ``--pretrained_model`` or a checkpoint to go on from, so both
    replace these weights. Parallel training starts from those of the first process.

    Args:
        student: OpenPCDet's detector.
        teacher: a wider one of the same kind.
        block: the DISTILL block.
        train_set: gives FRAMES augmented frames.
        logger: receives one line with what was done.
    """
    options = InitOptions.from_config(block.get("INIT_STUDENT"))
    if options.mode == "NONE":
        return
    device = next(student.parameters()).device
    batches = _batches(train_set, options.frames, device)
    # Both have what INIT_STUDENT uses of a detector of this package.
    runnable_teacher = cast(Detector3DTemplate, RunnableDetector(teacher))
    runnable_student = cast(Detector3DTemplate, RunnableDetector(student))
    init_student(runnable_teacher, runnable_student, batches, options, logger)


def _batches(train_set: OpenPCDetDataset, frames: int, device: torch.device) -> list[BatchDict]:
    """Frames spread evenly over the dataset, in batches on a device."""
    count = min(frames, len(train_set))
    numbers = [number * len(train_set) // count for number in range(count)]
    batches = []
    for start in range(0, count, BATCH_FRAMES):
        items = [train_set[number] for number in numbers[start : start + BATCH_FRAMES]]
        batch = train_set.collate_batch(items)
        load_data_to_device(batch, device)
        batches.append(batch)
    return batches
