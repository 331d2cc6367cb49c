"""The arithmetic of sparse convolution on the device, as matrix products with gathered rows.

A program sums up a block of output rows and channels over all kernel offsets: for each it gathers
the rows that its outputs read and multiplies them by the offset's matrix. No gathered row and no
product passes through memory ("implicit GEMM"). Each number has one writer, so that every run gives
the same bits. Sums are float32, also of halves.

The gradient of the features is the same sum, along the pairs backwards and by transposed matrices.
That of the weight sums over rows: parts of them by different programs, then the parts.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...pair_product import convolve_rows_plain, gradients_plain
from ...pairs import AnyRulebook, MappedRulebook
from . import EXACT

ROWS = 64  # of a block
MIN_CHANNELS = 16  # of a block: the smallest product of the hardware
MAX_CHANNELS = 64
PROGRAMS = 512  # that keep a GPU busy
MIN_BLOCKS = 8  # of rows, that a part of the weight's gradient has
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@triton.jit
def _add_product(total, left, right, WIDEN: tl.constexpr, PRECISION: tl.constexpr):
    """``total + left @ right`` in float32."""
    if WIDEN:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def _convolve_kernel(
    features,
    matrices,
    sources,
    order,
    output,
    num_rows,
    in_channels,
    out_channels,
    stride_k,
    stride_in,
    stride_out,
    VOLUME: tl.constexpr,
    ROWS: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    lane = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row = tl.load(order + lane, mask=lane < num_rows, other=-1).to(tl.int64)
    exists = row >= 0
    out_channel = tl.program_id(1) * OUT + tl.arange(0, OUT)
    in_lane = tl.arange(0, IN)
    total = tl.zeros([ROWS, OUT], tl.float32)
    for offset in range(VOLUME):
        place = sources + tl.cast(offset, tl.int64) * num_rows + row
        source = tl.load(place, mask=exists, other=-1).to(tl.int64)
        if tl.max(source, axis=0) >= 0:
            matrix = matrices + tl.cast(offset, tl.int64) * stride_k
            for start in range(0, in_channels, IN):
                in_channel = start + in_lane
                is_in = in_channel < in_channels
                gathered = tl.load(
                    features + source[:, None] * in_channels + in_channel[None, :],
                    mask=(source >= 0)[:, None] & is_in[None, :],
                    other=0.0,
                )
                weight = tl.load(
                    matrix + in_channel[:, None] * stride_in + out_channel[None, :] * stride_out,
                    mask=is_in[:, None] & (out_channel < out_channels)[None, :],
                    other=0.0,
                )
                total = _add_product(total, gathered, weight, WIDEN, PRECISION)
    tl.store(
        output + row[:, None] * out_channels + out_channel[None, :],
        total.to(output.dtype.element_ty),
        mask=exists[:, None] & (out_channel < out_channels)[None, :],
    )


@triton.jit
def _weight_gradient_kernel(
    grad,
    features,
    sources,
    order,
    parts,
    num_rows,
    in_channels,
    out_channels,
    blocks_of_part,
    volume,
    ROWS: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    part = tl.program_id(2).to(tl.int64)
    offset = tl.program_id(1)
    blocks_in = tl.cdiv(in_channels, IN)
    in_channel = tl.program_id(0) % blocks_in * IN + tl.arange(0, IN)
    out_channel = tl.program_id(0) // blocks_in * OUT + tl.arange(0, OUT)
    is_in = in_channel < in_channels
    is_out = out_channel < out_channels
    total = tl.zeros([OUT, IN], tl.float32)
    for block in range(0, blocks_of_part):
        lane = (part * blocks_of_part + block) * ROWS + tl.arange(0, ROWS)
        row = tl.load(order + lane, mask=lane < num_rows, other=-1).to(tl.int64)
        place = sources + offset.to(tl.int64) * num_rows + row
        source = tl.load(place, mask=row >= 0, other=-1).to(tl.int64)
        if tl.max(source, axis=0) >= 0:
            upstream = tl.load(
                grad + row[None, :] * out_channels + out_channel[:, None],
                mask=(source >= 0)[None, :] & is_out[:, None],
                other=0.0,
            )
            gathered = tl.load(
                features + source[:, None] * in_channels + in_channel[None, :],
                mask=(source >= 0)[:, None] & is_in[None, :],
                other=0.0,
            )
            total = _add_product(total, upstream, gathered, WIDEN, PRECISION)
    matrix = parts + (part * volume + offset) * out_channels * in_channels
    place = matrix + out_channel[:, None] * in_channels + in_channel[None, :]
    tl.store(place, total, mask=is_out[:, None] & is_in[None, :])


def convolve_rows(
    features: Tensor, matrices: Tensor, rulebook: AnyRulebook, inverse: bool
) -> Tensor:
    """``pair_product.convolve_rows_plain``; doubles are left to it."""
    if features.dtype not in DTYPES:
        return convolve_rows_plain(features, matrices, rulebook, inverse)
    sources, order = _reading(rulebook.mapped, inverse)
    return _convolve(features.contiguous(), matrices, sources, order)


def gradients(
    grad: Tensor, features: Tensor, matrices: Tensor, rulebook: AnyRulebook, inverse: bool
) -> tuple[Tensor, Tensor]:
    """``pair_product.gradients_plain``; doubles are left to it."""
    if features.dtype not in DTYPES:
        return gradients_plain(grad, features, matrices, rulebook, inverse)
    grad = grad.contiguous()
    features = features.contiguous()
    targets, target_order = _reading(rulebook.mapped, not inverse)
    of_features = _convolve(grad, matrices.transpose(1, 2), targets, target_order)
    sources, source_order = _reading(rulebook.mapped, inverse)
    return of_features, _weight_gradient(grad, features, sources, source_order)


def _reading(rulebook: MappedRulebook, inverse: bool) -> tuple[Tensor, Tensor]:
    """The map (K, M) from the rows that are written to those that are read, and their order."""
    if inverse:
        return rulebook.targets, rulebook.input_order
    return rulebook.sources, rulebook.output_order


def _convolve(features: Tensor, matrices: Tensor, sources: Tensor, order: Tensor) -> Tensor:
    """Sums (M, C') of rows of features (N, C) that a map (K, M) names, by matrices (K, C, C')."""
    volume, in_channels, out_channels = matrices.shape
    num_rows = sources.shape[1]
    output = features.new_empty(num_rows, out_channels)
    if output.numel() == 0:
        return output
    width = _block_of(out_channels)
    _convolve_kernel[(triton.cdiv(num_rows, ROWS), triton.cdiv(out_channels, width))](
        features,
        matrices,
        sources,
        order,
        output,
        num_rows,
        in_channels,
        out_channels,
        *matrices.stride(),
        VOLUME=volume,
        ROWS=ROWS,
        IN=_block_of(in_channels),
        OUT=width,
        WIDEN=_is_widened(features),
        PRECISION=_precision(),
        **EXACT,
    )
    return output


def _weight_gradient(grad: Tensor, features: Tensor, sources: Tensor, order: Tensor) -> Tensor:
    """Gradient (K, C', C) of the transposed matrices, from that of the output (M, C')."""
    volume, num_rows = sources.shape
    in_channels = features.shape[1]
    out_channels = grad.shape[1]
    if grad.numel() == 0 or features.numel() == 0:
        return grad.new_zeros(volume, out_channels, in_channels)
    in_block = _block_of(in_channels)
    out_block = _block_of(out_channels)
    blocks = triton.cdiv(in_channels, in_block) * triton.cdiv(out_channels, out_block)
    row_blocks = triton.cdiv(num_rows, ROWS)
    num_parts = min(triton.cdiv(PROGRAMS, blocks * volume), triton.cdiv(row_blocks, MIN_BLOCKS))
    parts = features.new_empty((num_parts, volume, out_channels, in_channels), dtype=torch.float32)
    _weight_gradient_kernel[(blocks, volume, num_parts)](
        grad,
        features,
        sources,
        order,
        parts,
        num_rows,
        in_channels,
        out_channels,
        triton.cdiv(row_blocks, num_parts),
        volume,
        ROWS=ROWS,
        IN=in_block,
        OUT=out_block,
        WIDEN=_is_widened(features),
        PRECISION=_precision(),
        **EXACT,
    )
    return parts.sum(dim=0).to(grad.dtype)


def _block_of(channels: int) -> int:
    """Channels of a block, a power of two."""
    return max(MIN_CHANNELS, min(MAX_CHANNELS, triton.next_power_of_2(channels)))


def _precision() -> str:
    """How float32 is multiplied, as PyTorch multiplies matrices: TF32 only where it is allowed."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


def _is_widened(rows: Tensor) -> bool:
    """Whether products are of float32 because the device has none of bfloat16.

    Those came with compute capability 8.0; Triton's interpreter has none.
    """
    if rows.dtype is not torch.bfloat16:
        return False
    return not rows.is_cuda or torch.cuda.get_device_capability(rows.device) < (8, 0)
