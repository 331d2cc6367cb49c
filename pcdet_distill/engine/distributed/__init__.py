"""Several processes: the process group, models wrapped for it, and the launcher of one machine.

world    rank and size of this process; broadcast, gather, barrier
votes    decisions that all processes take after the same step
wrap     DistributedDataParallel and SyncBatchNorm
launch   ``python -m pcdet_distill.engine.distributed.launch N SCRIPT ARGS...``
"""

from .votes import Votes
from .world import World, join_world
from .wrap import share_batch_norm, wrap_model

__all__ = ["Votes", "World", "join_world", "share_batch_norm", "wrap_model"]
