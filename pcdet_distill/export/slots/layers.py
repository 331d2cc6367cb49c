"""Linear layers and convolutions, with the batch norm behind them folded into their weights.

In eval mode a batch norm is a scale and a shift of each channel. Folded, a layer and its norm are
one node: a smaller file, and one pass over the map less in every runtime.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ...errors import ConfigError
from ..graph import Graph

Norm = nn.modules.batchnorm._BatchNorm
WITH_WEIGHTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Affine(NamedTuple):
    """What a layer does to its input.

    Attributes:
        weight: of the layer, output channels at the place where the layer has them.
        bias: (C_out,).
    """

    weight: Tensor
    bias: Tensor


def affine_of(layer: nn.Module, norm: Norm | None) -> Affine:
    """Weights of a linear layer or convolution, and of the norm behind it if there is one."""
    assert isinstance(layer, WITH_WEIGHTS)
    weight = layer.weight.detach().double()
    axis = _output_axis(layer)
    bias = weight.new_zeros(weight.shape[axis])
    if layer.bias is not None:
        bias = layer.bias.detach().double()
    if norm is not None:
        scale, shift = _scale_and_shift(norm)
        shape = [1] * weight.dim()
        shape[axis] = -1
        weight = weight * scale.reshape(shape)
        bias = bias * scale + shift
    return Affine(weight.float(), bias.float())


def add_sequence(graph: Graph, tensor: str, layers: nn.Module, path: str) -> str:
    """Convolutions, batch norms and ReLUs one after the other: (B, C, ny, nx) to another map.

    Args:
        layers: a Sequential of them, or a convolution alone.
        path: of ``layers`` in the detector; the output has this name, other tensors those of their
            layers.
    """
    if isinstance(layers, (nn.Conv2d, nn.ConvTranspose2d)):
        return _add_convolution(graph, tensor, layers, None, path)
    steps = _steps_of(layers)
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        own_path = path if is_last else f"{path}.{step.path}"
        tensor = _add_layer(graph, tensor, step, own_path)
    return tensor


class Step(NamedTuple):
    """A layer with the batch norm behind it, and the path of the last of the two."""

    path: str
    layer: nn.Module
    norm: Norm | None


def _steps_of(layers: nn.Module) -> list[Step]:
    steps: list[Step] = []
    for path, layer in _flat(layers):
        follows_layer = bool(steps) and isinstance(steps[-1].layer, WITH_WEIGHTS)
        if isinstance(layer, Norm) and follows_layer and steps[-1].norm is None:
            steps[-1] = Step(path, steps[-1].layer, layer)
        elif not isinstance(layer, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            steps.append(Step(path, layer, None))
    return steps


def _flat(layers: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The layers of nested Sequentials with their paths."""
    found = []
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Sequential):
            found += _flat(layer, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", layer))
    return found


def _add_layer(graph: Graph, tensor: str, step: Step, path: str) -> str:
    if isinstance(step.layer, nn.ReLU):
        return graph.add("Relu", tensor, name=path)
    if isinstance(step.layer, (nn.Conv2d, nn.ConvTranspose2d)):
        return _add_convolution(graph, tensor, step.layer, step.norm, path)
    raise ConfigError(
        f"{path} cannot be exported: it is a {type(step.layer).__name__}, expected convolutions, "
        "batch norms and ReLUs"
    )


def _add_convolution(
    graph: Graph,
    tensor: str,
    layer: nn.Conv2d | nn.ConvTranspose2d,
    norm: Norm | None,
    path: str,
) -> str:
    """A convolution; its padding must be a number of cells."""
    affine = affine_of(layer, norm)
    attributes: dict[str, object] = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "pads": [*layer.padding, *layer.padding],
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    operator = "Conv"
    if isinstance(layer, nn.ConvTranspose2d):
        operator = "ConvTranspose"
        attributes["output_padding"] = list(layer.output_padding)
    return graph.add(operator, tensor, affine.weight, affine.bias, name=path, **attributes)


def _scale_and_shift(norm: Norm) -> tuple[Tensor, Tensor]:
    """The scale (C,) and shift (C,) of a batch norm in eval mode, in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def _output_axis(layer: nn.Module) -> int:
    """The axis of a layer's weight that counts output channels."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0
