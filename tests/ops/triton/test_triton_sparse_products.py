"""Sparse convolution by Triton, with its gradients, against the plain forms in doubles."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from triton_inputs import features

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.accelerated import spconv_adapter
from pcdet_distill.ops.pair_product import (
    CONVOLUTION_GRADIENTS,
    CONVOLVE_ROWS,
    convolve_rows_plain,
    gradients_plain,
)
from pcdet_distill.ops.pairs import MappedRulebook, Rulebook
from pcdet_distill.ops.rulebook import Kernel, strided_rulebook_plain, submanifold_rulebook_plain
from pcdet_distill.ops.sparse_conv import (
    SparseConv3d,
    SparseConvTensor,
    SparseInverseConv3d,
    SparseSequential,
    SubMConv3d,
)

SHAPE = (7, 8, 9)
CUBE = Kernel((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
WIDTHS_AND_TYPES = [
    ((1, 1), torch.float32),
    ((4, 16), torch.float16),
    ((20, 17), torch.bfloat16),
    ((70, 66), torch.float32),
]
TOLERANCES = {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float32: 1e-5}


def some_cells(count: int, device: torch.device) -> Tensor:
    """Different cells (count, 4) int32 of frames 0 and 2, in random order."""
    every = torch.tensor(list(itertools.product((0, 2), *map(range, SHAPE))), dtype=torch.int32)
    chosen = torch.randperm(len(every), generator=torch.Generator().manual_seed(count))[:count]
    return every[chosen].to(device)


def rulebook_of(kind: str, count: int, device: torch.device) -> Rulebook:
    cells = some_cells(count, device)
    if kind == "submanifold":
        return submanifold_rulebook_plain(cells, SHAPE, CUBE)
    return strided_rulebook_plain(cells, SHAPE, CUBE)[0]


def matrices_of(
    channels: tuple[int, int], dtype: torch.dtype, device: torch.device, volume: int = CUBE.volume
) -> Tensor:
    """(K, C, C') as the view of a layer's weight (C', K, C)."""
    generator = torch.Generator().manual_seed(5)
    in_channels, out_channels = channels
    weight = torch.randn(out_channels, volume, in_channels, generator=generator)
    return weight.to(device, dtype).permute(1, 2, 0)


def close(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    """Within the rounding of products and sums, measured by the largest value."""
    assert found.dtype == dtype
    scale = float(exact.abs().max()) if exact.numel() else 1.0
    error = TOLERANCES[dtype] * max(scale, 1.0)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=error)


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
@pytest.mark.parametrize(("channels", "dtype"), WIDTHS_AND_TYPES)
@pytest.mark.parametrize("count", [0, 1, 70])
def test_sums_and_gradients(
    kind: str,
    count: int,
    channels: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    inverse = kind == "inverse"
    rulebook = rulebook_of(kind, count, device)
    sizes = (rulebook.num_in, rulebook.num_out)
    num_read, num_written = reversed(sizes) if inverse else sizes
    rows = features(1, num_read, channels[0], dtype, device)
    matrices = matrices_of(channels, dtype, device)
    found = CONVOLVE_ROWS.triton_form()(rows, matrices, rulebook, inverse)
    exact = convolve_rows_plain(rows.double(), matrices.double(), rulebook, inverse)
    close(found, exact, dtype)

    grad = features(2, num_written, channels[1], dtype, device)
    found_gradients = CONVOLUTION_GRADIENTS.triton_form()(grad, rows, matrices, rulebook, inverse)
    exact_gradients = gradients_plain(
        grad.double(), rows.double(), matrices.double(), rulebook, inverse
    )
    for one, other in zip(found_gradients, exact_gradients, strict=True):
        close(one, other, dtype)


def test_many_rows_are_summed_in_parts(device: torch.device) -> None:
    """More than one part of the weight's gradient, the last one not full."""
    cells = torch.cartesian_prod(*(torch.arange(extent) for extent in (1, 8, 9, 8)))
    kernel = Kernel((3, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1))
    rulebook = submanifold_rulebook_plain(cells.int().to(device), (8, 9, 8), kernel)
    rows = features(3, len(cells), 3, torch.float32, device)
    grad = features(4, len(cells), 2, torch.float32, device)
    matrices = matrices_of((3, 2), torch.float32, device, kernel.volume)
    found = CONVOLUTION_GRADIENTS.triton_form()(grad, rows, matrices, rulebook, False)
    exact = gradients_plain(grad.double(), rows.double(), matrices.double(), rulebook, False)
    for one, other in zip(found, exact, strict=True):
        close(one, other, torch.float32)
    again = CONVOLUTION_GRADIENTS.triton_form()(grad, rows, matrices, rulebook, False)
    assert torch.equal(again[1], found[1])


def test_doubles_are_left_to_pytorch(device: torch.device) -> None:
    rulebook = rulebook_of("strided", 40, device)
    rows = features(6, rulebook.num_in, 3, torch.float64, device)
    matrices = matrices_of((3, 2), torch.float64, device)
    found = CONVOLVE_ROWS.triton_form()(rows, matrices, rulebook, False)
    torch.testing.assert_close(found, convolve_rows_plain(rows, matrices, rulebook, False))


def test_layers_forward_and_backward(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small U-Net in all forms: rulebooks and products, shared keys, an inverse convolution."""
    monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: None)
    network = SparseSequential(
        SubMConv3d(4, 16, 3, indice_key="a"),
        SubMConv3d(16, 16, 3, indice_key="a"),
        SparseConv3d(16, 20, 3, 2, 1, indice_key="b"),
        SparseInverseConv3d(20, 8, 3, "b"),
    ).to(device)
    cells = some_cells(60, device)

    def run(kernels: str) -> list[Tensor]:
        monkeypatch.setenv(dispatch.VARIABLE, kernels)
        network.zero_grad()
        rows = features(7, len(cells), 4, torch.float32, device).requires_grad_()
        output = network(SparseConvTensor(rows, cells, SHAPE, 3)).features
        (output * output.detach().cos()).sum().backward()
        return [output.detach(), rows.grad, *(part.grad for part in network.parameters())]

    for found, expected in zip(run("triton"), run("plain"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_halves_under_autocast(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spconv_adapter, "library_for", lambda tensor: None)
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    layer = SubMConv3d(4, 16, 3, bias=False).to(device)
    cells = some_cells(50, device)
    tensor = SparseConvTensor(features(8, 50, 4, torch.float32, device), cells, SHAPE, 3)
    with torch.autocast(device.type, torch.bfloat16):
        halves = layer(tensor).features
    halves.float().sum().backward()
    assert halves.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(halves.float(), layer(tensor).features, rtol=0.02, atol=0.05)


def test_more_numbers_than_32_bits_count(device: torch.device) -> None:
    """Rows of 2^31 halves and some; pages that nobody writes to take no memory on a CPU."""
    total = 2**26 + 3
    rows = torch.empty(total, 32, dtype=torch.float16, device=device)
    rows[-1] = 1
    rows[3] = 2
    sources = torch.tensor([[total - 1, 3]], dtype=torch.int32, device=device)
    rulebook = MappedRulebook(sources=sources, targets=sources[:, :0])
    matrices = torch.eye(32, dtype=torch.float16, device=device)[None]
    found = CONVOLVE_ROWS.triton_form()(rows, matrices, rulebook, False)
    assert found[:, 31].tolist() == [1, 2]
