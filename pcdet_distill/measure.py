"""What a detector costs: parameters, multiply-adds and the time of one frame.

GFLOPs follow the convention of the published tables: one multiply-add counts as one, in
convolutions, transposed convolutions and linear layers. Normalisation, activations, biases,
scatter, interpolation, neighbour search and NMS count nothing.

PointDistiller (CVPR 2023, table 3) states 34.3 for KITTI's PointPillars and 9.0 for its 4x student.
Here they come to 34.2 and 8.9 on a KITTI frame: 34.17 and 8.91 are the dense layers; the pillar
encoder adds little, because it skips empty slots.

What depends on the scene is counted in the given frame. A sparse convolution costs its input
channels times its output channels for every pair of an input and an output cell that its kernel
joins. A layer of a point network costs its weights for every point of a ball; slots that OpenPCDet
fills with repetitions of a point cost nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from .models.eval_mode import evaluating
from .ops.rulebook import strided_rulebook, submanifold_rulebook
from .ops.sparse_conv import InverseConvolution, SparseConvolution, SubMConvolution
from .ops.sparse_tensor import SparseConvTensor
from .types import BatchDict

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, SparseConvolution)
WARM_UP = 2  # forward passes that are not timed


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of ``model``; a parameter shared by two modules counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Multiply-adds of one call of a dense layer, from its shapes; 0 for other layers."""
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
        self.strided: dict[str | None, int] = {}  # by indice_key

    def count(self, layer: SparseConvolution, tensor: SparseConvTensor) -> int:
        """Pairs of one call; an inverse convolution has those of the layer it inverts."""
        if isinstance(layer, InverseConvolution):
            return self.strided[layer.indice_key]
        if isinstance(layer, SubMConvolution):
            rulebook = submanifold_rulebook(tensor.indices, tensor.spatial_shape, layer.kernel)
            # The middle cell of the kernel joins every cell with itself: no list of pairs is kept.
            middle = 0 if rulebook.identity is None else rulebook.num_in
            return sum(rulebook.counts) + middle
        rulebook, _ = strided_rulebook(tensor.indices, tensor.spatial_shape, layer.kernel)
        pairs = sum(rulebook.counts)
        self.strided[layer.indice_key] = pairs
        return pairs


def count_gflops(model: nn.Module, batch_dict: BatchDict) -> float:
    """1e9 multiply-adds of one eval-mode forward pass, per frame.

    Args:
        model: its mode is restored.
        batch_dict: ``batch_size`` frames (default 1) on the model's device; not changed.
    """
    total = 0
    pairs = PairCounter()

    def add(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, SparseConvolution):
            total += pairs.count(layer, inputs[0]) * layer.in_channels * layer.out_channels
        else:
            total += count_multiply_adds(layer, inputs[0], output)

    handles = []
    for layer in model.modules():
        if isinstance(layer, COUNTED):
            handles.append(layer.register_forward_hook(add))
    try:
        with evaluating(model):
            model(dict(batch_dict))
    finally:
        for handle in handles:
            handle.remove()
    return total / int(batch_dict.get("batch_size", 1)) / 1e9


def measure_latency(model: nn.Module, batch_dict: BatchDict, repeats: int = 20) -> float:
    """Median milliseconds of one eval-mode forward pass, decoding and NMS included."""
    return measure_latencies([model], [batch_dict], repeats)[0]


def measure_latencies(
    models: Sequence[nn.Module], batches: Sequence[BatchDict], repeats: int = 20
) -> list[float]:
    """Median milliseconds of each model on its own batch of one frame.

    The models take turns, so that a busy moment of the machine affects all of them alike.
    """
    times: list[list[float]] = [[] for _ in models]
    for turn in range(WARM_UP + max(1, repeats)):
        for model, batch_dict, measured in zip(models, batches, times):
            elapsed_s = time_forward(model, batch_dict)
            if turn >= WARM_UP:
                measured.append(elapsed_s)
    return [1e3 * statistics.median(measured) for measured in times]


def time_forward(model: nn.Module, batch_dict: BatchDict) -> float:
    """Seconds of one eval-mode forward pass; waits for a GPU to finish."""
    with evaluating(model):
        synchronize(batch_dict)
        start = time.perf_counter()
        model(dict(batch_dict))
        synchronize(batch_dict)
        return time.perf_counter() - start


def synchronize(batch_dict: BatchDict) -> None:
    """Wait for the GPU that holds the batch; returns at once on a CPU."""
    for value in batch_dict.values():
        if isinstance(value, Tensor) and value.is_cuda:
            torch.cuda.synchronize(value.device)
            return
