"""Writes any layer as one linear map, from the patch of its input at a place to its output there.

A place is

* an output cell of a convolution; its patch are the input cells under the kernel;
* an input cell of a transposed convolution whose blocks do not overlap; its output is the block;
* a row of a linear layer.

Places in sparse tensors are cells, not row numbers: teacher and student may list the active cells
in another order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.constants import constant
from ...ops.rulebook import Kernel, cell_keys
from ...ops.sparse_tensor import SparseConvTensor
from .layers import Features, Layer
from .options import WHERE


def place_grid(layer: Layer, value: Features, output: Features) -> Features:
    """The tensor whose rows are the places: a transposed convolution's input, else the output."""
    return value if isinstance(layer.module, nn.ConvTranspose2d) else output


def places_of_rows(grid: Features, rows: Tensor) -> Tensor:
    """The places at ``rows`` of ``place_grid``: row numbers (S,), or cells (S, 1 + axes)."""
    return rows if isinstance(grid, Tensor) else grid.indices[rows]


def read_patches(
    layer: Layer, value: Features, output_shape: Sequence[int], places: Tensor
) -> Tensor:
    """(S, D) what a layer reads at ``places``; D is in the order of ``weight_from_map``.

    Args:
        layer: the layer.
        value: its input.
        output_shape: shape of its output.
        places: from ``places_of_rows``.
    """
    module = layer.module
    if not isinstance(value, Tensor):
        return _read_sparse_patches(module, value, places)
    if isinstance(module, nn.Conv2d) and value.dim() == 4 and not _is_pointwise(module):
        return _read_map_patches(module, value, output_shape, places)
    if isinstance(module, nn.ConvTranspose2d):
        _refuse_overlapping_blocks(layer)
    elif not isinstance(module, nn.Linear) and set(module.kernel_size) != {1}:
        raise ConfigError(
            f"{WHERE}: RECONSTRUCT cannot read the patches of {layer.name} "
            f"({type(module).__name__}, kernel {module.kernel_size}); use SLICE"
        )
    return layer.as_rows(value)[places]


def read_targets(layer: Layer, output: Features, rows: Tensor, channels: Tensor) -> Tensor:
    """(S, outputs) what a layer outputs in ``channels`` at ``rows`` of ``place_grid``.

    There is one output per channel, for a transposed convolution of stride s the whole block, s * s
    per channel.
    """
    if not isinstance(layer.module, nn.ConvTranspose2d) or not isinstance(output, Tensor):
        return layer.as_rows(output)[rows][:, channels]
    down, across = layer.module.stride
    frames, _, height, width = output.shape
    count = len(channels)
    blocks = output[:, channels].reshape(
        frames, count, height // down, down, width // across, across
    )
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(-1, count * down * across)[rows]


def weight_from_map(layer: Layer, linear_map: Tensor) -> Tensor:
    """The weight of a layer that computes ``linear_map`` (D, outputs) at every place."""
    # PyTorch keeps the outputs first, transposed convolutions the inputs.
    matrix = linear_map if isinstance(layer.module, nn.ConvTranspose2d) else linear_map.T
    return matrix.reshape(layer.module.weight.shape)


def _is_pointwise(module: nn.Conv2d) -> bool:
    """Whether each output cell reads the input cell at its own place and no other."""
    return set(module.kernel_size) | set(module.stride) == {1}


def _read_map_patches(
    module: nn.Conv2d, value: Tensor, output_shape: Sequence[int], places: Tensor
) -> Tensor:
    """(S, C * ky * kx) from a map (B, C, H, W), with zeros beyond the border."""
    height, width = value.shape[2:]
    out_height, out_width = output_shape[2:]
    frame = places // (out_height * out_width)
    out_y = places // out_width % out_height
    out_x = places % out_width
    assert not isinstance(module.padding, str)  # no detector pads by "same" or "valid"
    cells = value.permute(0, 2, 3, 1)
    patches = []
    for kernel_y, kernel_x in itertools.product(*map(range, module.kernel_size)):
        y = out_y * module.stride[0] - module.padding[0] + kernel_y * module.dilation[0]
        x = out_x * module.stride[1] - module.padding[1] + kernel_x * module.dilation[1]
        is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        inputs = cells[frame, y.clamp(0, height - 1), x.clamp(0, width - 1)]
        patches.append(inputs * is_inside.unsqueeze(1))
    return torch.stack(patches, dim=2).flatten(1)


