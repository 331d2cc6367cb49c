"""Sparse convolution on CUDA by spconv 2, where it is installed (extras ``cu118``, ``cu120``, ``cu126``).

Thin on purpose: every layer gets spconv's layer of the same name, which shares its parameters, and tensors are handed
over as they are. spconv's CPU build is never used: with more than one thread it adds up wrongly. The order of rows is
spconv's. That both backends agree is what the parity tests check when they run with ``--device cuda``.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from ..sparse_tensor import SparseConvTensor

if TYPE_CHECKING:
    from ..sparse_conv import SparseConvolution


@lru_cache(maxsize=1)
def spconv_module() -> ModuleType | None:
    """``spconv.pytorch``; None where it is not installed."""
    try:
        import spconv.pytorch
    except ImportError:
        return None
    return spconv.pytorch


def usable(tensor: SparseConvTensor) -> bool:
    """Whether spconv should convolve this tensor; it refuses one without cells."""
    return tensor.features.is_cuda and len(tensor.features) > 0 and spconv_module() is not None


def convolve(layer: SparseConvolution, tensor: SparseConvTensor) -> SparseConvTensor:
    """What ``layer`` makes of ``tensor``, computed by spconv."""
    library = spconv_module()
    assert library is not None
    # Kept out of the module's own attributes: the parameters must stand in the state dict once only.
    twin = layer.__dict__.get("spconv_twin")
    if twin is None:
        twin = layer.__dict__["spconv_twin"] = _make_twin(library, layer)
    twin.weight, twin.bias = layer.weight, layer.bias
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


def _make_twin(library: ModuleType, layer: SparseConvolution):
    """spconv's layer of the same name and geometry."""
    name = next(base.__name__ for base in type(layer).__mro__ if hasattr(library, base.__name__))
    channels, kernel = (layer.in_channels, layer.out_channels), layer.kernel
    options = {"bias": layer.bias is not None, "indice_key": layer.indice_key}
    if "Inverse" in name:
        return getattr(library, name)(*channels, kernel.size, **options)
    return getattr(library, name)(
        *channels, kernel.size, kernel.stride, kernel.padding, kernel.dilation, **options
    )
