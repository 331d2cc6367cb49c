"""Which layer gathers what lies around a centre: NAME of the blocks of SA_LAYER and of ROI_GRID_POOL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ...config import lookup, required
from .pointnet2_modules import StackSAModuleMSG
from .vector_pool_modules import VectorPoolAggregationModuleMSG


def build_local_aggregation(block: Mapping[str, Any], input_channels: int, where: str) -> nn.Module:
    """The layer of a block, with ``num_output_features``, for features of ``input_channels``; ``where`` is for errors.

    It is called with points (N, 3) and centres (M, 3), the counts of each behind them, and features (N, C).
    """
    make = lookup(LOCAL_AGGREGATION_MODULES, block.get("NAME", "StackSAModuleMSG"), f"{where}.NAME")
    return make(input_channels, block, where)


def _stack_set_abstraction(
    input_channels: int, block: Mapping[str, Any], where: str
) -> StackSAModuleMSG:
    return StackSAModuleMSG(
        radii=required(block, "POOL_RADIUS", where),
        nsamples=required(block, "NSAMPLE", where),
        mlps=[[input_channels, *widths] for widths in required(block, "MLPS", where)],
        pool_method=block.get("POOL_METHOD", "max_pool"),
    )


LOCAL_AGGREGATION_MODULES: dict[str, Callable[[int, Mapping[str, Any], str], nn.Module]] = {
    "StackSAModuleMSG": _stack_set_abstraction,
    "VectorPoolAggregationModuleMSG": VectorPoolAggregationModuleMSG,
}
