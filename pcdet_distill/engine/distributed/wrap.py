"""Models in several processes: averaged gradients, shared batch statistics."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ...errors import ConfigError
from .world import World

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def wrap_model(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """A DistributedDataParallel around ``model``; ``model`` itself when there is one process."""
    if world.size == 1:
        return model
    device_ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=device_ids)


def share_batch_norm(model: ModuleT, world: World, device: torch.device) -> ModuleT:
    """--sync_bn: compute the statistics of BatchNorm over the batches of all processes."""
    if device.type != "cuda":
        raise ConfigError(
            "--sync_bn: PyTorch synchronises BatchNorm on CUDA only; leave the flag out on a CPU"
        )
    if world.size == 1:
        raise ConfigError(
            "--sync_bn: there is one process and nothing to synchronise; "
            "leave the flag out or set --launcher"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
