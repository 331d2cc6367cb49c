"""A layer as a linear map from patches: what it sees at a place, and what it puts out there.

A place is an output cell of a convolution (its patch: the input cells under the kernel), an input cell of a transposed
convolution whose blocks do not overlap (its output: the block), a row of a linear layer. Sparse cells are found by
their coordinates, as teacher and student may list them in another order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...ops.rulebook import Kernel, cell_keys
from .layers import Layer, features_of
from .options import WHERE


def place_of(layer: Layer, value: Any, output: Any) -> Any:
    """What the places of a layer are the rows of: its input for a transposed convolution, else its output."""
    return value if isinstance(layer.module, nn.ConvTranspose2d) else output


def at_rows(layer: Layer, value: Any, rows: Tensor) -> Tensor:
    """The places that ``rows`` of ``place_of`` are: row numbers, or in a sparse tensor cells (S, 1 + axes)."""
    return rows if features_of(value) is value else value.indices[rows]


def patches(layer: Layer, value: Any, output_size: Sequence[int], places: Tensor) -> Tensor:
    """(S, D) what a layer sees of its input ``value`` at ``places``; D runs as in ``weight_of``.

    Args:
        output_size: shape of the layer's output.
    """
    module = layer.module
    if features_of(value) is not value:
        return _sparse_patches(module, value, places)
    if (
        isinstance(module, nn.Conv2d)
        and value.dim() == 4
        and set(module.kernel_size) | set(module.stride) != {1}
    ):
        return _map_patches(module, value, output_size, places)
    if isinstance(module, nn.ConvTranspose2d):
        _check_blocks(layer)
    elif not isinstance(module, nn.Linear) and set(module.kernel_size) != {1}:
        raise ConfigError(
            f"{WHERE}: RECONSTRUCT does not know the patches of {layer.name} ({type(module).__name__}, "
            f"kernel {module.kernel_size}); use SLICE"
        )
    return layer.rows(value)[places]


def targets(layer: Layer, output: Any, rows: Tensor, channels: Tensor) -> Tensor:
    """(S, C_out) what a layer puts out for ``channels`` at rows of ``place_of``; whole blocks (S, C_out * s * s)."""
    if not isinstance(layer.module, nn.ConvTranspose2d):
        return layer.rows(output)[rows][:, channels]
    down, across = layer.module.stride
    frames, _, height, width = output.shape
    blocks = output[:, channels].reshape(
        frames, len(channels), height // down, down, width // across, across
    )
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(-1, len(channels) * down * across)[rows]


def weight_of(layer: Layer, solution: Tensor) -> Tensor:
    """The weight of the linear map ``solution`` (D, outputs)."""
    matrix = solution if isinstance(layer.module, nn.ConvTranspose2d) else solution.T
    return matrix.reshape(layer.module.weight.shape)


def _map_patches(
    module: nn.Conv2d, value: Tensor, output_size: Sequence[int], places: Tensor
) -> Tensor:
    """(S, C * ky * kx), zero beyond the border."""
    height, width = output_size[2:]
    frame, y, x = places // (height * width), places // width % height, places % width
    rows = value.permute(0, 2, 3, 1)
    seen = []
    for down, across in itertools.product(*map(range, module.kernel_size)):
        from_y = y * module.stride[0] - module.padding[0] + down * module.dilation[0]  # type: ignore[operator]
        from_x = x * module.stride[1] - module.padding[1] + across * module.dilation[1]  # type: ignore[operator]
        inside = (
            (from_y >= 0) & (from_y < value.shape[2]) & (from_x >= 0) & (from_x < value.shape[3])
        )
        cells = rows[
            frame, from_y.clamp(0, value.shape[2] - 1), from_x.clamp(0, value.shape[3] - 1)
        ]
        seen.append(cells * inside.unsqueeze(1))
    return torch.stack(seen, dim=2).flatten(1)


def _check_blocks(layer: Layer) -> None:
    module = layer.module
    apart = module.kernel_size == module.stride and set(module.padding) | set(
        module.output_padding
    ) == {0}
    if not apart or set(module.dilation) != {1}:
        raise ConfigError(
            f"{WHERE}: RECONSTRUCT knows transposed convolutions whose blocks do not overlap, but "
            f"{layer.name} has kernel {module.kernel_size} and stride {module.stride}; use SLICE"
        )


def _sparse_patches(module: Any, value: Any, places: Tensor) -> Tensor:
    """(S, K * C): the active cells under the kernel, zero where there is none."""
    kernel, way = _kernel(module, value)
    keys, order = cell_keys(value.indices, value.spatial_shape).sort()
    limit = torch.tensor(list(value.spatial_shape), device=places.device)
    seen = []
    for offset in kernel.offsets():
        cells, exists = _input_cells(kernel, way, offset, places[:, 1:].long())
        exists &= ((cells >= 0) & (cells < limit)).all(dim=1)
        wanted = cell_keys(torch.cat([places[:, :1].long(), cells], dim=1), value.spatial_shape)
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        found = exists & (keys[at] == wanted)
        seen.append(value.features[order[at]] * found.unsqueeze(1))
    return torch.cat(seen, dim=1)


def _kernel(module: Any, value: Any) -> tuple[Kernel, str]:
    """Geometry of a sparse convolution, and which way it goes: ``same``, ``down`` or ``up``."""
    name = type(module).__name__
    if "Inverse" in name:
        record = value.indice_dict.get(module.indice_key)
        if not isinstance(getattr(record, "kernel", None), Kernel):
            raise ConfigError(
                f"{WHERE}: RECONSTRUCT does not know the cells of a {name} of spconv; use SLICE"
            )
        return record.kernel, "up"
    if hasattr(module, "kernel"):
        kernel = module.kernel
    else:
        kernel = Kernel(
            *(
                tuple(getattr(module, key))
                for key in ("kernel_size", "stride", "padding", "dilation")
            )
        )
    return kernel, "same" if name.startswith("SubM") else "down"


def _input_cells(
    kernel: Kernel, way: str, offset: Sequence[int], cells: Tensor
) -> tuple[Tensor, Tensor]:
    """The input cells (S, axes) that feed output ``cells`` at a kernel offset, and which of them exist."""
    everywhere = torch.ones(len(cells), dtype=torch.bool, device=cells.device)
    stride, padding, place = (
        torch.tensor(numbers, device=cells.device)
        for numbers in (
            kernel.stride,
            kernel.padding,
            [at * step for at, step in zip(offset, kernel.dilation)],
        )
    )
    if way == "same":
        return cells + torch.tensor(kernel.from_middle(offset), device=cells.device), everywhere
    if way == "down":
        return cells * stride - padding + place, everywhere
    fine = cells + padding - place
    return torch.div(fine, stride, rounding_mode="floor"), (fine % stride == 0).all(dim=1)
