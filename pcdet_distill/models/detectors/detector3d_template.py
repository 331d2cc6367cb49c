"""Detector3DTemplate: a detector is its slots, run one after the other on one ``batch_dict``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ...config import nearest, required
from ...errors import ConfigError
from ..taps import TapInfo, capture, collect_taps
from ..trainable import TrainableModule
from . import post_processing
from .slots import SLOTS, ModelInfo

HEADS = ("dense_head", "point_head", "roi_head")
READERS = {"pfe": {"pfe", "point_head", "roi_head"}}  # a slot whose output only these look at


class Detector3DTemplate(TrainableModule):
    """Builds the slots that the config names, in their order; a slot without a block is None.

    Args:
        model_cfg: the MODEL block.
        num_class: number of classes.
        dataset: a dataset or a DataSpec.
    """

    required_slots: tuple[str, ...] = ()
    running_order: tuple[str, ...] = tuple(SLOTS)

    def __init__(self, model_cfg: Mapping[str, Any], num_class: int, dataset: Any) -> None:
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
            self.add_module(name, slot.build(block, info) if block else None)
        check = getattr(self.pfe, "check_proposals", None)
        if check is not None:
            check(self.running_order.index("dense_head") < self.running_order.index("pfe"))
        if model_cfg.get("BN_MOMENTUM") is not None:
            set_batch_norm_momentum(self, model_cfg["BN_MOMENTUM"])

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
        return ((name, getattr(self, name)) for name in SLOTS if getattr(self, name) is not None)

    def run_slot(self, name: str, batch_dict: dict[str, Any]) -> dict[str, Any]:
        """Run one slot; returns the filled dict."""
        return getattr(self, name)(batch_dict)

    def update_global_step(self) -> None:
        """One training step is done."""
        self.global_step += 1

    def run_modules(self, batch_dict: dict[str, Any], until: str | None = None) -> dict[str, Any]:
        """Run the slots in order, to the end or up to and including the slot ``until``; returns the filled dict."""
        slots = [name for name in self.running_order if getattr(self, name) is not None]
        if until is not None and until not in slots:
            raise ConfigError(f"{type(self).__name__} has no slot '{until}'{nearest(until, slots)}")
        for name in slots:
            batch_dict = self.run_slot(name, batch_dict)
            if name == until:
                break
        return batch_dict

    def run_for_taps(self, batch_dict: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
        """``run_modules`` without the slots that no feature at ``paths`` depends on."""
        tapped = {re.split("[.@]", path)[0] for path in paths}
        for name in self.running_order:
            if getattr(self, name) is not None and tapped & READERS.get(name, tapped):
                batch_dict = self.run_slot(name, batch_dict)
        return batch_dict

    def forward(self, batch_dict: dict[str, Any]) -> tuple:
        """Training: ({"loss": loss}, tb_dict, disp_dict). Eval: (pred_dicts, recall_dict)."""
        batch_dict = self.run_modules(batch_dict)
        if not self.training:
            return self.post_processing(batch_dict)
        loss, tb_dict, disp_dict = self.get_training_loss()
        return {"loss": loss}, tb_dict, disp_dict

    def get_training_loss(self) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
        """Sum of the heads' losses after a forward in training mode, and each part for the log."""
        heads = [head for head in (getattr(self, slot) for slot in HEADS) if head is not None]
        if not heads:
            raise ConfigError(
                f"MODEL: holds none of {', '.join(map(str.upper, HEADS))}, so there is nothing to train"
            )
        losses, parts = zip(*(head.get_loss() for head in heads))
        total = sum(losses[1:], losses[0])
        tb_dict: dict[str, Any] = {"loss_rpn": total.detach()} if len(heads) == 1 else {}
        for entries in parts:
            tb_dict.update(entries)
        return total, tb_dict, {}

    @torch.no_grad()
    def post_processing(
        self, batch_dict: dict[str, Any]
    ) -> tuple[list[dict[str, Tensor]], dict[str, int]]:
        """Final boxes of every frame and, where there is ground truth, recall counts."""
        settings = required(self.model_cfg, "POST_PROCESSING", "MODEL")
        return post_processing.post_process(batch_dict, settings, self.num_class)

    def taps(self) -> dict[str, TapInfo]:
        """What the slots offer to be captured; strides count from the voxels to the feature."""
        found: dict[str, TapInfo] = {}
        reached = 1
        for name, module in self.named_slots():
            for path, info in collect_taps([(name, module)]).items():
                stride = None if info.stride is None else info.stride * reached
                found[path] = dataclasses.replace(info, stride=stride)
            reached *= getattr(module, "output_stride", 1)
        return found

    def score_taps(self) -> list[str]:
        """Paths of the modules whose outputs are class logits, of all heads.

        A head publishes them by ``score_taps() -> list[str]``, relative to its slot. A head without the method (a
        third-party one) publishes none.
        """
        paths: list[str] = []
        for slot in HEADS:
            publish = getattr(getattr(self, slot), "score_taps", None)
            for path in publish() if callable(publish) else ():
                paths.append(f"{slot}.{path}")
        return paths

    def capture(self, paths: Sequence[str]) -> AbstractContextManager[dict[str, Any]]:
        """Record features while the detector runs: ``with model.capture(paths) as features: model(batch_dict)``."""
        return capture(self, paths)


def set_batch_norm_momentum(model: nn.Module, momentum: Any) -> None:
    """MODEL.BN_MOMENTUM: short trainings need running statistics that follow faster than 0.01 a step."""
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
