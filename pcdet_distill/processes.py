"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1  # of Linux' prctl


def die_with_parent() -> None:
    """On Linux, get SIGTERM when the process (its thread) that started this one ends, however it was killed.

    An orphan would go on writing the same checkpoints as the run that is started again.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
