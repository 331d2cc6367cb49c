"""The machine: the device, the number of CPU threads, the allocator.

device    which device, and how a model is laid out on it
threads   the number of CPU threads, chosen by timing
heap      freed memory is kept for the next step
"""

from .device import choose_device, prepare_for_device, synchronize
from .heap import keep_freed_memory
from .threads import tune_threads

__all__ = [
    "choose_device",
    "keep_freed_memory",
    "prepare_for_device",
    "synchronize",
    "tune_threads",
]
