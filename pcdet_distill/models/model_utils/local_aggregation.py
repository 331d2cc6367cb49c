"""The layers that aggregate features around centres: NAME in SA_LAYER and ROI_GRID_POOL."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...config import lookup, required
from ...types import ConfigDict
from .pointnet2_modules import StackSAModuleMSG
from .vector_pool_modules import VectorPoolAggregationModuleMSG


def build_local_aggregation(block: ConfigDict, input_channels: int, where: str) -> nn.Module:
    """Build the layer that a block names; its output width is ``num_output_features``.

    The layer is called with points (N, 3), their number in each frame, centres (M, 3), their number
    in each frame, and features (N, C).

    Args:
        block: of the yaml.
        input_channels: C.
        where: key path of the block, for errors.
    """
    make = lookup(LOCAL_AGGREGATION_MODULES, block.get("NAME", "StackSAModuleMSG"), f"{where}.NAME")
    return make(input_channels, block, where)


def _stack_set_abstraction(input_channels: int, block: ConfigDict, where: str) -> StackSAModuleMSG:
    return StackSAModuleMSG(
        radii=required(block, "POOL_RADIUS", where),
        nsamples=required(block, "NSAMPLE", where),
        mlps=[[input_channels, *widths] for widths in required(block, "MLPS", where)],
        pool_method=block.get("POOL_METHOD", "max_pool"),
    )


LOCAL_AGGREGATION_MODULES: dict[str, Callable[[int, ConfigDict, str], nn.Module]] = {
    "StackSAModuleMSG": _stack_set_abstraction,
    "VectorPoolAggregationModuleMSG": VectorPoolAggregationModuleMSG,
}
