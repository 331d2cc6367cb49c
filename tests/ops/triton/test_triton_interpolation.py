"""Three nearest neighbours and interpolation by Triton against their plain versions."""

from __future__ import annotations

import pytest
import torch
from triton_inputs import features, ragged, same

from pcdet_distill.ops import dispatch
from pcdet_distill.ops.point_sampling import (
    INTERPOLATE,
    THREE_NEAREST,
    three_interpolate,
    three_interpolate_plain,
    three_nn_plain,
)
from pcdet_distill.ops.rows import ADD_WEIGHTED_ROWS, add_weighted_rows_plain

RAGGED = [([1], [1]), ([9, 3, 0, 150], [40, 0, 7, 2]), ([0, 140], [3, 90]), ([0], [4])]


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("on_grid", [False, True])
def test_nearest_of_ragged_items(
    sizes: tuple[list[int], list[int]], on_grid: bool, device: torch.device
) -> None:
    """Items with fewer than three known points, and ties on a grid."""
    points = ragged(1, sizes[0], device, on_grid=on_grid)
    known = ragged(2, sizes[1], device, on_grid=on_grid)
    same(THREE_NEAREST.triton_form()(points, known), three_nn_plain(points, known))


def sources_and_weights(count: int, total: int, device: torch.device) -> list[torch.Tensor]:
    """Rows (count, 3) and weights (count, 3) in float32, neither contiguous."""
    rows = (torch.arange(6 * count, device=device) * 5 // 3) % total
    weights = torch.linspace(0, 1, 6 * count, device=device)
    return [rows.view(count, 6)[:, ::2], weights.view(count, 6)[:, 1::2]]


@pytest.mark.parametrize("count", [0, 1, 333])
@pytest.mark.parametrize("channels", [1, 6, 130])
def test_interpolated_features_are_equal_in_every_bit(
    count: int, channels: int, device: torch.device
) -> None:
    known = features(3, 11, channels, torch.float32, device)
    rows, weights = sources_and_weights(count, 11, device)
    found = INTERPOLATE.triton_form()(known, rows, weights)
    same((found,), (three_interpolate_plain(known, rows, weights),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_added_up_in_float32(dtype: torch.dtype, device: torch.device) -> None:
    known = features(4, 11, 6, dtype, device)
    rows, weights = sources_and_weights(50, 11, device)
    weights = weights.to(dtype)
    found = INTERPOLATE.triton_form()(known, rows, weights)
    exact = three_interpolate_plain(known.double(), rows, weights.double())
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype))


@pytest.mark.parametrize("count", [0, 1, 333])
def test_added_rows_with_weights(count: int, device: torch.device) -> None:
    source = features(5, count, 6, torch.float32, device)
    rows, weights = sources_and_weights(count, 11, device)
    found = ADD_WEIGHTED_ROWS.triton_form()(source, rows, weights, 11)
    exact = add_weighted_rows_plain(source.double(), rows, weights.double(), 11)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-5)


def test_gradients_of_features_and_weights(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the public function with two frames, by Triton there and back."""
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    known = features(6, 14, 5, torch.float64, device).reshape(2, 7, 5).requires_grad_()
    rows, weights = sources_and_weights(20, 7, device)
    weights = weights.double().reshape(2, 10, 3).requires_grad_()

    def interpolated(values: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        return three_interpolate(values, rows.reshape(2, 10, 3), shares)

    torch.autograd.gradcheck(interpolated, (known, weights), nondet_tol=1e-9)


def test_no_known_features(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no row 0 to read: it counts as zeros."""
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    known = torch.zeros(1, 0, 5, device=device)
    rows = torch.zeros(1, 4, 3, dtype=torch.int64, device=device)
    found = three_interpolate(known, rows, torch.ones(1, 4, 3, device=device))
    assert torch.equal(found, torch.zeros(1, 4, 5, device=device))
