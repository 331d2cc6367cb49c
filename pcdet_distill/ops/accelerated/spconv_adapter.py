"""Sparse convolution on CUDA by spconv 2 or spconv-triton, where one is installed.

The extras ``cu118``, ``cu120`` and ``cu126`` install spconv. spconv-triton has the same interface
under another name; it runs where this package's Triton kernels would. The adapter is thin: every
layer gets the library's layer of the same name, which shares its parameters, and tensors pass
between the two without a copy. spconv's CPU build is never used, because its sums are wrong when it
runs with more than one thread. The order of output rows is the library's own. The parity tests
compare spconv with this package's operators when they run with ``--device cuda``.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Protocol, cast

from torch import nn

from ..dispatch import Form, form_for
from ..rulebook import Kernel
from ..sparse_tensor import SparseConvTensor

SPCONV = "spconv.pytorch"
SPCONV_TRITON = "spconv_triton.pytorch"


class ConvolutionLayer(Protocol):
    """The attributes of a sparse convolution that the adapter reads."""

    in_channels: int
    out_channels: int
    kernel: Kernel
    indice_key: str | None
    weight: nn.Parameter
    bias: nn.Parameter | None
    training: bool


@lru_cache
def installed(name: str) -> ModuleType | None:
    """The module of this name; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def library_for(tensor: SparseConvTensor) -> ModuleType | None:
    """The library that should convolve this tensor; None for this package's own operators.

    Neither library takes a tensor without cells.
    """
    if not tensor.features.is_cuda or len(tensor.features) == 0:
        return None
    library = installed(SPCONV)
    if library is None and form_for(tensor.features.device) is Form.TRITON:
        library = installed(SPCONV_TRITON)
    return library


def convolve(
    library: ModuleType, layer: ConvolutionLayer, tensor: SparseConvTensor
) -> SparseConvTensor:
    """The output of ``layer`` for ``tensor``, computed by the library."""
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
    """The library's layer for ``layer``, made at its first use."""
    # ``setattr`` would register the twin as a submodule, and the state dict would list the shared
    # parameters twice. The instance's ``__dict__`` keeps it out of there.
    name = f"twin in {library.__name__}"
    twin = layer.__dict__.get(name)
    if twin is None:
        twin = _make_twin(library, layer)
        layer.__dict__[name] = twin
    return cast(nn.Module, twin)


def _make_twin(library: ModuleType, layer: ConvolutionLayer) -> nn.Module:
    """The library's layer of the same name and geometry."""
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
