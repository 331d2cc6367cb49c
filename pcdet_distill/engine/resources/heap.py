"""On a CPU, memory that one step frees is kept for the next.

By default glibc returns large freed blocks to the system and requests them again in the next step,
and each time the system clears their pages (benchmarks/kept_memory.py). Keeping them costs memory:
the process no longer shrinks.
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch

# Options of mallopt, from glibc's malloc.h, and their values here.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER_TRIM = -1
NO_MMAP_BLOCKS = 0

# Variables by which users set up glibc themselves.
CHOSEN_BY_USER = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory(device: torch.device) -> bool:
    """Make glibc keep freed memory; returns whether it does.

    Only on a CPU, on Linux with glibc, and where the user has not set up the allocator.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return False
    if any(os.environ.get(name) for name in CHOSEN_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    if not mallopt(M_MMAP_MAX, NO_MMAP_BLOCKS):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
