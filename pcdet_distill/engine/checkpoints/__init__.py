"""Checkpoints of a training: their files, their content, and the lock of the output folder.

files        names; the newest, the next to evaluate, those to delete
state        make a checkpoint, restore it, find the iteration to resume at
randomness   the state of every random generator
run_lock     one training at a time in an output folder
"""

from .files import (
    LATEST,
    FoundCheckpoint,
    epoch_path,
    find_newest,
    next_unevaluated,
    prune,
    read_with_optimizer,
    wait_for,
)
from .randomness import preserve_randomness, random_state, seed_everything
from .run_lock import exclusive_folder
from .state import make_checkpoint, restore_checkpoint, resume_iteration

__all__ = [
    "LATEST",
    "FoundCheckpoint",
    "epoch_path",
    "exclusive_folder",
    "find_newest",
    "make_checkpoint",
    "next_unevaluated",
    "preserve_randomness",
    "prune",
    "random_state",
    "read_with_optimizer",
    "restore_checkpoint",
    "resume_iteration",
    "seed_everything",
    "wait_for",
]
