"""Models in several processes: averaged gradients, shared batch statistics."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import torch
from torch import nn

from ...errors import ConfigError
from .shared_norm import share_norms
from .world import World

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def wrap_model(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """A DistributedDataParallel around ``model``; ``model`` itself when there is one process.

    Its exchanges have a group of their own, with the short timeout of a step.
    """
    if world.size == 1:
        return model
    world.barrier()  # the others may still wait for the main process, which has more to prepare
    device_ids = [device.index] if device.type == "cuda" else None
    group = world.new_step_group()
    return nn.parallel.DistributedDataParallel(model, device_ids=device_ids, process_group=group)


def without_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Let a backward pass only add its gradients, without exchanging them."""
    no_sync = getattr(model, "no_sync", nullcontext)
    return no_sync()


def share_batch_norm(model: ModuleT, world: World, device: torch.device) -> ModuleT:
    """--sync_bn: compute the statistics of BatchNorm over the batches of all processes."""
    if world.size == 1:
        raise ConfigError(
            "--sync_bn: there is one process and nothing to synchronise; "
            "leave the flag out or set --launcher"
        )
    if device.type != "cuda":
        return cast(ModuleT, share_norms(model))
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
