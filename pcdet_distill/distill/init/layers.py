"""The layers whose channels INIT_STUDENT can drop, and hooks on their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ...models import Detector3DTemplate
from ...ops.sparse_tensor import SparseConvTensor
from ...types import BatchDict

# What goes in and out of a layer. A sparse tensor may also be spconv's own, which has the same
# attributes.
Features: TypeAlias = Tensor | SparseConvTensor

# Attributes that describe a convolution apart from its widths; dense and sparse ones have different
# subsets.
GEOMETRY = (
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "output_padding",
    "groups",
    "kernel",
    "subm",
    "inverse",
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A linear layer, convolution or batch norm of a detector, with its channel axes.

    Attributes:
        name: path of the module in the detector.
        module: a linear layer, a dense or sparse convolution, or a batch norm.
        out_axis: axis of the weight that counts output channels.
        in_axis: axis of the weight that counts input channels; equal to ``out_axis`` in a norm.
        feature_axis: axis of the input and of the output that counts channels.
    """

    name: str
    module: Any  # these classes share no base class with a weight
    out_axis: int
    in_axis: int
    feature_axis: int

    @property
    def is_norm(self) -> bool:
        """Whether it is a batch norm, which scales each channel and mixes none."""
        return isinstance(self.module, _BatchNorm)

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return self.module.num_features if self.is_norm else self.module.weight.shape[self.out_axis]

    @property
    def in_channels(self) -> int:
        """Number of input channels."""
        return self.module.num_features if self.is_norm else self.module.weight.shape[self.in_axis]

    @property
    def geometry(self) -> dict[str, object]:
        """Kernel size, stride and so on: must be equal in teacher and student."""
        return {key: getattr(self.module, key) for key in GEOMETRY if hasattr(self.module, key)}

    def as_rows(self, value: Features) -> Tensor:
        """An input or output of the layer as (rows, channels)."""
        features = feature_tensor(value)
        channels = features.shape[self.feature_axis]
        return features.movedim(self.feature_axis, -1).reshape(-1, channels)

    def fill(self, value: Features, channels: Tensor) -> Features:
        """``value`` with every channel set to one number of ``channels`` (C,), at all places."""
        features = feature_tensor(value)
        shape = [1] * features.dim()
        shape[self.feature_axis] = -1
        filled = channels.to(features).view(shape).expand_as(features).clone()
        return filled if isinstance(value, Tensor) else value.replace_feature(filled)


# Called as hook(layer, inputs, output) after a layer ran. What it returns replaces the output; None
# keeps it.
LayerHook: TypeAlias = Callable[[Layer, tuple[Any, ...], Any], object]


def feature_tensor(value: Features) -> Tensor:
    """The tensor itself, or the features (N, C) of a sparse tensor."""
    return value if isinstance(value, Tensor) else value.features


def as_layer(name: str, module: nn.Module) -> Layer | None:
    """The layer of ``module``; None for modules of other kinds.

    Grouped convolutions and norms without weights are other kinds too.
    """
    if isinstance(module, _BatchNorm):
        return Layer(name, module, out_axis=0, in_axis=0, feature_axis=1) if module.affine else None
    if isinstance(module, nn.Linear):
        return Layer(name, module, out_axis=0, in_axis=1, feature_axis=-1)
    if isinstance(module, _ConvNd):
        if module.groups != 1:
            return None
        # PyTorch stores the weight as (out, in, ...), transposed convolutions as (in, out, ...).
        out_axis = 1 if isinstance(module, _ConvTransposeNd) else 0
        return Layer(name, module, out_axis=out_axis, in_axis=1 - out_axis, feature_axis=1)
    if _is_sparse_convolution(module):
        return Layer(name, module, out_axis=0, in_axis=-1, feature_axis=1)
    return None


def _is_sparse_convolution(module: nn.Module) -> bool:
    """Whether it is a sparse convolution, of ours or spconv's: a weight (out, kz, ky, kx, in)."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() < 4:
        return False
    out_channels = getattr(module, "out_channels", None)
    in_channels = getattr(module, "in_channels", None)
    return (weight.shape[0], weight.shape[-1]) == (out_channels, in_channels)


def find_layers(model: nn.Module) -> dict[str, Layer]:
    """All layers of a detector by name."""
    layers = {}
    for name, module in model.named_modules():
        layer = as_layer(name, module)
        if layer is not None:
            layers[name] = layer
    return layers


def find_prediction_layers(model: nn.Module, narrower: set[str]) -> set[str]:
    """Names of the layers whose outputs are predictions, not features.

    They are the layers without a norm behind them that are as wide in the student as in the
    teacher.

    Args:
        model: the teacher.
        narrower: names of the layers with fewer channels in the student.
    """
    layers = find_layers(model)
    has_norm_behind = set()
    for parent, module in model.named_modules():
        children = [
            f"{parent}.{child}" if parent else child for child, _ in module.named_children()
        ]
        for name, next_name in zip(children, children[1:]):
            if next_name in layers and layers[next_name].is_norm:
                has_norm_behind.add(name)
    feature_layers = has_norm_behind | narrower
    return {
        name for name, layer in layers.items() if not layer.is_norm and name not in feature_layers
    }


def find_score_layers(model: Detector3DTemplate) -> set[str]:
    """Names of the layers that the heads publish as class scores.

    A head may publish a branch of several layers: then all of them count.
    """
    branches = tuple(f"{path}." for path in model.score_taps())
    return {name for name in find_layers(model) if f"{name}.".startswith(branches)}


@contextmanager
def layer_hooks(layers: Mapping[str, Layer], hook: LayerHook) -> Iterator[None]:
    """Call ``hook`` after every run of ``layers`` inside the ``with`` block."""
    with ExitStack() as handles:
        for layer in layers.values():
            handle = layer.module.register_forward_hook(partial(_call_hook, layer, hook))
            handles.callback(handle.remove)
        yield


def _call_hook(
    layer: Layer, hook: LayerHook, module: nn.Module, inputs: tuple[object, ...], output: object
) -> object:
    """PyTorch's forward hook, with the layer in place of the module."""
    return hook(layer, inputs, output)


def record_outputs(
    model: Detector3DTemplate, layers: Mapping[str, Layer], batch_dict: BatchDict
) -> dict[str, list[Features]]:
    """The outputs of ``layers`` in a forward pass, run by run. Without layers there is no pass."""
    outputs: dict[str, list[Features]] = {name: [] for name in layers}

    def record(layer: Layer, inputs: tuple[Features, ...], output: Features) -> None:
        outputs[layer.name].append(output)

    if layers:
        with layer_hooks(layers, record):
            run_detector(model, batch_dict)
    return outputs


class AllRead(Exception):
    """Raised by a hook to leave the forward pass: the layers behind it need not run."""


@torch.no_grad()
def run_detector(model: Detector3DTemplate, batch_dict: BatchDict) -> BatchDict:
    """Run the modules of a detector on a copy of ``batch_dict``; returns the filled copy."""
    return model.run_modules(dict(batch_dict))
