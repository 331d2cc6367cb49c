"""Processes: how many CPU cores they may use, and how they end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "<microseconds> <period>", or "max <period>"


def available_cores() -> int:
    """CPU cores that this process may use: those of its affinity, within its container's quota."""
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


def die_with_parent(parent: int | None = None) -> None:
    """Let Linux send SIGTERM to this process when its parent ends, even if that was killed.

    Otherwise a worker could go on writing checkpoints beside the run that replaces its own.

    Args:
        parent: the number of that process. A worker that takes seconds to import its packages may
            come here after the end of its parent, and gets no signal any more. Then it ends here.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if parent is not None and os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)
