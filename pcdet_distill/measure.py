"""What a detector costs: parameters, multiply-adds and the time of one frame.

Convention of the GFLOPs: one multiply-add counts as one, in convolutions, transposed convolutions and linear layers;
normalisation, activations, biases, scatter, interpolation, neighbour search and NMS count nothing. It is the convention
of the published tables (PointDistiller, CVPR 2023, table 3: 34.3 for KITTI's PointPillars, 9.0 for its 4x student).
Here they come to 34.2 and 8.9 on a KITTI frame: 34.17 and 8.91 are the dense layers; the pillar encoder adds little, as
it skips empty slots. What depends on the scene is counted as it is in the frame: a sparse convolution costs its input
channels times its output channels for every pair of an input and an output cell that its kernel joins, a layer of a
point network for every point of a ball; the slots in which a smaller ball would repeat a point cost nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from .models.eval_mode import evaluating
from .ops.rulebook import strided_rulebook, submanifold_rulebook
from .ops.sparse_conv import InverseConvolution, SparseConvolution, SubMConvolution
from .ops.sparse_tensor import SparseConvTensor

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of ``model``; a parameter shared by two modules counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Multiply-adds of one call of one dense layer, from the shapes of what went in and out; 0 for other layers."""
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, TRANSPOSED):
        return inputs.numel() * (layer.out_channels // layer.groups) * prod(layer.kernel_size)
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() * (layer.in_channels // layer.groups) * prod(layer.kernel_size)
    return 0


class PairCounter:
    """Counts the pairs of cells that sparse convolutions join, whichever backend runs them."""

    def __init__(self) -> None:
        self.strided: dict[str | None, int] = {}

    def count(self, layer: SparseConvolution, tensor: SparseConvTensor) -> int:
        """Pairs of one call; an inverse convolution has those of the one that left its ``indice_key``."""
        if isinstance(layer, InverseConvolution):
            return self.strided[layer.indice_key]
        cells = (tensor.indices, tensor.spatial_shape, layer.kernel)
        if isinstance(layer, SubMConvolution):
            rulebook = submanifold_rulebook(*cells)
            return sum(rulebook.counts) + (0 if rulebook.identity is None else rulebook.num_in)
        self.strided[layer.indice_key] = sum(strided_rulebook(*cells)[0].counts)
        return self.strided[layer.indice_key]


def count_gflops(model: nn.Module, batch_dict: Mapping[str, Any]) -> float:
    """1e9 multiply-adds of one eval-mode forward pass, per frame of ``batch_dict`` (``batch_size`` frames, default 1).

    ``batch_dict`` is already on the model's device and is not changed; the model's mode is restored.
    """
    total = 0
    pairs = PairCounter()

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        if isinstance(layer, SparseConvolution):
            total += pairs.count(layer, inputs[0]) * layer.in_channels * layer.out_channels
        else:
            total += count_multiply_adds(layer, inputs[0], output)

    counted = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, SparseConvolution)
    handles = [
        layer.register_forward_hook(add) for layer in model.modules() if isinstance(layer, counted)
    ]
    try:
        with evaluating(model):
            model(dict(batch_dict))
    finally:
        for handle in handles:
            handle.remove()
    return total / int(batch_dict.get("batch_size", 1)) / 1e9


def measure_latency(model: nn.Module, batch_dict: Mapping[str, Any], repeats: int = 20) -> float:
    """Median milliseconds of one eval-mode forward pass, decoding and NMS included; give it a batch of one frame."""
    return measure_latencies([model], [batch_dict], repeats)[0]


def measure_latencies(
    models: Sequence[nn.Module], batches: Sequence[Mapping[str, Any]], repeats: int = 20
) -> list[float]:
    """Median milliseconds of each model on its own batch, taking turns so that a busy moment hits all of them alike."""
    times: list[list[float]] = [[] for _ in models]
    warm_up = 2
    for turn in range(warm_up + max(1, repeats)):
        for model, batch_dict, measured in zip(models, batches, times):
            elapsed = time_forward(model, batch_dict)
            if turn >= warm_up:
                measured.append(elapsed)
    return [1e3 * statistics.median(measured) for measured in times]


def time_forward(model: nn.Module, batch_dict: Mapping[str, Any]) -> float:
    """Seconds of one eval-mode forward pass; waits for a GPU to finish."""
    with evaluating(model):
        synchronize(batch_dict)
        start = time.perf_counter()
        model(dict(batch_dict))
        synchronize(batch_dict)
        return time.perf_counter() - start


def synchronize(batch_dict: Mapping[str, Any]) -> None:
    """Wait until the GPU that holds the batch has nothing left to do; nothing to wait for on a CPU."""
    for value in batch_dict.values():
        if isinstance(value, Tensor) and value.is_cuda:
            torch.cuda.synchronize(value.device)
            return
