"""Optimizers and learning rates of OpenPCDet's OPTIMIZATION block.

optimizers   one for each OPTIMIZER, and loading of a stored state
schedules    learning rate and momentum as functions of the iteration
values       the numbers of the block, checked
"""

from ...moved import forward_names
from .optimizers import (
    amp_dtype,
    build_optimizer,
    load_optimizer_state,
    loss_scale,
    parameter_groups,
    set_rate,
)
from .schedules import Rate, Schedule, build_schedule
from .values import number, number_pair, whole_number

__all__ = [
    "Rate",
    "Schedule",
    "build_optimizer",
    "build_schedule",
    "load_optimizer_state",
    "amp_dtype",
    "loss_scale",
    "number",
    "number_pair",
    "parameter_groups",
    "set_rate",
    "whole_number",
]

# Old names, for one more version.
__getattr__ = forward_names(
    __name__,
    "pcdet_distill.engine.optimization.schedules",
    ["cosine_annealing", "one_cycle", "step_decay"],
)
