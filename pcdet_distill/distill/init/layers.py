"""Layers whose channels can be chosen: which axis of the weight, and of the features, counts the channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

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
    """A module with weights that multiply channels (or, a norm, scale them one by one).

    Attributes:
        name: its path in the detector.
        module: the module.
        out_axis, in_axis: of the weight; equal in a norm.
        feature_axis: where its input and output count channels.
    """

    name: str
    module: Any
    out_axis: int
    in_axis: int
    feature_axis: int

    @property
    def is_norm(self) -> bool:
        """Batch normalisation: keeps the channels that come in."""
        return isinstance(self.module, _BatchNorm)

    @property
    def outputs(self) -> int:
        """Channels that go out."""
        return self.module.num_features if self.is_norm else self.module.weight.shape[self.out_axis]

    @property
    def inputs(self) -> int:
        """Channels that come in."""
        return self.module.num_features if self.is_norm else self.module.weight.shape[self.in_axis]

    @property
    def geometry(self) -> dict[str, Any]:
        """What must be the same in teacher and student."""
        return {key: getattr(self.module, key) for key in GEOMETRY if hasattr(self.module, key)}

    def rows(self, value: Any) -> Tensor:
        """What goes in or comes out as (rows, channels)."""
        features = features_of(value)
        return features.movedim(self.feature_axis, -1).reshape(
            -1, features.shape[self.feature_axis]
        )

    def spread(self, channels: Tensor, like: Any) -> Any:
        """``like`` with the same number (C,) for every row of a channel."""
        features = features_of(like)
        shape = [1] * features.dim()
        shape[self.feature_axis] = -1
        return with_features(like, channels.to(features).view(shape).expand_as(features).clone())


def features_of(value: Any) -> Tensor:
    """The tensor itself, or the features of a sparse one."""
    return value if isinstance(value, Tensor) else value.features


def with_features(value: Any, features: Tensor) -> Any:
    """A value like ``value`` that holds ``features``."""
    return features if isinstance(value, Tensor) else value.replace_feature(features)


def as_layer(name: str, module: nn.Module) -> Layer | None:
    """The layer that ``module`` is; None for other modules, grouped convolutions and convolutions of unknown make."""
    if isinstance(module, _BatchNorm):
        return Layer(name, module, 0, 0, 1) if module.affine else None
    if isinstance(module, nn.Linear):
        return Layer(name, module, 0, 1, -1)
    if isinstance(module, _ConvNd):
        transposed = isinstance(module, _ConvTransposeNd)
        return (
            Layer(name, module, int(transposed), int(not transposed), 1)
            if module.groups == 1
            else None
        )
    if _is_sparse_convolution(module):
        return Layer(name, module, 0, module.weight.dim() - 1, 1)  # type: ignore[operator, union-attr]
    return None


def _is_sparse_convolution(module: Any) -> bool:
    """Our own or spconv's: the weight is (out, kz, ky, kx, in)."""
    weight = getattr(module, "weight", None)
    channels = (getattr(module, "out_channels", None), getattr(module, "in_channels", None))
    return (
        isinstance(weight, Tensor)
        and weight.dim() > 3
        and (weight.shape[0], weight.shape[-1]) == channels
    )


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """All layers of a detector by name."""
    found = ((name, as_layer(name, module)) for name, module in model.named_modules())
    return {name: layer for name, layer in found if layer is not None}


def predictions_of(model: nn.Module, narrower: set[str]) -> set[str]:
    """Names of the layers that predict: as wide in the student as in the teacher, and no norm stands behind them."""
    layers = layers_of(model)
    followed = set()
    for parent, module in model.named_modules():
        children = [".".join(filter(None, (parent, child))) for child, _ in module.named_children()]
        followed |= {
            name
            for name, after in zip(children, children[1:])
            if after in layers and layers[after].is_norm
        }
    return {
        name
        for name, layer in layers.items()
        if not layer.is_norm and name not in followed | narrower
    }


@contextmanager
def listening(
    layers: Mapping[str, Layer], listener: Callable[[Layer, tuple, Any], Any]
) -> Iterator[None]:
    """Inside, ``listener(layer, inputs, output)`` hears every run of ``layers``; what it returns replaces it."""
    with ExitStack() as hooks:
        for layer in layers.values():
            handle = layer.module.register_forward_hook(partial(_tell, layer, listener))
            hooks.callback(handle.remove)
        yield


def _tell(
    layer: Layer,
    listener: Callable[[Layer, tuple, Any], Any],
    module: nn.Module,
    inputs: tuple,
    output: Any,
) -> Any:
    return listener(layer, inputs, output)


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode, and afterwards as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def run(model: Any, batch_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Run the slots of a detector on a copy of ``batch_dict``; gives the filled copy."""
    return model.run_modules(dict(batch_dict))
