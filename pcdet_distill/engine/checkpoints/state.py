"""The content of a checkpoint: all that a training needs to continue as if never interrupted.

OpenPCDet's keys are epoch, it, model_state, optimizer_state and version. Ours are seed,
iterations_per_epoch, random_states (one for each process), scaler_state, threads, and what the
model adds (a Distiller: distill_state).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from ... import __version__
from ...errors import CheckpointError
from ...models.trainable import CheckpointState, Trainable
from ..distributed import World
from ..optimization import load_optimizer_state
from .files import FoundCheckpoint
from .randomness import RandomState, restore_random_state, seed_everything


def make_checkpoint(
    *,
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    iteration: int,
    per_epoch: int,
    seed: int,
    random_states: Sequence[RandomState],
) -> CheckpointState:
    """The checkpoint after ``iteration`` iterations; ``random_states`` are of every process."""
    return {
        "epoch": iteration // per_epoch,
        "it": iteration,
        **model.checkpoint_state(),
        "optimizer_state": optimizer.state_dict(),
        "scaler_state": scaler.state_dict(),
        "version": f"pcdet_distill+{__version__}",
        "seed": seed,
        "iterations_per_epoch": per_epoch,
        "random_states": list(random_states),
        "threads": torch.get_num_threads(),
    }


def restore_checkpoint(
    checkpoint: FoundCheckpoint,
    *,
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    world: World,
    logger: logging.Logger,
) -> None:
    """Restore weights, optimizer, loss scale and random states."""
    state = checkpoint.state
    where = str(checkpoint.path)
    if "epoch" not in state:
        raise CheckpointError(
            f"{where}: holds weights but no training state, so training cannot be resumed from it; "
            "give it as --pretrained_model to start from its weights"
        )
    model.load_checkpoint_state(state, where)
    if state.get("optimizer_state"):
        load_optimizer_state(optimizer, state["optimizer_state"], where)
    else:
        logger.warning(f"{where}: no optimizer state; its moments start from zero")
    if state.get("scaler_state"):
        scaler.load_state_dict(state["scaler_state"])
    try:
        _restore_randomness(state, world)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{where}: its random_states cannot be restored ({type(error).__name__}); "
            "another program wrote them"
        ) from error


def _restore_randomness(state: CheckpointState, world: World) -> None:
    """Restore the random generators of this process.

    With another number of processes there is no state to restore, and they are seeded afresh.
    """
    random_states = state.get("random_states") or []
    if len(random_states) == world.size:
        restore_random_state(random_states[world.rank])
    elif "seed" in state:
        seed_everything(state["seed"] + world.rank + int(state["it"]))


def resume_iteration(checkpoint: FoundCheckpoint, per_epoch: int, logger: logging.Logger) -> int:
    """The iteration to continue with.

    With another batch size or data set an epoch has another number of iterations. Then an epoch
    that was interrupted starts from its beginning.
    """
    epoch, iteration = _position(checkpoint)
    stored_per_epoch = checkpoint.state.get("iterations_per_epoch") or per_epoch
    done_in_epoch = iteration - epoch * stored_per_epoch
    same_length = stored_per_epoch == per_epoch
    if done_in_epoch == 0 or (same_length and 0 < done_in_epoch <= per_epoch):
        return epoch * per_epoch + done_in_epoch
    logger.warning(
        f"{checkpoint.path}: stopped at iteration {iteration} with {stored_per_epoch} iterations "
        f"an epoch; now it has {per_epoch}, so epoch {epoch + 1} starts from its beginning"
    )
    return epoch * per_epoch


def _position(checkpoint: FoundCheckpoint) -> tuple[int, int]:
    """Finished epochs and finished iterations, as stored."""
    epoch = checkpoint.state.get("epoch")
    iteration = checkpoint.state.get("it")
    try:
        return int(epoch or 0), int(iteration or 0)
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{checkpoint.path}: expected whole numbers as 'epoch' and 'it', found "
            f"{epoch!r} and {iteration!r}"
        ) from None
