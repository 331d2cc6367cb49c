"""OpenPCDet's own build as the reference: the same yaml, weights and batches."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import torch
from torch import nn

from benchmarks.gpu.cases import LEARNING_RATE, Bench
from pcdet_distill.types import ConfigDict


def openpcdet() -> ModuleType | None:
    """``pcdet.models``; None where OpenPCDet is not installed."""
    if importlib.util.find_spec("pcdet") is None:
        return None
    return importlib.import_module("pcdet.models")


class ReferenceBench(Bench):
    """OpenPCDet's detector with the weights and the batches of ours.

    Args:
        ours: the bench whose detector it mirrors.
        library: ``pcdet.models``.
    """

    def __init__(self, ours: Bench, library: ModuleType) -> None:
        self.cfg = ours.cfg
        self.device = ours.device
        self.batch_size = ours.batch_size
        self.model = self._mirror(ours, library)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self.training_batch = ours.training_batch
        self.eval_batch = ours.eval_batch

    def _mirror(self, ours: Bench, library: ModuleType) -> nn.Module:
        model_cfg: ConfigDict = self.cfg.MODEL
        model: nn.Module = library.build_network(
            model_cfg=model_cfg,
            num_class=len(self.cfg.CLASS_NAMES),
            dataset=ours.dataset(True),
        )
        model.load_state_dict(ours.model.state_dict())
        return model.to(self.device)
