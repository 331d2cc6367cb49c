"""A training as a checkpoint: everything needed to go on as if nothing had happened.

Beside OpenPCDet's keys (epoch, it, model_state, optimizer_state, version) ours are: seed, iterations_per_epoch,
random_states (one for each process), scaler_state, threads, and what the model adds (a distiller: distill_state).
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from ... import __version__
from ...errors import CheckpointError
from ...models.trainable import Trainable
from ..distributed import World
from ..optimization import load_optimizer_state
from .randomness import random_state, restore_random_state, seed_everything


def make_checkpoint(
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    *,
    it: int,
    per_epoch: int,
    seed: int,
    world: World,
) -> dict[str, Any]:
    """The checkpoint after ``it`` iterations. Every process must call it: each one's random state is asked for."""
    return {
        "epoch": it // per_epoch,
        "it": it,
        **model.checkpoint_state(),
        "optimizer_state": optimizer.state_dict(),
        "scaler_state": scaler.state_dict(),
        "version": f"pcdet_distill+{__version__}",
        "seed": seed,
        "iterations_per_epoch": per_epoch,
        "random_states": world.gather(random_state()),
        "threads": torch.get_num_threads(),
    }


def resume_iteration(
    checkpoint: dict[str, Any], per_epoch: int, where: str, logger: logging.Logger
) -> int:
    """The iteration to go on with. In another batch size or data set an epoch begun is begun again."""
    try:
        epoch, it = int(checkpoint.get("epoch") or 0), int(checkpoint.get("it") or 0)
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{where}: expected whole numbers as 'epoch' and 'it', found "
            f"{checkpoint.get('epoch')!r} and {checkpoint.get('it')!r}"
        ) from None
    stored = checkpoint.get("iterations_per_epoch") or per_epoch
    done = it - epoch * stored
    if done == 0 or (stored == per_epoch and 0 < done <= per_epoch):
        return epoch * per_epoch + done
    logger.warning(
        f"{where}: stopped at iteration {it} with {stored} iterations an epoch; now it has {per_epoch}, "
        f"so epoch {epoch + 1} starts from its beginning"
    )
    return epoch * per_epoch


def restore_checkpoint(
    checkpoint: dict[str, Any],
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    *,
    world: World,
    where: str,
    logger: logging.Logger,
) -> None:
    """Put a checkpoint's weights, optimizer and random states back."""
    if "epoch" not in checkpoint:
        raise CheckpointError(
            f"{where}: holds weights but no training state, so training cannot be resumed from it; "
            "give it as --pretrained_model to start from its weights"
        )
    model.load_checkpoint_state(checkpoint, where)
    if checkpoint.get("optimizer_state"):
        load_optimizer_state(optimizer, checkpoint["optimizer_state"], where)
    else:
        logger.warning(f"{where}: no optimizer state; its moments start from zero")
    if checkpoint.get("scaler_state"):
        scaler.load_state_dict(checkpoint["scaler_state"])
    _continue_randomness(checkpoint, world)


def _continue_randomness(checkpoint: dict[str, Any], world: World) -> None:
    """This process's generators as they were; with another number of processes, freshly seeded ones."""
    states = checkpoint.get("random_states") or []
    if len(states) == world.size:
        restore_random_state(states[world.rank])
    elif "seed" in checkpoint:
        seed_everything(checkpoint["seed"] + world.rank + int(checkpoint["it"]))
