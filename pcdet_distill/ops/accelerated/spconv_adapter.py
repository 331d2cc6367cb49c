"""Sparse convolution on CUDA by spconv 2, where it is installed.

The extras ``cu118``, ``cu120`` and ``cu126`` install it. The adapter is thin: every layer gets
spconv's layer of the same name, which shares its parameters, and tensors pass between the two
without a copy. spconv's CPU build is never used, because its sums are wrong when it runs with more
than one thread. The order of output rows is spconv's own. The parity tests compare both backends
when they run with ``--device cuda``.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Protocol, cast

from torch import nn

from ..rulebook import Kernel
from ..sparse_tensor import SparseConvTensor

TWIN = "spconv_twin"


class ConvolutionLayer(Protocol):
    """The attributes of a sparse convolution that the adapter reads."""

    in_channels: int
    out_channels: int
    kernel: Kernel
    indice_key: str | None
    weight: nn.Parameter
    bias: nn.Parameter | None
    training: bool


@lru_cache(maxsize=1)
def spconv_module() -> ModuleType | None:
    """``spconv.pytorch``; None where it is not installed."""
    try:
        import spconv.pytorch
    except ImportError:
        return None
    return cast(ModuleType, spconv.pytorch)


def usable(tensor: SparseConvTensor) -> bool:
    """Whether spconv should convolve this tensor; it rejects a tensor without cells."""
    return tensor.features.is_cuda and len(tensor.features) > 0 and spconv_module() is not None


def convolve(layer: ConvolutionLayer, tensor: SparseConvTensor) -> SparseConvTensor:
    """The output of ``layer`` for ``tensor``, computed by spconv."""
    library = spconv_module()
    assert library is not None
    twin = _twin_of(library, layer)
    twin.register_parameter("weight", layer.weight)
    twin.register_parameter("bias", layer.bias)
    twin.train(layer.training)
    result = twin(
        library.SparseConvTensor(
            tensor.features,
            tensor.indices.contiguous(),
            tensor.spatial_shape,
            tensor.batch_size,
            indice_dict=tensor.indice_dict,
        )
    )
    return SparseConvTensor(
        result.features, result.indices, result.spatial_shape, result.batch_size, result.indice_dict
    )


def _twin_of(library: ModuleType, layer: ConvolutionLayer) -> nn.Module:
    """spconv's layer for ``layer``, made at its first use."""
    # ``setattr`` would register the twin as a submodule, and the state dict would list the shared
    # parameters twice. The instance's ``__dict__`` keeps it out of there.
    twin = layer.__dict__.get(TWIN)
    if twin is None:
        twin = _make_twin(library, layer)
        layer.__dict__[TWIN] = twin
    return cast(nn.Module, twin)


def _make_twin(library: ModuleType, layer: ConvolutionLayer) -> nn.Module:
    """spconv's layer of the same name and geometry."""
    names = [base.__name__ for base in type(layer).__mro__]
    name = next(name for name in names if hasattr(library, name))
    kernel = layer.kernel
    geometry = {"kernel_size": kernel.size}
    if "Inverse" not in name:
        geometry.update(stride=kernel.stride, padding=kernel.padding, dilation=kernel.dilation)
    layer_class = getattr(library, name)
    twin = layer_class(
        layer.in_channels,
        layer.out_channels,
        **geometry,
        bias=layer.bias is not None,
        indice_key=layer.indice_key,
    )
    return cast(nn.Module, twin)
