"""Checkpoints of a training: their files, what is in them, and the folder's lock.

files        names, newest, next, too many
state        make a checkpoint, restore it, find the iteration to resume at
randomness   state of every random generator
run_lock     one training in an output folder at a time
"""

from .files import (
    LATEST,
    epoch_path,
    find_newest,
    load_with_optimizer,
    next_unevaluated,
    prune,
    wait_for,
)
from .randomness import FIXED_SEED, randomness_kept, seed_everything
from .run_lock import exclusive_folder
from .state import make_checkpoint, restore_checkpoint, resume_iteration

__all__ = [
    "FIXED_SEED",
    "LATEST",
    "epoch_path",
    "find_newest",
    "exclusive_folder",
    "load_with_optimizer",
    "make_checkpoint",
    "next_unevaluated",
    "prune",
    "randomness_kept",
    "restore_checkpoint",
    "resume_iteration",
    "seed_everything",
    "wait_for",
]
