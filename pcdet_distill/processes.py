"""The processes of a run: how many cores they may use, and that none outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "<microseconds> <period>", or "max <period>"


def available_cores() -> int:
    """Number of CPU cores that this process may use: its affinity, and the quota of its container."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_QUOTA.read_text().split()
        if quota == "max":
            return cores
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores  # no cgroup v2 here


def die_with_parent() -> None:
    """On Linux, get SIGTERM when the process (its thread) that started this one ends, however it was killed.

    An orphan would go on writing the same checkpoints as the run that is started again.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
