"""Several processes: the process group, models wrapped for it, and the launcher of one machine.

world    rank and size of this process; broadcast, gather, barrier
step_group    votes and values between the steps of a training
shared_norm   batch norm over the batches of all processes
wrap     DistributedDataParallel and SyncBatchNorm
launch   ``python -m pcdet_distill.engine.distributed.launch N SCRIPT ARGS...``
"""

from .step_group import StepGroup
from .world import World, join_world
from .wrap import share_batch_norm, without_exchange, wrap_model

__all__ = ["StepGroup", "World", "join_world", "share_batch_norm", "without_exchange", "wrap_model"]