def _refuse_overlapping_blocks(layer: Layer) -> None:
    """Refuse transposed convolutions whose output cells depend on several input cells."""
    module = layer.module
    paddings = {*module.padding, *module.output_padding}
    blocks_are_apart = module.kernel_size == module.stride and paddings == {0}
    if not blocks_are_apart or set(module.dilation) != {1}:
        raise ConfigError(
            f"{WHERE}: RECONSTRUCT needs transposed convolutions whose blocks do not overlap, but "
            f"{layer.name} has kernel {module.kernel_size} and stride {module.stride}; use SLICE"
        )


def _read_sparse_patches(module: nn.Module, value: SparseConvTensor, places: Tensor) -> Tensor:
    """(S, K * C) the cells under the K offsets of the kernel, zeros where no cell is active."""
    kernel, direction = _kernel_of(module, value)
    # Sorted keys of the active cells: a cell is found by bisection.
    keys, order = cell_keys(value.indices, value.spatial_shape).sort()
    limit = constant(list(value.spatial_shape), places.device)
    frames = places[:, :1].long()
    patches = []
    for offset in kernel.offsets():
        cells, exists = _input_cells(kernel, direction, offset, places[:, 1:].long())
        exists &= ((cells >= 0) & (cells < limit)).all(dim=1)
        wanted = cell_keys(torch.cat([frames, cells], dim=1), value.spatial_shape)
        positions = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        is_active = exists & (keys[positions] == wanted)
        patches.append(value.features[order[positions]] * is_active.unsqueeze(1))
    return torch.cat(patches, dim=1)


def _kernel_of(module: nn.Module, value: SparseConvTensor) -> tuple[Kernel, str]:
    """Geometry of a sparse convolution, and its direction: ``same``, ``down`` or ``up``."""
    name = type(module).__name__
    if "Inverse" in name:
        # It goes back along an earlier convolution, which left its kernel in the tensor.
        record = value.indice_dict.get(str(module.indice_key))
        kernel = getattr(record, "kernel", None)
        if not isinstance(kernel, Kernel):
            raise ConfigError(
                f"{WHERE}: RECONSTRUCT cannot read the cells of spconv's {name}; use SLICE"
            )
        return kernel, "up"
    direction = "same" if name.startswith("SubM") else "down"
    own_kernel = getattr(module, "kernel", None)
    if isinstance(own_kernel, Kernel):
        return own_kernel, direction
    geometry = [
        tuple(getattr(module, key)) for key in ("kernel_size", "stride", "padding", "dilation")
    ]
    return Kernel(*geometry), direction


def _input_cells(
    kernel: Kernel, direction: str, offset: Sequence[int], cells: Tensor
) -> tuple[Tensor, Tensor]:
    """The input cells (S, axes) of output ``cells`` at a kernel offset, and which exist (S,)."""
    all_exist = torch.ones(len(cells), dtype=torch.bool, device=cells.device)
    if direction == "same":
        return cells + constant(kernel.from_middle(offset), cells.device), all_exist
    stride = constant(kernel.stride, cells.device)
    padding = constant(kernel.padding, cells.device)
    dilated = [at * step for at, step in zip(offset, kernel.dilation)]
    shift = constant(dilated, cells.device)
    if direction == "down":
        return cells * stride - padding + shift, all_exist
    # Up: solve the line above for the coarse cell. Only multiples of the stride have one.
    fine = cells + padding - shift
    return torch.div(fine, stride, rounding_mode="floor"), (fine % stride == 0).all(dim=1)
