"""Detector3DTemplate: a detector is its slots, run one after the other on one ``batch_dict``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ...config import built_from, nearest, required
from ...errors import ConfigError
from ...types import BatchDict, ConfigDict
from ..taps import TapInfo, capture, collect_taps
from ..trainable import TrainableModule
from . import post_processing
from .post_processing import FinalBoxes, RecallCounts
from .slots import SLOTS, DetectorData, ModelInfo

HEADS = ("dense_head", "point_head", "roi_head")
# Slots whose output only some slots need: the others can be run without them.
NEEDED_BY = {"pfe": {"pfe", "point_head", "roi_head"}}

LogEntries: TypeAlias = dict[str, Tensor]
# OpenPCDet's contract: ({"loss": loss}, tb_dict, disp_dict) in training,
# (final boxes of every frame, recall counts) in eval.
TrainingOutput: TypeAlias = tuple[dict[str, Tensor], LogEntries, LogEntries]
EvalOutput: TypeAlias = tuple[list[FinalBoxes], RecallCounts]


class Detector3DTemplate(TrainableModule):
    """Builds the slots that the config names, in their order; a slot without a block is None.

    Args:
        model_cfg: the MODEL block.
        num_class: number of classes.
        dataset: a dataset or a DataSpec.
    """

    required_slots: tuple[str, ...] = ()
    running_order: tuple[str, ...] = tuple(SLOTS)

    def __init__(self, model_cfg: ConfigDict, num_class: int, dataset: DetectorData) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_class = num_class
        self.dataset = dataset
        self.class_names = list(dataset.class_names)
        self.global_step: Tensor
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.long))
        for needed in self.required_slots:
            required(model_cfg, SLOTS[needed].block, "MODEL")
        info = ModelInfo.from_dataset(model_cfg, num_class, dataset)
        for name, slot in SLOTS.items():
            block = model_cfg.get(slot.block)
            with built_from(f"MODEL.{slot.block}"):
                self.add_module(name, slot.build(block, info) if block else None)
        self._check_proposals()
        if model_cfg.get("BN_MOMENTUM") is not None:
            set_batch_norm_momentum(self, model_cfg["BN_MOMENTUM"])

    def _check_proposals(self) -> None:
        """Let the ``pfe`` check whether proposals are there when it runs, if it needs them."""
        check = getattr(self.pfe, "check_proposals", None)
        if check is not None:
            order = self.running_order
            check(order.index("dense_head") < order.index("pfe"))

    @property
    def mode(self) -> str:
        """OpenPCDet's name of the mode."""
        return "TRAIN" if self.training else "TEST"

    @property
    def module_list(self) -> list[nn.Module]:
        """The slots that are filled, in the order in which they are built."""
        return [module for _, module in self.named_slots()]

    def named_slots(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and module of the slots that are filled, in the order in which they are built."""
        for name in SLOTS:
            module = getattr(self, name)
            if module is not None:
                yield name, module

    def _filled_running_order(self) -> list[str]:
        """Names of the slots that are filled, in the order in which they run."""
        return [name for name in self.running_order if getattr(self, name) is not None]

    def run_slot(self, name: str, batch_dict: BatchDict) -> BatchDict:
        """Run one slot; returns the filled dict."""
        return getattr(self, name)(batch_dict)

    def update_global_step(self) -> None:
        """Count one finished training step."""
        self.global_step += 1

    def run_modules(self, batch_dict: BatchDict, until: str | None = None) -> BatchDict:
        """Run the slots in order, up to and including the slot ``until``, or all of them.

        Returns:
            the filled dict.
        """
        slots = self._filled_running_order()
        if until is not None and until not in slots:
            raise ConfigError(f"{type(self).__name__} has no slot '{until}'{nearest(until, slots)}")
        for name in slots:
            batch_dict = self.run_slot(name, batch_dict)
            if name == until:
                break
        return batch_dict

    def run_for_taps(self, batch_dict: BatchDict, paths: Sequence[str]) -> BatchDict:
        """``run_modules`` without the slots that no feature at ``paths`` depends on.

        A teacher of a map need not sample keypoints, the slowest part of PV-RCNN.
        """
        tapped_slots = {re.split("[.@]", path)[0] for path in paths}
        for name in self._filled_running_order():
            if name in NEEDED_BY and not tapped_slots & NEEDED_BY[name]:
                continue
            batch_dict = self.run_slot(name, batch_dict)
        return batch_dict

    def forward(self, batch_dict: BatchDict) -> TrainingOutput | EvalOutput:
        """Run the detector.

        Returns:
            in training ``({"loss": loss}, tb_dict, disp_dict)``, in eval ``(pred_dicts,
            recall_dict)``.
        """
        batch_dict = self.run_modules(batch_dict)
        if not self.training:
            return self.post_processing(batch_dict)
        loss, tb_dict, disp_dict = self.get_training_loss()
        return {"loss": loss}, tb_dict, disp_dict

    def get_training_loss(self) -> tuple[Tensor, LogEntries, LogEntries]:
        """Sum of the heads' losses after a forward in training, and each part for the log."""
        heads = [getattr(self, slot) for slot in HEADS if getattr(self, slot) is not None]
        if not heads:
            names = ", ".join(slot.upper() for slot in HEADS)
            raise ConfigError(f"MODEL: holds none of {names}, so there is nothing to train")
        losses = []
        entries: LogEntries = {}
        for head in heads:
            loss, entries_of_head = head.get_loss()
            losses.append(loss)
            entries.update(entries_of_head)
        total = sum(losses[1:], losses[0])
        # OpenPCDet's one-stage detectors log their loss a second time, under this name.
        tb_dict = {"loss_rpn": total.detach()} if len(heads) == 1 else {}
        return total, {**tb_dict, **entries}, {}

    @torch.no_grad()
    def post_processing(self, batch_dict: BatchDict) -> EvalOutput:
        """Final boxes of every frame and, where there is ground truth, recall counts."""
        settings = required(self.model_cfg, "POST_PROCESSING", "MODEL")
        return post_processing.post_process(batch_dict, settings, self.num_class)

    def taps(self) -> dict[str, TapInfo]:
        """What the slots offer to be captured; strides count from the voxels to the feature."""
        taps: dict[str, TapInfo] = {}
        stride_so_far = 1
        for name, module in self.named_slots():
            for path, info in collect_taps([(name, module)]).items():
                stride = None if info.stride is None else info.stride * stride_so_far
                taps[path] = dataclasses.replace(info, stride=stride)
            stride_so_far *= getattr(module, "output_stride", 1)
        return taps

    def score_taps(self) -> list[str]:
        """Paths of the modules whose outputs are class logits, of all heads.

        A head publishes them by ``score_taps() -> list[str]``, relative to its slot. A head of
        another library, without the method, publishes none.
        """
        paths = []
        for slot in HEADS:
            publish = getattr(getattr(self, slot), "score_taps", None)
            if publish is None:
                continue
            for path in publish():
                paths.append(f"{slot}.{path}")
        return paths

    def capture(self, paths: Sequence[str]) -> AbstractContextManager[dict[str, Any]]:
        """Record features while the detector runs.

        ``with model.capture(paths) as features: model(batch_dict)``
        """
        return capture(self, paths)


def set_batch_norm_momentum(model: nn.Module, momentum: object) -> None:
    """Set the momentum of all batch norms to MODEL.BN_MOMENTUM.

    OpenPCDet's 0.01 suits thousands of steps. A short training needs running statistics that follow
    faster.
    """
    if (
        isinstance(momentum, bool)
        or not isinstance(momentum, (int, float))
        or not 0 < momentum <= 1
    ):
        raise ConfigError(
            f"MODEL.BN_MOMENTUM is {momentum!r}, expected a number above 0 and up to 1"
        )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = float(momentum)
