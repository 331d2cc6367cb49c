"""On a CPU, memory that a step frees is kept for the next one.

By default glibc hands large blocks back to the system as soon as they are freed and asks for them anew in the next
step, and the system clears every page of them again (benchmarks/kept_memory.py). Kept, they cost memory: the process
does not shrink any more.
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
NEVER, NO_BLOCKS = -1, 0
CHOSEN_BY_USER = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory(device: torch.device) -> bool:
    """Whether glibc was told so: on a CPU, on Linux, and where the user has not told it anything himself."""
    told_by_user = any(os.environ.get(name) for name in CHOSEN_BY_USER)
    if device.type != "cpu" or not sys.platform.startswith("linux") or told_by_user:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may not have it
    return (
        mallopt is not None
        and bool(mallopt(M_MMAP_MAX, NO_BLOCKS))
        and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
    )
