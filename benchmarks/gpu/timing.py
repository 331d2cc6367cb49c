"""Median times of calls that take turns, and the peak memory of one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

WARM_UP = 3  # rounds that are not counted: allocation, compilation, cuDNN's choice of algorithms

Call = Callable[[], None]
# Milliseconds or megabytes; a text where the call failed; None where nothing was measured.
Measured = float | str | None


def median_times(
    calls: Mapping[str, Call], device: torch.device, repeats: int
) -> dict[str, Measured]:
    """Median milliseconds of each call.

    The calls take turns, so that a busy moment of the machine affects all of them alike. A call
    that raises an error leaves its row and says why.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    failed: dict[str, str] = {}
    for turn in range(WARM_UP + repeats):
        for name, call in calls.items():
            if name in failed:
                continue
            try:
                elapsed_ms = _time(call, device)
            except Exception as error:  # OpenPCDet's own code may raise anything under autocast
                failed[name] = f"fails: {type(error).__name__}"
                continue
            if turn >= WARM_UP:
                times[name].append(elapsed_ms)
    medians: dict[str, Measured] = dict(failed)
    for name, measured in times.items():
        if name not in failed:
            medians[name] = statistics.median(measured)
    return medians


def _time(call: Call, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return 1e3 * (time.perf_counter() - start)


def peak_memory_mb(call: Call, device: torch.device) -> Measured:
    """Largest memory of PyTorch's tensors and work space on the GPU in one call; None on a CPU."""
    if device.type != "cuda":
        return None
    try:
        call()
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
    except Exception as error:
        return f"fails: {type(error).__name__}"
    return torch.cuda.max_memory_allocated(device) / 2**20


def synchronize(device: torch.device) -> None:
    """Wait for the GPU; returns at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
