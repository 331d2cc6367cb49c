"""The machine: the number of CPU threads, and the allocator; the device is in ``models.device``.

threads   the number of CPU threads, chosen by timing
heap      freed memory is kept for the next step
"""

from .heap import keep_freed_memory
from .threads import tune_threads

__all__ = ["keep_freed_memory", "tune_threads"]
